#include <ATen/TensorOperators.h>

#include <espalier/backbone.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>

namespace espalier {

struct QuadraticLossOptions {
  std::vector<double> coefficients{0, 0, 0, 0, 0, 0};

  static void declare(Declare<QuadraticLossOptions>& p) {
    p("coefficients", &QuadraticLossOptions::coefficients, "Factors of w^2, alpha w, alpha^2, w, alpha and 1.");
  }
};

// A quadratic function of two numbers, w and alpha; of several, the sum over their positions.
class QuadraticLoss final : public OperationOf<QuadraticLoss, QuadraticLossOptions> {
 public:
  static constexpr const char* name = "quadratic_loss";
  explicit QuadraticLoss(QuadraticLossOptions o) : OperationOf<QuadraticLoss, QuadraticLossOptions>(std::move(o)) {
    if (o_.coefficients.size() != 6)
      throw Error("'coefficients' are six numbers, the factors of w^2, alpha w, alpha^2, w, alpha and 1");
  }
  void build(NodeBuilder& n) const override {
    if (n.input_count() != 2 || n.input_sizes(0) != n.input_sizes(1))
      n.refuse("it reads a weight and a coefficient, which have one shape");
    n.output({});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor &w = f.inputs[0], &alpha = f.inputs[1];
    const std::vector<double>& c = o_.coefficients;
    const at::Tensor all = w * w * c[0] + alpha * w * c[1] + alpha * alpha * c[2] + w * c[3] + alpha * c[4] + c[5];
    return {all.flatten(1).sum(1)};
  }
  bool preserves_zero() const override { return false; }
};

struct SolvableOptions {
  double w = -2;
  double alpha = 2;
  std::vector<double> auxiliary{1, -2, 1, 0, 0, 0};
  std::vector<double> primary{0, 1, 0, 0, -2, 1};

  static void declare(Declare<SolvableOptions>& p) {
    p("w", &SolvableOptions::w, "Weight at the beginning.");
    p("alpha", &SolvableOptions::alpha, "Architecture parameter at the beginning.");
    p("auxiliary", &SolvableOptions::auxiliary,
      "Loss that is the output `auxiliary`: the factors of w^2, alpha w, alpha^2, w, alpha and 1.");
    p("primary", &SolvableOptions::primary, "Loss that is the output `primary`, likewise.");
  }
};

// The solvable model of paper 003, example 2.4: one weight w, one architecture parameter alpha, and two losses that are
// outputs of the network, L_a = w^2 - 2 alpha w + alpha^2 (`auxiliary`) and L_p = alpha w - 2 alpha + 1 (`primary`). A
// linear classifier stands beside them, because runs have data; the losses do not read it.
Graph solvable(const SolvableOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge w = g.node("coefficient", "w", {}, Value::map({{"initial", o.w}, {"role", "weight"}}), {1});
  const Edge alpha = g.node("coefficient", "alpha", {}, Value::map({{"initial", o.alpha}}), {1});
  const auto loss = [&](const std::string& name, const std::vector<double>& coefficients) {
    return g.node("quadratic_loss", name, {w, alpha}, Value::map({{"coefficients", coefficients}}));
  };
  const Edge auxiliary = loss("auxiliary", o.auxiliary), primary = loss("primary", o.primary);
  const Edge x = input.height > 0 ? g.flatten(g.input()) : g.input();
  Graph graph = g.output(g.linear("classifier", x, {.features = target.outputs}));
  graph.add_output("auxiliary", auxiliary);
  graph.add_output("primary", primary);
  return graph;
}

ESPALIER_PLUGIN("solvable", "1.0.0",
                component<QuadraticLoss>("quadratic_loss", "a quadratic function of a weight and a coefficient"),
                backbone<SolvableOptions>("solvable", "two numbers and two quadratic losses of them, with known minima",
                                          solvable));

}  // namespace espalier
