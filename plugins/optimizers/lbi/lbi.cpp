#include "lbi.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <espalier/foresight.h>
#include <espalier/optimizer.h>
#include <espalier/plugin.h>
#include <espalier/reduce.h>
#include <espalier/step_scalars.h>

#include "lbi_cuda.h"
#include "lbi_pass.h"

namespace espalier {

// DI-ISS by linearized Bregman iteration (paper 000; facts of the authors' code: weight decay is coupled, Z and Gamma
// begin at zero, Gamma's groups are the output filters of convolutions and the single weights of linear layers).
class Lbi final : public Optimizer, public Foresight {
 public:
  struct Options {
    double lr = 0.1;
    double kappa = 1;
    double nu = 100;
    double lambda = 1;
    double momentum = 0.9;
    bool nesterov = false;
    double weight_decay = 0;
    Selector decay_on = Selector("weights");
    Selector sparse_on = Selector("weights");
    bool groups = true;
    Selector groups_on;
    std::string threshold = "norm";
    bool scale_z = false;

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate (alpha of the paper).");
      p("kappa", &Options::kappa, above(0),
        "Damping factor, by which the steps of the weights and Gamma are multiplied.");
      p("nu", &Options::nu, above(0), "How loosely Gamma is coupled to the weights (mu of the authors' code).");
      p("lambda", &Options::lambda, above(0), "Threshold on Z: a filter is selected if the norm of its Z is larger.");
      p("momentum", &Options::momentum, at_least(0), below(1), "Share of the last update in the next one.");
      p("nesterov", &Options::nesterov, "Whether the gradient looks ahead along the momentum.");
      p("weight_decay", &Options::weight_decay, at_least(0),
        "Weight decay: this factor times the weights is added to their gradient.");
      p("decay_on", &Options::decay_on, "Parameters that the weight decay acts on.");
      p("sparse_on", &Options::sparse_on, "Weights that have a Gamma. All others are updated as by sgd.");
      p("groups", &Options::groups,
        "Whether output filters are selected as a whole. If not, every weight is selected by itself.");
      p("groups_on", &Options::groups_on,
        "Layers whose filters or units are selected as a whole. Left out: convolutions.");
      p("threshold", &Options::threshold, one_of({"norm", "rms"}),
        "Quantity of a filter's Z that is compared with lambda: its norm, or the root mean square of its "
        "elements.");
      p("scale_z", &Options::scale_z, "Whether Z moves by lr / (nu kappa) rather than by lr / nu.");
    }
  };

  explicit Lbi(Options options) : o_(std::move(options)) {
    if (o_.nesterov && o_.momentum == 0)
      throw Error("'nesterov' looks ahead along the momentum, and 'momentum' is 0: give it, or leave 'nesterov' out");
  }

  double learning_rate() const override { return o_.lr; }

  void attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) override {
    for (const char* name : {"momentum", "z"}) weights.add_state(graph, {.name = label + "." + name});
    const auto one_a_filter = [](const Parameter& p) { return p.shape.empty() ? Shape{} : Shape{p.shape[0]}; };
    // Gamma / Z of each group. Edits change the norm of Z.
    weights.add_state(
        graph,
        {.name = label + ".scale", .shape = one_a_filter, .recompute = [o = o_, on, label](const Graph& g, Weights& w) {
           w.dtype() == at::kDouble ? recompute<double>(o, on, label, g, w) : recompute<float>(o, on, label, g, w);
         }});
    // Share of a filter's or unit's weights where Gamma is not zero: 0 or 1 for groups.
    weights.add_state(graph, {.name = label + ".support", .shape = one_a_filter});
    std::vector<Part>& parts = parts_[&weights];
    parts.clear();
    for (const Role role : {Role::weight, Role::architecture}) {
      Part part{&weights.bank(role), label, rows_of(o_, graph, weights, role, on, label), {}};
      if (part.rows.empty()) continue;
      if (weights.device().is_cuda()) {
        const auto bytes = static_cast<int64_t>(part.rows.size() * sizeof(LbiRow));
        const at::Tensor host = at::empty({bytes}, at::kByte);
        std::memcpy(host.mutable_data_ptr(), part.rows.data(), static_cast<size_t>(bytes));
        part.table = host.to(weights.device());
      }
      parts.push_back(std::move(part));
    }
  }

  std::vector<std::string> idle(const Graph& graph, int64_t) const override {
    std::vector<std::string> lines;
    const auto idle = [&](const std::string& what, const std::string& where) {
      lines.push_back("'" + what + "' is without effect where " + where);
    };
    if (o_.weight_decay == 0 && o_.decay_on.str() != Options().decay_on.str()) idle("decay_on", "'weight_decay' is 0");
    if (!o_.groups && !o_.groups_on.empty()) idle("groups_on", "'groups' is false");
    if (!o_.groups && o_.threshold != "norm") idle("threshold", "'groups' is false");
    if (o_.scale_z && o_.kappa == 1) idle("scale_z", "'kappa' is 1");
    const std::vector<ParamId> sparse = o_.sparse_on.match(graph);
    const auto has_gamma = [&](ParamId p) { return graph[p].role != Role::buffer && graph[p].shape.size() > 1; };
    if (std::ranges::none_of(sparse, has_gamma))
      lines.push_back("'sparse_on: " + o_.sparse_on.str() +
                      "' names no weight of a layer: nothing has a Gamma, and it steps as sgd does");
    if (o_.groups && !o_.groups_on.empty()) {
      const std::vector<ParamId> grouped = o_.groups_on.match(graph);
      if (std::ranges::none_of(grouped, [&](ParamId p) { return std::ranges::find(sparse, p) != sparse.end(); }))
        idle("groups_on", "'sparse_on' names none of its weights");
    }
    return lines;
  }

  // Until a filter is selected Gamma is zero and Z the sum of lr / nu W, so that it is selected where the norm of W's
  // mean over the steps is beyond lambda nu / (lr steps). Without gradient W fades by 1 - lr kappa / nu a step, and by
  // its decay, which momentum makes 1 / (1 - momentum) times as strong.
  std::vector<std::string> outlook(const Graph& graph, const std::function<const Weights&()>& initial,
                                   const Selector& on, int64_t steps) const override {
    const double rate = o_.lr / (o_.scale_z ? o_.nu * o_.kappa : o_.nu);
    const double mean = o_.lambda / (rate * static_cast<double>(steps));
    const auto begin = [&](bool decays) {
      const double decay = decays ? o_.weight_decay / (1 - o_.momentum) : 0;
      const double fade = o_.lr * o_.kappa * (1 / o_.nu + decay);
      return o_.lambda * fade / (rate * (1 - std::pow(1 - fade, static_cast<double>(steps))));
    };
    const std::string of = o_.threshold == "rms" ? "root mean square" : "norm";
    char line[200];
    const auto print = [&](const char* form, auto... values) {
      std::snprintf(line, sizeof line, form, values...);
      return std::string(line);
    };
    std::vector<std::string> lines{
        print("in %lld steps a filter is selected where the %s of its mean is above %.3g (lambda nu / (lr steps));",
              static_cast<long long>(steps), of.c_str(), mean),
        print("without a gradient, where it begins above %.3g. They begin with a %s of", begin(true), of.c_str()),
        print("%-28s %8s %9s %9s %9s %9s", "weights", "filters", "least", "mean", "most", "above")};
    const std::vector<ParamId> updated = on.match(graph), decayed = o_.decay_on.match(graph),
                               sparse = o_.sparse_on.match(graph),
                               grouped = o_.groups ? groups_of(o_).match(graph) : std::vector<ParamId>{};
    const auto holds = [](const std::vector<ParamId>& all, ParamId p) {
      return std::ranges::find(all, p) != all.end();
    };
    for (const ParamId p : updated) {
      const at::Tensor w = initial()[p].detach().to(at::kDouble).cpu();
      if (!holds(sparse, p) || !holds(grouped, p) || w.dim() < 2) continue;
      const at::Tensor all = w.contiguous().view({w.size(0), -1});
      at::Tensor norms = all.square().sum(1).sqrt();
      if (o_.threshold == "rms") norms = norms / std::sqrt(static_cast<double>(all.size(1)));
      lines.push_back(print("%-28s %8lld %9.3g %9.3g %9.3g %8.0f%%", graph[p].name.c_str(),
                            static_cast<long long>(w.size(0)), norms.min().item<double>(), norms.mean().item<double>(),
                            norms.max().item<double>(),
                            100 * norms.gt(begin(holds(decayed, p))).to(at::kDouble).mean().item<double>()));
    }
    return lines;
  }

  void step(Weights& weights, double learning_rate) override {
    const auto found = parts_.find(&weights);
    if (found == parts_.end()) throw Error("an optimizer's step on weights that it is not attached to");
    scalars_.set({learning_rate}, weights.device());
    for (Part& part : found->second) {
      weights.dtype() == at::kDouble ? pass<double>(weights, part) : pass<float>(weights, part);
      part.bank->values.touch();
      for (const char* name : {".momentum", ".z", ".scale", ".support"})
        part.bank->states.at(part.label + name).touch();
    }
  }

 private:
  struct Part {
    Bank* bank;
    std::string label;
    std::vector<LbiRow> rows;
    at::Tensor table;  // the rows on a GPU
  };

  template <class T>
  static LbiFormula<T> formula(const Options& o) {
    return {static_cast<T>(o.momentum),
            o.nesterov,
            static_cast<T>(o.kappa),
            static_cast<T>(1 / o.nu),
            static_cast<T>(o.scale_z ? 1 / (o.nu * o.kappa) : 1 / o.nu),
            static_cast<T>(o.lambda),
            o.threshold == "rms"};
  }

  template <class T>
  static LbiArenas<T> arenas(Bank& bank, const std::string& label) {
    const auto state = [&](const char* name) { return bank.states.at(label + name).flat().template data_ptr<T>(); };
    return {bank.values.flat().data_ptr<T>(),
            bank.gradients.flat().data_ptr<T>(),
            state(".momentum"),
            state(".z"),
            state(".scale"),
            state(".support")};
  }

  static Selector groups_of(const Options& o) { return o.groups_on.empty() ? Selector("convolutions") : o.groups_on; }

  static std::vector<LbiRow> rows_of(const Options& o, const Graph& graph, const Weights& weights, Role role,
                                     const Selector& on, const std::string& label) {
    const auto holds = [](const std::vector<ParamId>& all, ParamId p) {
      return std::ranges::binary_search(all, p.id, {}, &ParamId::id);
    };
    const auto match = [&](const Selector& s) {
      std::vector<ParamId> all = s.match(graph);
      std::ranges::sort(all, {}, &ParamId::id);
      return all;
    };
    const std::vector<ParamId> selected = match(on);
    const std::vector<ParamId> decayed = match(o.decay_on);
    const std::vector<ParamId> sparse = match(o.sparse_on);
    const std::vector<ParamId> grouped = o.groups ? match(groups_of(o)) : std::vector<ParamId>{};
    const Bank& bank = weights.bank(role);
    std::vector<LbiRow> rows;
    for (size_t i = 0; i < bank.parameters.size(); ++i) {
      const ParamId id = bank.parameters[i];
      if (!holds(selected, id)) continue;
      const Slot& slot = bank.values.slots()[i];
      const bool has_gamma = holds(sparse, id) && slot.sizes.size() > 1;
      const LbiRow::Kind kind = !has_gamma ? LbiRow::plain : holds(grouped, id) ? LbiRow::group : LbiRow::elements;
      const double decay = holds(decayed, id) ? o.weight_decay : 0;
      // Pieces of what has no Gamma are as long as a good filter.
      const int64_t size = has_gamma ? slot.numel / slot.sizes[0] : 4096;
      const int64_t state = bank.states.at(label + ".scale").slots()[i].offset;
      for (int64_t begin = 0, n = 0; begin < slot.numel; begin += size, ++n) {
        rows.push_back({slot.offset + begin, state + (has_gamma ? n : 0), decay,
                        static_cast<int32_t>(std::min(size, slot.numel - begin)), kind});
      }
    }
    return rows;
  }

  // Scale and support from Z.
  template <class T>
  static void recompute(const Options& o, const Selector& on, const std::string& label, const Graph& graph,
                        Weights& weights) {
    const LbiFormula<T> f = formula<T>(o);
    for (const Role role : {Role::weight, Role::architecture}) {
      Bank& bank = weights.bank(role);
      const std::vector<LbiRow> rows = rows_of(o, graph, weights, role, on, label);
      if (rows.empty()) continue;
      const at::Tensor z = bank.states.at(label + ".z").flat().cpu();
      for (const char* name : {".scale", ".support"}) {
        Arena& arena = bank.states.at(label + name);
        const at::Tensor values = arena.flat().cpu();
        T* out = values.data_ptr<T>();
        for (const LbiRow& row : rows) {
          const T* zs = z.const_data_ptr<T>() + row.offset;
          if (row.kind == LbiRow::elements) {
            if (name == std::string(".support")) out[row.state] = share_beyond(zs, row.size, f.lambda);
          } else if (row.kind == LbiRow::group) {
            const T scale = f.scale(sum_of_squares(zs, row.size), row.size);
            out[row.state] = name == std::string(".scale") ? scale : static_cast<T>(scale > 0);
          }
        }
        at::Tensor(arena.flat()).copy_(values);
        arena.touch();
      }
    }
  }

  template <class T>
  void pass(const Weights& weights, Part& part) {
    const LbiFormula<T> f = formula<T>(o_);
    const LbiArenas<T> a = arenas<T>(*part.bank, part.label);
    const auto count = static_cast<int64_t>(part.rows.size());
    if (weights.device().is_cuda()) {
      return launch_lbi(count, static_cast<const LbiRow*>(part.table.const_data_ptr()), scalars_.data(), a, f,
                        weights.device().index());
    }
    const int64_t mean = std::max<int64_t>(1, part.bank->values.numel() / std::max<int64_t>(1, count));
    lbi_pass(part.rows.data(), count, std::max<int64_t>(1, (1 << 15) / mean), scalars_.data()[0], a, f);
  }

  Options o_;
  StepScalars scalars_;
  std::map<const Weights*, std::vector<Part>> parts_;
};

ESPALIER_PLUGIN("lbi", "1.0.0",
                component<Lbi>("lbi",
                               "linearized Bregman iteration: weights with a sparse copy Gamma that selects filters in "
                               "the order of their importance (DI-ISS of paper 000)")
                    .provide("state:support")
                    .provide("state:momentum"));

}  // namespace espalier
