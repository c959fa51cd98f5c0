#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

namespace {

constexpr const char* before_state = "rvsm.before";  // w of the step before, of which u is the proximal point
constexpr const char* begun_counter = "rvsm.begun";  // 1 once that is known

}  // namespace

// The relaxed variable splitting method (paper 003, (2.6); Dinh and Xin 2018): each selected parameter w has a sparse
// copy u, and L(w) + lambda P(u) + beta / 2 |u - w|^2 is minimised by turns,
//
//   w(t+1) = w(t) - eta grad L(w(t)) - eta beta (w(t) - u(t)),    u(t+1) = argmin lambda P(u) + beta / 2 |u - w(t)|^2.
//
// It is a regularizer and no optimizer, because its part of the first line is the gradient of a penalty: any optimizer
// takes the step, and every selector, controller and copy of the weights goes with it. The second line has closed
// forms: the hard threshold sqrt(2 lambda / beta) of l0, and the soft threshold lambda / beta of l1; of groups, those
// of their norms. u(t) is a function of w(t-1), which is the one state. u(0) is the proximal point of w(0). When the
// stage ends, w becomes the proximal point of itself, so its zeros are exact.
class Rvsm final : public Regularizer, public Foresight {
 public:
  struct Options {
    double weight = 1e-4;
    double beta = 0.1;
    std::string penalty = "l0";
    bool groups = false;
    Selector on = Selector("weights");
    bool sparse_end = true;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor lambda of the penalty of the sparse copy.");
      p("beta", &Options::beta, above(0),
        "How strongly a parameter and its sparse copy are drawn together: the factor of half their squared distance. "
        "Its product with the learning rate should stay well below 1.");
      p("penalty", &Options::penalty, one_of({"l0", "l1"}),
        "Penalty of the sparse copy; l0: the number of its elements that are not zero, so that what is above the "
        "threshold sqrt(2 weight / beta) stays as it is; l1: the sum of their absolute values, which takes "
        "weight / beta "
        "from each.");
      p("groups", &Options::groups,
        "Whether filters and units are penalised as a whole, by their l2 norms. Of parameters with one dimension, such "
        "as gates, each element is a group by itself.");
      p("on", &Options::on, "Parameters that have a sparse copy.");
      p("sparse_end", &Options::sparse_end,
        "Whether the parameters become exactly sparse when the stage ends. If not, they only are near their copies.");
    }
  };

  explicit Rvsm(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights& weights) override {
    selected_ = o_.on.match(graph);
    present_.clear();
    weights.add_state(graph, {.name = before_state});
  }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    // Only now: a run that goes on gets its states and counters after attach().
    double& begun = weights.counters()[begun_counter + ("." + o_.on.str())];
    std::vector<at::Tensor>& present = present_[&weights];
    present.clear();
    for (const ParamId p : selected_) {
      const at::Tensor w = weights[p].detach();
      at::Tensor before = weights.state(before_state, p);
      if (begun == 0) before.copy_(w);
      const at::Tensor u = proximal_point(before);
      const at::Tensor apart = w - u;
      at::Tensor(weights.gradient(p)).add_(apart, o_.beta);
      value.add_(penalty_of(u), o_.weight).add_(apart.square().sum(at::kDouble), o_.beta / 2);
      present.push_back(w.clone());
    }
    begun = 1;
  }

  // A step that updates one role, such as those of the searches, moves the copies of that role alone.
  void after_update(const Graph&, Weights& weights, const LearningRates& rates) override {
    const auto found = present_.find(&weights);
    if (found == present_.end() || found->second.empty()) return;
    for (size_t i = 0; i < selected_.size(); ++i) {
      if (rates[selected_[i]] == 0) continue;
      at::Tensor before = weights.state(before_state, selected_[i]);
      before.copy_(found->second[i]);
    }
  }

  void stage_end(const Graph&, Weights& weights) override {
    if (!o_.sparse_end) return;
    for (const ParamId p : selected_) {
      at::Tensor w = weights[p].detach();
      w.copy_(proximal_point(w));
    }
  }

  std::vector<std::string> idle(const Graph& graph, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.weight == 0)
      lines.emplace_back("with 'weight' 0 the sparse copy is the parameter itself: nothing becomes zero");
    bool rows = false;
    for (const ParamId p : o_.on.match(graph)) rows = rows || graph[p].shape.size() > 1;
    if (o_.groups && !rows)
      lines.push_back("'groups' is without effect: '" + o_.on.str() + "' names no filters or units");
    return lines;
  }

 private:
  double threshold() const {
    const double ratio = o_.weight / o_.beta;
    return o_.penalty == "l0" ? std::sqrt(2 * ratio) : ratio;
  }
  bool in_groups(const at::Tensor& w) const { return o_.groups && w.dim() > 1; }
  // The sizes that are compared with the threshold, with the dimensions of w: of elements, or of rows.
  at::Tensor sizes_of(const at::Tensor& w) const {
    if (!in_groups(w)) return w.abs();
    std::vector<int64_t> others;
    for (int64_t d = 1; d < w.dim(); ++d) others.push_back(d);
    return w.square().sum(others, /*keepdim=*/true).sqrt();
  }
  // H and S of the thesis, below (2.6).
  at::Tensor proximal_point(const at::Tensor& w) const {
    const at::Tensor size = sizes_of(w);
    const at::Tensor none = at::zeros({}, w.options());
    if (o_.penalty == "l0") return at::where(size > threshold(), w, none);
    if (!in_groups(w)) return w.sign() * (size - threshold()).clamp_min(0);
    return at::where(size > threshold(), w * (1 - threshold() / size), none);
  }
  at::Tensor penalty_of(const at::Tensor& u) const {
    const at::Tensor size = sizes_of(u);
    return o_.penalty == "l0" ? size.gt(0).sum().to(at::kDouble) : size.sum(at::kDouble);
  }

  Options o_;
  std::vector<ParamId> selected_;
  std::map<const Weights*, std::vector<at::Tensor>> present_;  // w of the step under way
};

ESPALIER_PLUGIN("rvsm", "1.0.0",
                component<Rvsm>("rvsm",
                                "l0 or l1 of a sparse copy of parameters that they are drawn to (relaxed splitting)"));

}  // namespace espalier
