#include <algorithm>

#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>

#include "chain_tables.h"
#include "group_penalty.h"
#include "kernel_passes.h"
#include "kernel_sparsity_cuda.h"

namespace espalier {

namespace {

constexpr char of_norms[] =
    "Norm of a group; l2: the root of the sum of squares; group_normalized: of the mean of squares; group_scaled: of "
    "the sum of squares times the number of weights; linf: the largest size; batch_norm: l2 of the kernel as the batch "
    "norm behind it scales it.";
constexpr char of_solvers[] =
    "How it acts; subgradient: its gradient is added to that of the loss; proximal: every update is followed by the "
    "exact proximal step with the learning rate, which makes groups exactly zero.";
constexpr char of_split[] =
    "Whether each weight is trained as the difference of two that are not negative, which both shrink: a subgradient "
    "method that reaches exact zeros, with two more states of the size of the network.";

}  // namespace

// groups: rows.
// weight * sum over output filters and linear units k of ||w_k||_2 (paper 001, Omega_1, eq. (13)); the last layer has
// none (001-X7). Of a layer with groups or heads, w_k is what can only go together: the k-th filter of each group.
// Other norms, (25), (29) to (31), and the forms (32) and (34) with the size of kernels as it is: see GroupPenalty.
// groups: columns. The same over what each input feature or channel is multiplied by, the last layer too (paper 002,
// eq. (5), without the root of the group's size as in the authors' program: 002-X10): inputs that do not count become
// zero.
class KernelNumber final : public GroupPenalty, public Foresight {
 public:
  struct Options {
    double weight = 5e-3;
    Selector on = Selector("weights");
    std::string groups = "rows";
    std::string norm = "l2";
    std::string form = "sum";
    std::string solver = "subgradient";
    bool split = false;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on,
        "Layers whose weights are penalised. Filters and units of the last layer never are, its columns are.");
      p("groups", &Options::groups, one_of({"rows", "columns"}),
        "What is penalised together; rows: the weights of a filter or unit; columns: those of an input feature or "
        "channel.");
      p("norm", &Options::norm, one_of({"l2", "group_normalized", "group_scaled", "linf", "batch_norm"}), of_norms);
      p("form", &Options::form, one_of({"sum", "squared", "complexity"}),
        "What becomes of the norms; sum: they are added; squared: the sum of each layer is squared; complexity: they "
        "take the place of the numbers of kernels in the multiply-accumulates.");
      p("solver", &Options::solver, one_of({"subgradient", "proximal"}), of_solvers);
      p("split", &Options::split, of_split);
    }
  };

  explicit KernelNumber(const Options& o)
      : GroupPenalty({.name = "kernel_number",
                      .weight = o.weight,
                      .on = o.on,
                      .norm = o.norm,
                      .form = o.form,
                      .solver = o.solver,
                      .split = o.split,
                      .number = true,
                      .shrinkage = nullptr}),
        o_(o) {
    const Options plain;
    if (o_.groups == "columns" &&
        (o_.norm != plain.norm || o_.form != plain.form || o_.solver != plain.solver || o_.split))
      throw Error(
          "'groups: columns' has the norm l2, the form sum and subgradients: leave 'norm', 'form', 'solver' and "
          "'split' out");
  }

  void attach(const Graph& graph, Weights& weights) override {
    columns_.clear();
    if (o_.groups == "rows") return GroupPenalty::attach(graph, weights);
    for (const ParamId id : o_.on.match(graph)) {
      const Parameter& p = graph[id];
      if (p.kind != "weight" || p.shape.size() < 2 || !p.input[1]) continue;
      // Channels are last in memory, so column k is every count-th element from k on.
      const Slot& slot = weights.slot(id);
      columns_.push_back({slot.offset, slot.sizes[1], slot.numel / slot.sizes[1]});
    }
  }

  void add(const Graph& graph, Weights& weights, at::Tensor& value) override {
    if (o_.groups == "rows") return GroupPenalty::add(graph, weights, value);
    if (weights.dtype() == at::kDouble) {
      add_columns<double>(weights, value);
    } else {
      add_columns<float>(weights, value);
    }
  }

  std::vector<std::string> idle(const Graph&, int64_t) const override { return {}; }

 private:
  // A weight of which every count-th element belongs to one column.
  struct Columns {
    int64_t offset = 0, count = 0, rows = 0;
  };

  template <class T>
  void add_columns(Weights& weights, at::Tensor& value) {
    Bank& bank = weights.bank(Role::weight);
    const T* w = bank.values.flat().data_ptr<T>();
    T* g = bank.gradients.flat().data_ptr<T>();
    auto* total = value.data_ptr<double>();
    for (const Columns& c : columns_) {
      if (weights.device().is_cuda()) {
        launch_columns(w + c.offset, g + c.offset, c.count, c.rows, o_.weight, total, weights.device().index());
      } else {
        norms_.resize(static_cast<size_t>(c.count));
        column_pass(w + c.offset, g + c.offset, c.count, c.rows, o_.weight, norms_.data(), total);
      }
    }
    bank.gradients.touch();
  }

  Options o_;
  std::vector<Columns> columns_;
  std::vector<double> norms_;
};

// weight * sum over kernels and their nested groups of ||k(G_n)||_2 (paper 001, Omega_2, eq. (22)): the outermost
// weights are in every group and the innermost in the last one alone, so kernels shrink from the outside, and vanish
// with their last group. Kernels of size 1 and linear units have one group, the last layer has none (001-X7). Other
// norms, (25), (29) to (31), and the forms (33) and (34): see GroupPenalty.
class KernelSize final : private KernelShrinkage, public GroupPenalty, public Foresight {
 public:
  struct Options {
    double weight = 5e-4;
    Selector on = Selector("weights");
    std::string groups = "half_ring";
    std::string corner = "top_left";
    std::string norm = "l2";
    std::string form = "sum";
    std::string solver = "subgradient";
    bool split = false;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Layers whose kernels are penalised. The last layer never is.");
      p("groups", &Options::groups, one_of({"half_ring", "ring"}),
        "How the nested groups grow; half_ring: by a row and a column, in turn on either side, so that kernels can get "
        "every size; ring: by the whole border, so that they stay as odd or even as they are.");
      p("corner", &Options::corner, one_of({"top_left", "bottom_right"}),
        "Side on which the first half-ring lies. The controller that crops the kernels needs the same.");
      p("norm", &Options::norm, one_of({"l2", "group_normalized", "group_scaled", "linf", "batch_norm"}), of_norms);
      p("form", &Options::form, one_of({"sum", "squared", "complexity"}),
        "What becomes of the norms; sum: they are added; squared: the sum of each kernel is squared; complexity: the "
        "sums take the place of the sizes of kernels, and the norms of whole kernels that of the numbers of kernels, "
        "in "
        "the multiply-accumulates.");
      p("solver", &Options::solver, one_of({"subgradient", "proximal"}), of_solvers);
      p("split", &Options::split, of_split);
    }
  };

  explicit KernelSize(const Options& o)
      : KernelShrinkage(kernel_shrinkage(o.groups, o.corner)),
        GroupPenalty({.name = "kernel_size",
                      .weight = o.weight,
                      .on = o.on,
                      .norm = o.norm,
                      .form = o.form,
                      .solver = o.solver,
                      .split = o.split,
                      .number = false,
                      .shrinkage = this}),
        o_(o) {}

  std::vector<std::string> idle(const Graph& graph, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.groups == "ring" && o_.corner != Options().corner)
      lines.emplace_back("'corner' is without effect where 'groups' is ring");
    const auto has_size = [&](ParamId p) {
      const Parameter& w = graph[p];
      return w.kind == "weight" && w.shape.size() == 4 && graph.size(w.shape[2]) > 1;
    };
    if (std::ranges::none_of(o_.on.match(graph), has_size))
      lines.emplace_back("no kernel is larger than 1, so it does what kernel_number does");
    return lines;
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN(
    "kernel_sparsity", "1.0.0",
    component<KernelNumber>("kernel_number",
                            "sum of the norms of filters and units: fewer of them (paper 001, Omega_1)"),
    component<KernelNumber>("group_lasso", "kernel_number by its earlier name"),
    component<KernelSize>("kernel_size",
                          "sum of the norms of nested groups of each kernel: smaller and fewer kernels (paper 001, "
                          "Omega_2)"));

}  // namespace espalier
