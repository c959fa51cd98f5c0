#include "espalier/optimizer.h"

#include <algorithm>
#include <limits>

#include <ATen/ops/full.h>

#include "espalier/error.h"

namespace espalier {

void require_may_decay(const Graph& graph, const std::vector<ParamId>& decayed, const std::string& what) {
  for (const ParamId p : decayed) {
    if (graph[p].kind != "competition") continue;
    throw Error(what + " acts on '" + graph[p].name +
                "', a parameter of coefficients that compete: it would draw their threshold up until nothing is left. "
                "Give the weights and `on: architecture` an optimizer of their own each, the second one without decay, "
                "or leave these parameters out");
  }
}

std::vector<Span> spans_of(const Graph& graph, const Weights& weights, Role role, const Selector& on, double decay,
                           const Selector& decayed) {
  const std::vector<ParamId> selected = on.match(graph);
  const std::vector<ParamId> with_decay = decayed.match(graph);
  std::vector<Span> spans;
  const Bank& bank = weights.bank(role);
  for (size_t i = 0; i < bank.parameters.size(); ++i) {
    const ParamId id = bank.parameters[i];
    if (std::ranges::find(selected, id) == selected.end()) continue;
    const Slot& slot = bank.values.slots()[i];
    const int64_t end = slot.offset + (slot.numel + slot_alignment - 1) / slot_alignment * slot_alignment;
    const double d = std::ranges::find(with_decay, id) == with_decay.end() ? 0 : decay;
    if (!spans.empty() && spans.back().end == slot.offset && spans.back().decay == d) {
      spans.back().end = end;
    } else {
      spans.push_back({slot.offset, end, d});
    }
  }
  return spans;
}

at::Tensor span_table(const std::vector<Span>& spans, const Arena& arena) {
  at::Tensor table = at::full({arena.numel() / slot_alignment}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  for (const Span& s : spans) table.slice(0, s.begin / slot_alignment, s.end / slot_alignment).fill_(s.decay);
  return table.to(arena.flat().device());
}

}  // namespace espalier
