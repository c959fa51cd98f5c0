#include "scores/batches.h"

#include <algorithm>

#include <ATen/ops/tensor.h>

#include "espalier/error.h"
#include "espalier/rewrite.h"

namespace espalier {

void for_batches(const ScoreInput& in, int64_t count, const std::function<void(const Batch&)>& body) {
  if (!in.run) throw Error("the score looks at batches of training data, and there are none here");
  for (int64_t n = 0; n < count; ++n) {
    in.weights.zero_gradients();
    body(in.run->draw("train", n));
  }
  in.weights.zero_gradients();
}

Batch samples_of(const Batch& batch, int64_t begin, int64_t end) {
  Batch part;
  const auto cut = [&](const NamedTensors& from, NamedTensors& to) {
    for (const auto& [name, tensor] : from) {
      if (name.ends_with(offsets_suffix))
        throw Error("single samples cannot be taken from data whose samples have different numbers of rows");
      to.emplace_back(name, tensor.slice(0, begin, end));
    }
  };
  cut(batch.inputs, part.inputs);
  cut(batch.targets, part.targets);
  return part;
}

at::Tensor loss_with_features(const ScoreInput& in, const Batch& batch, const std::vector<Edge>& edges, bool gradients,
                              Features& features) {
  features.clear();
  return in.run->loss(batch, [&](Edge edge, const at::Tensor& value) {
    if (std::ranges::find(edges, edge) == edges.end()) return;
    if (gradients && value.requires_grad()) value.retain_grad();
    features.emplace_back(edge, value);
  });
}

const at::Tensor& feature_at(const Features& features, Edge edge) {
  const auto found = std::ranges::find(features, edge, &Features::value_type::first);
  if (found == features.end()) throw Error("the loss does not depend on every layer that is judged");
  return found->second;
}

at::Tensor feature_rows(const Graph& graph, Edge edge, const at::Tensor& value, Axis axis) {
  const Shape& shape = graph[edge].shape;
  const size_t d = channel_dim(shape);
  const at::Tensor v = value.detach().to(at::kCPU, at::kDouble).movedim(static_cast<int64_t>(d) + 1, 0);
  // The rows of the positions, with the batch in front again.
  const int64_t batch = value.size(0);
  const at::Tensor flat = v.reshape({v.size(0), -1});
  const at::Tensor rows = rows_of(graph, flat, {shape[d], Dim::of(flat.size(1))}, axis, {true, false});
  return rows.reshape({graph[axis].size, -1, batch, flat.size(1) / batch}).permute({2, 0, 1, 3}).flatten(2);
}

}  // namespace espalier
