// What holds for every operation, in the smallest graph that it can be part of.
#include "espalier/operation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/operation_trial.h"
#include "check/samples.h"
#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/rewrite.h"
#include "export/export_checks.h"
#include "export/onnx_export.h"
#include "export/torchscript_export.h"

namespace espalier {

namespace {

constexpr double precise = 1e-9;  // relative, of float64
constexpr double single = 1e-4;   // of float32

const char* mode(bool training) {
  return training ? "training" : "evaluation";
}

// Other nodes read what the node reads, too.
void expect_kept_inputs(const OperationTrial& t, const Weights& weights, const NamedTensors& fed, const Pass& pass) {
  std::vector<std::pair<at::Tensor, at::Tensor>> read;  // as it is, and as it was
  std::vector<std::string_view> names;
  for (const Port& p : t.graph.outputs()) names.push_back(p.name);
  run(t.graph, weights, fed, names, pass, [&](Edge e, const at::Tensor& value) {
    const std::vector<Edge>& inputs = t.the_node().inputs;
    if (std::ranges::find(inputs, e) != inputs.end()) read.emplace_back(value, value.clone());
  });
  for (const auto& [now, before] : read) expect_equal("inputs that stay as they are", before, now);
}

std::string check_shapes(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  const c10::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    for (const bool training : {false, true}) {
      for (const int64_t batch : {5, 1}) {
        if (training && batch == 1) continue;  // batch norm of vectors has no variance there
        const FilledWeights v(t.graph, dtype);
        const NamedTensors fed = feed(t.graph, batch, dtype);
        const Pass pass{.training = training, .key = trial_key};
        const auto y = outputs_of(t.graph, v.weights, fed, pass);
        expect_kept_inputs(t, v.weights, fed, pass);
        for (size_t i = 0; i < y.size(); ++i) {
          const Shape& shape = t.graph[t.graph.outputs()[i].edge].shape;
          std::vector<int64_t> declared = t.graph.sizes(shape);
          const std::string where = "output " + std::to_string(i) + " in " + mode(training);
          // Coefficients are one for the batch; a loss has no dimensions.
          std::vector<int64_t> got = y[i].sizes().vec();
          if (!got.empty() && (got[0] == batch || got[0] == 1)) {
            got.erase(got.begin());
          } else if (!(got.empty() && declared.empty())) {
            throw CheckFailure(where + ": [" + std::to_string(batch) + "] + " + to_string(declared), to_string(got));
          }
          expect(got == declared, where + ": [batch] + " + to_string(declared), to_string(y[i].sizes().vec()));
          expect(!y[i].is_floating_point() || y[i].scalar_type() == dtype,
                 where + " of the type of its inputs, " + c10::toString(dtype), c10::toString(y[i].scalar_type()));
          expect_finite(where, y[i]);
        }
      }
    }
  }
  expect(t.operation().macs(t.graph, t.the_node()) >= 0, "no negative number of multiply-accumulates",
         std::to_string(t.operation().macs(t.graph, t.the_node())));
  return {};
}

// On every kind of inputs that it takes: what depends on the sample may come by any of them.
std::string check_samples(const Registered& r) {
  constexpr int64_t batch = 3;
  const c10::NoGradGuard no_grad;
  std::vector<std::pair<std::string, OperationTrial>> trials;
  for (const OperationInputs& inputs : operation_inputs()) {
    if (auto t = operation_trial(r, inputs)) trials.emplace_back(inputs.what, std::move(*t));
  }
  if (trials.empty()) trials.emplace_back("the node of a backbone", operation_trial(r));
  for (const auto& [what, trial] : trials) {
    const OperationTrial* t = &trial;
    if (t->operation().mixes_samples()) return "mixes_samples() is true";
    const FilledWeights v(t->graph, at::kDouble);
    const Pass pass{.training = false, .key = trial_key};
    const NamedTensors all = feed(t->graph, batch, at::kDouble);
    const auto together = outputs_of(t->graph, v.weights, all, pass);
    std::vector<at::Tensor> sums(together.size());
    for (int64_t i = 0; i < batch; ++i) {
      NamedTensors one;
      for (const auto& [name, x] : all) one.emplace_back(name, x.narrow(0, i, 1));
      const auto alone = outputs_of(t->graph, v.weights, one, pass);
      for (size_t k = 0; k < alone.size(); ++k) {
        if (together[k].dim() == 0) {  // a loss: the mean of the samples' losses
          sums[k] = i == 0 ? alone[k] / batch : sums[k] + alone[k] / batch;
          continue;
        }
        const bool shared = together[k].size(0) == 1;  // coefficients of free parameters
        expect_near("output " + std::to_string(k) + " of " + what + " for sample " + std::to_string(i) + " of " +
                        std::to_string(batch) + " as for it alone",
                    alone[k], shared ? together[k] : together[k].narrow(0, i, 1), precise);
      }
    }
    for (size_t k = 0; k < together.size(); ++k) {
      if (sums[k].defined())
        expect_near("output " + std::to_string(k) + " for a batch: the mean of the samples' own", sums[k], together[k],
                    precise);
    }
  }
  return {};
}

std::string check_deterministic(const Registered& r) {
  const OperationTrial t = operation_trial(r), again = operation_trial(r);
  for (const bool training : {false, true}) {
    const FilledWeights v(t.graph, at::kFloat), w(again.graph, at::kFloat);
    const auto y = values_of(t.graph, v.weights, training), z = values_of(again.graph, w.weights, training);
    for (size_t i = 0; i < y.size(); ++i)
      expect_equal(std::string("the same output of the same inputs and key in ") + mode(training), y[i], z[i]);
  }
  return {};
}

std::string check_fused(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  // Also with something behind it that could be computed together with it.
  const Edge y = t.the_node().outputs[0];
  Value without_outputs = t.graph.to_value();  // which would be second readers
  without_outputs["outputs"] = Value::map();
  Graph chained = Graph::from_value(without_outputs);
  const int32_t relu = chained.add_node("relu", builtin_operation("relu"), {y});
  chained.add_output("y", chained.nodes()[static_cast<size_t>(relu)].outputs[0]);
  for (const Graph* g : std::initializer_list<const Graph*>{&t.graph, &chained}) {
    for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, precise}, {at::kFloat, single}}) {
      for (const bool training : {false, true}) {
        const FilledWeights v(*g, dtype), w(*g, dtype);
        const auto apart = values_of(*g, v.weights, training, /*fuse=*/false);
        const auto fused = values_of(*g, w.weights, training, /*fuse=*/true);
        for (size_t i = 0; i < apart.size(); ++i) {
          expect_near(std::string("fused as unfused in ") + mode(training) + " of " + c10::toString(dtype), apart[i],
                      fused[i], tolerance);
        }
      }
    }
  }
  return {};
}

std::string check_gradients(const Registered& r) {
  constexpr int64_t elements = 12;  // of each tensor
  const OperationTrial t = operation_trial(r);
  for (const bool training : {false, true}) {
    for (const bool fuse : {true, false}) {
      const Pass pass{.training = training, .key = trial_key, .fuse = fuse};
      FilledWeights v(t.graph, at::kDouble);
      NamedTensors fed = feed(t.graph, 4, at::kDouble);
      std::vector<std::pair<std::string, at::Tensor>> leaves;
      for (auto& [name, x] : fed) {
        if (x.is_floating_point()) leaves.emplace_back("'" + name + "'", x.set_requires_grad(true));
      }
      const size_t inputs = leaves.size();
      for (size_t i = 0; i < t.graph.parameters().size(); ++i) {
        const ParamId p{static_cast<int32_t>(i)};
        if (t.graph[p].role != Role::buffer) leaves.emplace_back("'" + t.graph[p].name + "'", v.weights[p]);
      }
      const at::Tensor y = mixed(outputs_of(t.graph, v.weights, fed, pass));
      if (y.requires_grad()) y.backward();
      std::vector<at::Tensor> gradients;
      for (const auto& leaf : leaves)
        gradients.push_back(leaf.second.grad().defined() ? leaf.second.grad().clone() : at::zeros_like(leaf.second));
      double largest = 1e-3;
      for (const at::Tensor& g : gradients) largest = std::max(largest, g.abs().max().item<double>());

      const c10::NoGradGuard no_grad;
      for (size_t l = 0; l < leaves.size(); ++l) {
        // Contiguous, so that elements can be counted.
        at::Tensor x = leaves[l].second.detach();
        const int64_t n = x.numel();
        for (int64_t e = 0; e < n; e += std::max<int64_t>(1, n / elements)) {
          at::Tensor element = x, gradient = gradients[l];
          for (int64_t d = 0, rest = e, below = n; d < x.dim(); ++d) {
            below /= x.size(d);
            element = element.select(0, rest / below), gradient = gradient.select(0, rest / below);
            rest %= below;
          }
          const double centre = element.item<double>(), analytic = gradient.item<double>();
          double numeric = 0;
          bool close = false;
          for (const double step : {1e-6, 1e-7, 1e-5}) {  // a kink may lie within one of them
            element.fill_(centre + step);
            numeric = mixed(outputs_of(t.graph, v.weights, fed, pass)).item<double>();
            element.fill_(centre - step);
            numeric = (numeric - mixed(outputs_of(t.graph, v.weights, fed, pass)).item<double>()) / (2 * step);
            element.fill_(centre);
            close = std::abs(numeric - analytic) <= 2e-5 * largest;
            if (close) break;
          }
          expect(close,
                 "the derivative by element " + std::to_string(e) + " of " +
                     (l < inputs ? "the input " : "the parameter ") + leaves[l].first + " in " + mode(training) + ": " +
                     std::to_string(numeric) + " (finite differences)",
                 std::to_string(analytic));
        }
      }
    }
  }
  return {};
}

// What of an output stays when an axis keeps these positions.
at::Tensor kept_part(const Graph& before, const Shape& shape, const at::Tensor& y, Axis axis, const Indices& keep) {
  at::Tensor part = y;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (const auto from = gather(before, shape[d], {{axis, keep}}))
      part = part.index_select(static_cast<int64_t>(d) + 1, at::tensor(*from, at::kLong));
  }
  return part;
}

bool has(const Graph& g, const std::vector<Edge>& edges, Axis axis) {
  for (const Edge e : edges) {
    for (const Dim& d : g[e].shape) {
      if (d.reads(axis)) return true;
    }
  }
  return false;
}

std::string check_edits(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  const c10::NoGradGuard no_grad;
  size_t carried_out = 0;
  std::string refused;
  for (const Axis axis : free_axes(t.graph)) {
    const std::string name = t.graph[axis].name;
    const int64_t size = t.graph[axis].size;
    const Indices keep = kept_positions(size);
    Graph g = t.graph;
    FilledWeights v(g, at::kDouble);
    std::vector<AxisChange> changes;
    std::vector<at::Tensor> before;
    const std::vector<at::Tensor> values = copied_values(g, v.weights);
    try {
      changes = plan(g, shrink(g, axis, keep)).changes;
      before = values_of(g, v.weights, /*training=*/false, /*fuse=*/false, &changes);
      zero(g, v.weights, axis, complement(keep, size));
      apply(g, {&v.weights}, shrink(g, axis, keep));
    } catch (const EditError& e) {
      refused = e.what();
      continue;
    }
    ++carried_out;
    const std::string what =
        "after the axis '" + name + "' shrinks from " + std::to_string(size) + " to " + std::to_string(keep.size());
    expect_rest_unchanged(what, t.graph, values, g, v.weights, changes);
    const auto after = values_of(g, v.weights, /*training=*/false);
    // What the operation says of zeros holds for the axes that it makes, too.
    const bool touched = has(t.graph, t.the_node().inputs, axis) || has(t.graph, t.the_node().outputs, axis);
    const bool claimed = t.operation().preserves_zero() && !t.operation().reduces_over_width();
    const bool exact = inexact_at(t.graph, axis).empty() && (!touched || claimed);
    for (size_t i = 0; i < after.size(); ++i) {
      const Edge e = t.graph.outputs()[i].edge;
      const at::Tensor kept = kept_part(t.graph, t.graph[e].shape, before[i], axis, keep);
      expect(after[i].sizes() == kept.sizes(), "an output of " + to_string(kept.sizes().vec()) + " " + what,
             to_string(after[i].sizes().vec()));
      expect_finite("an output " + what, after[i]);
      if (exact) expect_near("the same output " + what + ", which read as zeros before", kept, after[i], precise);
    }

    Graph h = t.graph;
    FilledWeights w(h, at::kDouble), whole(h, at::kDouble);
    const auto first = values_of(h, w.weights, /*training=*/false);
    try {
      apply(h, {&w.weights}, grow(h, axis, 2, "random", trial_key));
      for (const at::Tensor& y : values_of(h, w.weights, /*training=*/false))
        expect_finite("an output after '" + name + "' grows by 2", y);
      Indices old;
      for (int64_t i = 0; i < size; ++i) old.push_back(i);
      apply(h, {&w.weights}, shrink(h, axis, old));
    } catch (const EditError& e) {
      refused = e.what();
      continue;
    }
    const std::string restored = "as before the axis '" + name + "' grew by 2 and lost them again";
    expect(to_json(h.to_value()) == to_json(t.graph.to_value()), "a graph " + restored, "another");
    expect_same(restored, h, whole.weights, w.weights);
    const auto last = values_of(h, w.weights, /*training=*/false);
    for (size_t i = 0; i < last.size(); ++i) expect_equal("the output " + restored, first[i], last[i]);
  }
  if (carried_out == 0)
    throw CheckSkipped(refused.empty() ? "there is no width that could change" : "every edit is refused: " + refused);
  return {};
}

std::string check_zero(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  if (!t.operation().preserves_zero()) return "preserves_zero() is false: there is nothing to hold";
  const c10::NoGradGuard no_grad;
  size_t seen = 0;
  for (const Axis axis : free_axes(t.graph)) {
    if (!has(t.graph, t.the_node().outputs, axis)) continue;
    for (const bool training : {false, true}) {
      FilledWeights v(t.graph, at::kDouble);
      zero(t.graph, v.weights, axis, {1});
      const auto y = values_of(t.graph, v.weights, training);
      for (size_t i = 0; i < y.size(); ++i) {
        const at::Tensor part = kept_part(t.graph, t.graph[t.graph.outputs()[i].edge].shape, y[i], axis, {1});
        if (part.sizes() == y[i].sizes()) continue;  // the axis is not in it
        ++seen;
        expect_equal("zero (preserves_zero() is true) in the channel 1 of '" + t.graph[axis].name +
                         "', whose input and parameters are zero, in " + mode(training),
                     at::zeros_like(part), part);
      }
    }
  }
  if (seen == 0) throw CheckSkipped("no width goes through it");
  return {};
}

std::string check_serialization(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  const Operation& op = t.operation();
  expect(op.type() == r.component.name, "type() is the component's name, '" + r.component.name + "'", op.type());
  Value spec = op.options();
  if (spec.is_null()) spec = Value::map();
  spec["use"] = op.type();
  const std::string options = to_json(op.options());
  const auto again = Registry::instance().create<Operation>(from_json(to_json(spec)));
  expect(to_json(again->options()) == options, "the same options() of an operation made from options(): " + options,
         to_json(again->options()));
  const std::string text = to_json(t.graph.to_value());
  const Graph read = Graph::from_value(from_json(text));
  expect(to_json(read.to_value()) == text, "the same graph after writing and reading it: " + text,
         to_json(read.to_value()));
  const FilledWeights v(t.graph, at::kDouble), w(read, at::kDouble);
  const auto y = values_of(t.graph, v.weights, false), z = values_of(read, w.weights, false);
  for (size_t i = 0; i < y.size(); ++i)
    expect_equal("the same output of the graph after writing and reading it", y[i], z[i]);
  return {};
}

bool without_form(const Error& e) {
  const std::string what = e.what();
  return what.find("has no ") != std::string::npos && what.find(" form") != std::string::npos;
}

// Calls `form` and whether it is there.
bool has_form(const std::function<void()>& form) {
  try {
    form();
    return true;
  } catch (const Error& e) {
    if (!without_form(e)) throw;
    return false;
  }
}

std::string check_exports(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  const Node& node = t.the_node();
  const FilledWeights v(t.graph, at::kFloat);
  std::vector<std::string> outputs;
  for (const Port& p : t.graph.outputs()) outputs.push_back(p.name);
  const NamedTensors inputs = feed(t.graph, 3, at::kFloat);

  PythonForm form;
  const bool python = has_form([&] { form = t.operation().python(t.graph, node); });
  if (python) {
    expect(!form.expression.empty(), "an expression from python()", "an empty text");
    const auto places = [&](const std::string& prefix, size_t count, const char* what) {
      for (size_t i = count; i < count + 8; ++i) {
        const std::string place = "{" + prefix + std::to_string(i) + "}";
        expect(form.expression.find(place) == std::string::npos,
               "python() uses " + std::string(what) + " that there are (" + std::to_string(count) + ")",
               form.expression);
      }
    };
    places("", node.inputs.size(), "inputs");
    places("p", node.parameters.size(), "parameters");
    const std::string fault = form.module.empty() ? "" : python_fault(form.module);
    expect(fault.empty(), "a constructor in Python as the module of python()", form.module + ": " + fault);
    try {
      compare_torchscript(t.graph, v.weights, outputs, inputs, torchscript_of(t.graph, v.weights, outputs));
    } catch (const Error& e) {
      throw CheckFailure("a Python form that is TorchScript and computes what forward() does", e.what());
    }
  }
  std::string runtime;
  const bool onnx = has_form([&] {
    try {
      const std::string file = onnx_of(t.graph, v.weights, outputs);
      const auto version = compare_onnx(t.graph, v.weights, outputs, inputs, file, onnx_opset);
      runtime = version ? "compared with ONNX Runtime " + *version
                        : "no ONNX Runtime is at hand (ESPALIER_PYTHON), so ONNX is checked by its form alone";
    } catch (const Error& e) {
      if (without_form(e)) throw;
      throw CheckFailure("an ONNX form that computes what forward() does", e.what());
    }
  });
  for (const int64_t opset : onnx_opsets) {  // older ones are no duty
    try {
      if (onnx) static_cast<void>(onnx_of(t.graph, v.weights, outputs, opset));
    } catch (const Error&) {
      runtime += "; no ONNX form of opset " + std::to_string(opset);
    }
  }
  if (!python && !onnx) throw CheckSkipped("it has no Python and no ONNX form");
  if (!onnx) return "it has no ONNX form";
  return python ? runtime : "it has no Python form; " + runtime;
}

std::string check_speed(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  const FilledWeights v(t.graph, at::kFloat);
  const NamedTensors fed = feed(t.graph, 64, at::kFloat);
  const Pass pass{.training = true, .key = trial_key};
  int64_t numel = 0;
  for (const at::Tensor& y : values_of(t.graph, v.weights, true)) numel += y.numel();
  for (const auto& [name, x] : fed) numel += x.numel();
  const at::Tensor as_many = at::zeros({numel}, at::kFloat).set_requires_grad(true);
  const double relu = seconds_of([&] { as_many.relu().sum().backward(); });
  const double both = seconds_of([&] {
    const at::Tensor y = outputs_of(t.graph, v.weights, fed, pass)[0].sum();
    if (y.requires_grad()) y.backward();
  });
  return speed_remark(both, "a ReLU of its inputs and outputs", relu);
}

}  // namespace

std::vector<Check> operation_checks() {
  const std::string kind = Operation::kind;
  return {
      {kind, "shapes", "outputs are finite and as declared, of the inputs' type; inputs stay as they are",
       check_shapes},
      {kind, "deterministic", "the same inputs and key give the same bytes, in two objects", check_deterministic},
      {kind, "fused", "computed together with its neighbours, the same as by itself", check_fused},
      {kind, "samples", "for a batch it gives what it gives for each sample alone", check_samples},
      {kind, "gradients", "by inputs and parameters, against finite differences in float64", check_gradients},
      {kind, "edits", "widths shrink, exactly where that is claimed; growing and shrinking back restores", check_edits},
      {kind, "zero", "a channel of zeros stays zero where preserves_zero() says so", check_zero},
      {kind, "serialization", "made again from options(), alone and in a graph file, it is the same",
       check_serialization},
      {kind, "exports", "the Python and the ONNX form compute the same, or a clear error says that there is none",
       check_exports},
      {kind, "speed", "forward and backward pass beside those of a ReLU", check_speed}};
}

}  // namespace espalier
