#pragma once

#include <string>
#include <vector>

#include <espalier/per_selector.h>
#include <espalier/regularizer.h>

#include "groups.h"

namespace espalier {

// The group lasso over whole components, sum_g ||w_g||_2, by its proximal step after each update (paper 004, related
// work; Yuan and Lin 2006): w_g becomes (||w_g|| - eta lambda)_+ / ||w_g|| times w_g, with the learning rate eta. A
// component is all that is its own: of a residual branch its layers and batch norms, of a branch of a grouped
// convolution its filters and what reads them, of a connection the columns that read it.
class GroupLasso final : public Regularizer {
 public:
  struct Options {
    double weight = 1e-3;
    std::string groups = "blocks";
    std::vector<std::string> on;
    bool first_block = true;
    bool by_size = false;

    static void declare(Declare<Options>& p);
  };
  explicit GroupLasso(Options options);

  void attach(const Graph& graph, Weights& weights) override;
  void add(const Graph& graph, Weights& weights, at::Tensor& value) override;
  void after_update(const Graph& graph, Weights& weights, const LearningRates& rates) override;

 private:
  double factor(const GroupComponent& c) const;

  Options o_;
  std::vector<GroupComponent> components_;
};

// The exclusive lasso over coefficients that compete, 1/2 sum_g (sum_i |a_gi|)^2, by its proximal step (paper 004,
// related work; Yoon and Hwang 2017): a_i becomes sign(a_i) (|a_i| - eta lambda ||a_g||_1)_+. The printed step has a
// norm where the absolute value is meant (004-X2). Groups are those of `coefficients: free` of the controller
// `sparsify`; of an adjacency first the rows and then the columns.
class ExclusiveLasso final : public Regularizer {
 public:
  struct Options {
    PerSelector weight = 1e-3;

    static void declare(Declare<Options>& p);
  };
  explicit ExclusiveLasso(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights& weights) override;
  void add(const Graph& graph, Weights& weights, at::Tensor& value) override;
  void after_update(const Graph& graph, Weights& weights, const LearningRates& rates) override;

 private:
  struct Group {
    ParamId alpha;
    double weight;
  };
  Options o_;
  std::vector<Group> groups_;
};

}  // namespace espalier
