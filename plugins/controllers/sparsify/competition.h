#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <espalier/declare.h>
#include <espalier/operation.h>

// Coefficients of components that compete, as operations without inputs.
namespace espalier {

// How free parameters become numbers from 0 on that can be exactly zero, and what gradient there is then.
struct SparseForm {
  std::string gamma = "sigmoid";
  std::string revive = "none";
  double slope = 0.01;

  // Returns gamma of the free parameters alpha.
  at::Tensor gamma_of(const at::Tensor& alpha) const;
  // Returns max(x, 0). Where x is below zero the gradient is that of a leaky or exponential linear unit, if `revive`
  // says so (004-X4); the value is exactly zero all the same.
  at::Tensor positive_part(const at::Tensor& x) const;
  // Returns the same as an expression of PyTorch for a file that is not trained any more.
  std::string python_gamma() const { return "torch." + gamma; }
};

// Declares the options of SparseForm as those of a struct that derives from it.
template <class Options>
void declare_sparse_form(Declare<Options>& p) {
  p("gamma", static_cast<std::string Options::*>(&SparseForm::gamma), one_of({"sigmoid", "exp"}),
    "Function that makes the free parameters positive.");
  p("revive", static_cast<std::string Options::*>(&SparseForm::revive), one_of({"none", "leaky", "elu"}),
    "Gradient of a coefficient that is zero; none: zero, as the paper has it, so that only its threshold can bring it "
    "back; leaky: `slope`; elu: that of an exponential linear unit, which fades with the distance to the threshold.");
  p("slope", static_cast<double Options::*>(&SparseForm::slope), above(0), at_most(1), "Gradient of `revive: leaky`.");
}

// Of n components that all have gamma = 1/2 (or 1), the beta with which each of them and what falls below the threshold
// have the same share (004-A4): -log(n^2 + n - 1).
double equal_chances(int64_t n);

// What the regularizer and the controller need of an operation that makes competing coefficients.
class Competing {
 public:
  virtual ~Competing();
  // Returns the coefficients as they are in evaluation, before they are scaled: [n], or [size, size] of an adjacency.
  virtual at::Tensor values(const Node& node, const Weights& weights) const = 0;
  // Returns R(a) = (sum_i a_i^p)^(1/p) of each group in which coefficients compete: one number, or one for each row and
  // then one for each column. Autograd connects it to the parameters. Zeros have no gradient (004-X5), and R of zeros
  // is zero.
  virtual at::Tensor norms(const Node& node, const Weights& weights, double p) const = 0;
  // Returns whether the coefficients can become exactly zero by gradients.
  virtual bool is_sparse() const = 0;
};

struct CompetitionOptions : SparseForm {
  std::string form = "sparse";
  bool null = false;
  std::string scale = "one";
  std::optional<double> alpha{};
  std::optional<double> beta{};
  int64_t keep = 1;

  static void declare(Declare<CompetitionOptions>& p);
};

// The coefficients [n] of components that compete. Forms:
//   sparse   paper 004, (2)-(4): with gamma = sigmoid(alpha) and the threshold t = sigmoid(beta) * sum(gamma),
//            a_i = max(gamma_i - t, 0) / sum_j max(gamma_j - t, 0). The "softmax" of (4) is this l1 normalisation
//            (004-X1). All are zero where no gamma reaches the threshold (004-X3). With `null_component`, what is below
//            the threshold takes its share: the sum gets sum_j min(gamma_j, t) besides.
//   softmax  exp(alpha_i) / sum_j exp(alpha_j) (Liu et al. 2019)
//   sampled  alpha in [0, 1]. Each training step draws `keep` components, without replacement and in proportion to
//            alpha; these get 1 and the others 0, and alpha learns as if it had been the coefficient (Ahmed and
//            Torresani 2017). Otherwise the largest `keep`.
//   free     alpha itself
// The buffer "alive" holds 1, or 0 for a component that has left the network: its coefficient is zero for good, while
// its gamma still counts in the threshold. So the others have the coefficients that they would have beside a zero.
class Competition final : public OperationOf<Competition, CompetitionOptions>, public Competing {
 public:
  static constexpr const char* name = "competition";
  static constexpr size_t alive_at = 1;  // the place of the buffer among the parameters; beta stands behind it
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override;
  std::vector<at::Tensor> forward(const Forward& f) const override;
  at::Tensor values(const Node& node, const Weights& weights) const override;
  at::Tensor norms(const Node& node, const Weights& weights, double p) const override;
  bool is_sparse() const override { return o_.form == "sparse"; }
  bool is_sampled() const { return o_.form == "sampled"; }
  bool preserves_zero() const override { return false; }
  bool reduces_over_width() const override { return true; }
  PythonForm python(const Graph& graph, const Node& node) const override;
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& graph, const Node& node) const override;

 private:
  // key: of a training step; null: nothing is drawn.
  at::Tensor coefficients(const at::Tensor& alpha, const at::Tensor& alive, const at::Tensor& beta,
                          const RandomKey* key) const;
};

struct AdjacencyOptions : SparseForm {
  int64_t size = 1;
  std::string form = "sparse";
  std::string thresholds = "min";
  std::string normalize = "sequential";
  int64_t iterations = 20;
  bool symmetric = false;

  static void declare(Declare<AdjacencyOptions>& p);
};

// An adjacency [size, size] whose entries compete along rows and along columns (004-A9). Forms:
//   sparse   gamma = sigmoid(alpha) of each candidate. Row i has the threshold r_i = sigmoid(b(n_i) + beta_row_i) *
//            (sum of its gammas), where b(n) = equal_chances(n) of its n_i candidates, and columns likewise c_j. How
//            the two combine the paper leaves open (004-X9); min: the smaller of the positive parts of gamma - r and
//            gamma - c; sum: the positive part of gamma - r - c; product: the product of the two positive parts. Then
//            rows and columns are normalised by turns until both sum to one (Sinkhorn), or both at once by the square
//            roots of their sums (balanced). What has no entry left stays zero.
//   softmax  exp(alpha) over the sum of its row
//   free     alpha itself
// The buffer "mask" holds 1 for each candidate, 0 for what cannot be or has left the network.
class AdjacencyCompetition final : public OperationOf<AdjacencyCompetition, AdjacencyOptions>, public Competing {
 public:
  static constexpr const char* name = "adjacency_competition";
  static constexpr size_t mask_at = 1;  // the place of the buffer among the parameters
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override;
  std::vector<at::Tensor> forward(const Forward& f) const override;
  at::Tensor values(const Node& node, const Weights& weights) const override;
  at::Tensor norms(const Node& node, const Weights& weights, double p) const override;
  bool is_sparse() const override { return o_.form == "sparse"; }
  bool preserves_zero() const override { return false; }
  PythonForm python(const Graph& graph, const Node& node) const override;
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& graph, const Node& node) const override;

 private:
  // The candidates, by their places in the matrix, row by row.
  struct Entries {
    at::Tensor places, rows, columns;  // int64
    at::Tensor values;
  };
  // parameters: those of the node, in their order.
  Entries entries(const std::vector<at::Tensor>& parameters) const;
  at::Tensor sums(const at::Tensor& values, const at::Tensor& index) const;
  at::Tensor matrix(const Entries& e) const;
};

}  // namespace espalier
