#include <cmath>

#include <espalier/groups.h>
#include <espalier/isa.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>
#include <espalier/reduce.h>
#include <espalier/regularizer.h>

#include "group_lasso_cuda.h"

namespace espalier {

// weight * sum over output filters and linear units k of ||w_k||_2 (paper 001, Omega_1, eq. (13)); the last layer has
// none (001-X7). Of a layer with groups or heads, w_k is what can only go together: the k-th filter of each group. The
// gradient is w_k / ||w_k||, zero where the norm is zero.
class GroupLasso final : public Regularizer {
 public:
  struct Options {
    double weight = 5e-3;
    Selector on = Selector("weights");

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Layers whose filters and units are penalised. Those of the last layer never are.");
    }
  };

  explicit GroupLasso(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights& weights) override { families_ = output_groups(graph, weights, o_.on); }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    if (weights.dtype() == at::kDouble) {
      pass<double>(weights, value);
    } else {
      pass<float>(weights, value);
    }
  }

 private:
  template <class T>
  void pass(Weights& weights, at::Tensor& value) {
    Bank& bank = weights.bank(Role::weight);
    const T* w = bank.values.flat().data_ptr<T>();
    T* g = bank.gradients.flat().data_ptr<T>();
    auto* total = value.data_ptr<double>();
    for (const GroupFamily& f : families_) {
      if (weights.device().is_cuda()) {
        launch_group_lasso(w + f.offset, g + f.offset, {f.count, f.size, f.pieces, f.stride}, o_.weight, total,
                           weights.device().index());
        continue;
      }
      norms_.resize(static_cast<size_t>(f.count));
      double* norms = norms_.data();
      const int64_t grain = std::max<int64_t>(1, (1 << 14) / (f.size * f.pieces));
      parallel_for(f.count, grain, [&](int64_t begin, int64_t end) {
        with_isa([=, size = f.size, pieces = f.pieces, stride = f.stride, weight = static_cast<T>(o_.weight)] {
          for (int64_t k = begin; k < end; ++k) {
            const T* wk = w + f.offset + k * size;
            T* gk = g + f.offset + k * size;
            T squares = 0;
            for (int64_t j = 0; j < pieces; ++j) squares += sum_of_squares(wk + j * stride, size);
            const T norm = std::sqrt(squares);
            norms[k] = static_cast<double>(norm);
            if (norm == 0) continue;
            const T scale = weight / norm;
            for (int64_t j = 0; j < pieces; ++j) {
              const T* wj = wk + j * stride;
              T* gj = gk + j * stride;
#pragma omp simd
              for (int64_t i = 0; i < size; ++i) gj[i] += scale * wj[i];
            }
          }
        });
      });
      // In order, whatever the number of threads.
      for (const double n : norms_) *total += o_.weight * n;
    }
    bank.gradients.touch();
  }

  Options o_;
  std::vector<GroupFamily> families_;
  std::vector<double> norms_;
};

ESPALIER_PLUGIN(
    "group_lasso", "1.0.0",
    component<GroupLasso>("group_lasso",
                          "sum of the l2 norms of filters and units: the kernel-number regularizer of paper 001"));

}  // namespace espalier
