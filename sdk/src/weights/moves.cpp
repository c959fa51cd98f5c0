#include "weights/moves.h"

#include <algorithm>
#include <cstring>

#include <ATen/TensorOperators.h>
#include <ATen/ops/index_put.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include "espalier/isa.h"

namespace espalier {

namespace {

// The dimensions from the slowest in memory to the fastest, as arenas lay them out.
std::vector<size_t> memory_order(int64_t dims) {
  if (dims == 4) return {0, 2, 3, 1};
  std::vector<size_t> order(static_cast<size_t>(dims));
  for (size_t d = 0; d < order.size(); ++d) order[d] = d;
  return order;
}

// One dimension of a copy.
struct Level {
  const Indices* from = nullptr;  // null: all, in order
  int64_t size = 0;               // new
  int64_t to = 0, old = 0;        // strides in bytes
  std::vector<int32_t> places{};  // `from` of the fastest dimension where nothing of it is new, for single float32
};

void copy_level(const std::vector<Level>& levels, size_t l, int64_t run, char* to, const char* from) {
  if (l == levels.size()) {
    std::memcpy(to, from, static_cast<size_t>(run));
    return;
  }
  const Level& level = levels[l];
  if (!level.places.empty()) {
    const auto* old = reinterpret_cast<const float*>(from);
    auto* now = reinterpret_cast<float*>(to);
    const int32_t* places = level.places.data();
    const int64_t size = level.size;
    with_isa([=] {
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) now[i] = old[places[i]];
    });
    return;
  }
  if (l + 1 == levels.size() && run == 4 && level.from) {
    for (int64_t i = 0; i < level.size; ++i) {
      const int64_t at = (*level.from)[static_cast<size_t>(i)];
      if (at >= 0) std::memcpy(to + i * 4, from + at * 4, 4);
    }
    return;
  }
  for (int64_t i = 0; i < level.size; ++i) {
    const int64_t at = level.from ? (*level.from)[static_cast<size_t>(i)] : i;
    if (at >= 0) copy_level(levels, l + 1, run, to + i * level.to, from + at * level.old);
  }
}

// Positions of the new ones that were there, and where.
struct Kept {
  std::vector<int64_t> now, old;
};
Kept kept(const std::optional<Indices>& from, int64_t size) {
  Kept k;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t at = from ? (*from)[static_cast<size_t>(i)] : i;
    if (at < 0) continue;
    k.now.push_back(i);
    k.old.push_back(at);
  }
  return k;
}

at::Tensor indices(const std::vector<int64_t>& v, at::Device device) {
  return at::tensor(v, at::kLong).to(device);
}

}  // namespace

bool Moves::has_new() const {
  return std::ranges::any_of(from, [](const auto& f) { return f && std::ranges::find(*f, -1) != f->end(); });
}

Moves moves(const Graph& before, const Rewrite& rewrite, const Shape& old, const Shape& now) {
  Moves m;
  for (size_t d = 0; d < now.size(); ++d) m.from.push_back(rewrite.gather(before, old[d], now[d]));
  return m;
}

void copy_slices(const at::Tensor& to, const at::Tensor& from, const Moves& moves) {
  if (!to.is_cpu()) {
    // Through index tensors, shaped for the outer product of the dimensions.
    c10::List<std::optional<at::Tensor>> places;
    at::Tensor values = from;
    for (int64_t d = 0; d < to.dim(); ++d) {
      const Kept k = kept(moves.from[static_cast<size_t>(d)], to.size(d));
      std::vector<int64_t> shape(static_cast<size_t>(to.dim()), 1);
      shape[static_cast<size_t>(d)] = -1;
      places.push_back(indices(k.now, to.device()).reshape(shape));
      if (moves.from[static_cast<size_t>(d)]) values = values.index_select(d, indices(k.old, to.device()));
    }
    if (to.dim() == 0) {
      at::Tensor(to).copy_(values);
    } else {
      at::Tensor(to).index_put_(places, values);
    }
    return;
  }
  const auto bytes = static_cast<int64_t>(to.element_size());
  std::vector<Level> levels;
  for (const size_t d : memory_order(to.dim())) {
    const auto i = static_cast<int64_t>(d);
    levels.push_back(
        {moves.from[d] ? &*moves.from[d] : nullptr, to.size(i), to.stride(i) * bytes, from.stride(i) * bytes});
  }
  // Whole dimensions at the end are one run.
  int64_t run = bytes;
  while (!levels.empty() && !levels.back().from) {
    run *= levels.back().size;
    levels.pop_back();
  }
  if (!levels.empty() && run == 4 && to.scalar_type() == at::kFloat) {
    Level& last = levels.back();
    if (std::ranges::none_of(*last.from, [](int64_t at) { return at < 0; }))
      last.places.assign(last.from->begin(), last.from->end());
  }
  copy_level(levels, 0, run, static_cast<char*>(to.data_ptr()), static_cast<const char*>(from.const_data_ptr()));
}

void fill_new(const Graph& after, ParamId p, const Rewrite::Fill& fill, const Moves& moves, const at::Tensor& to) {
  const Parameter& parameter = after[p];
  if (std::ranges::find(fill.zeros, p) != fill.zeros.end()) {
    to.zero_();
    return;
  }
  to.copy_(initial_values(after, parameter, fill.key.with("grow").with(parameter.name)));
  if (!fill.zero_columns) return;
  for (size_t d = 0; d < moves.from.size(); ++d) {
    if (!parameter.input[d] || !moves.from[d]) continue;
    std::vector<int64_t> fresh;
    for (size_t i = 0; i < moves.from[d]->size(); ++i) {
      if ((*moves.from[d])[i] < 0) fresh.push_back(static_cast<int64_t>(i));
    }
    to.index_fill_(static_cast<int64_t>(d), indices(fresh, to.device()), 0);
  }
}

void orthogonalize(const Parameter& p, const Moves& moves, const at::Tensor& values) {
  if (moves.from.size() < 2 || p.input[0] || !moves.from[0]) return;
  std::vector<int64_t> old, fresh;
  for (size_t i = 0; i < moves.from[0]->size(); ++i)
    ((*moves.from[0])[i] < 0 ? fresh : old).push_back(static_cast<int64_t>(i));
  if (fresh.empty()) return;
  const at::Tensor rows = values.detach().to(at::kCPU, at::kDouble).reshape({values.size(0), -1}).clone();
  // Gram-Schmidt by QR, in the order old, new: a new row's part that is new.
  const auto left = std::max<int64_t>(0, rows.size(1) - static_cast<int64_t>(old.size()));
  fresh.resize(std::min(fresh.size(), static_cast<size_t>(left)));
  if (fresh.empty()) return;
  const at::Tensor among = rows.index_select(0, at::tensor(fresh, at::kLong));
  const at::Tensor length = among.norm(2, {1}, /*keepdim=*/true);
  at::Tensor basis = among;
  if (!old.empty()) {
    const auto [q, r] = at::linalg_qr(rows.index_select(0, at::tensor(old, at::kLong)).t(), "reduced");
    for (int repeat = 0; repeat < 2; ++repeat) basis = basis - basis.mm(q).mm(q.t());  // twice is enough
  }
  const auto [q, r] = at::linalg_qr(basis.t(), "reduced");
  const at::Tensor made = q.t() * length;
  std::vector<int64_t> shape = values.sizes().vec();
  shape[0] = static_cast<int64_t>(fresh.size());
  values.index_copy_(0, indices(fresh, values.device()), made.reshape(shape).to(values.options()));
}

}  // namespace espalier
