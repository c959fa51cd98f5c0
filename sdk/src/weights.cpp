#include "espalier/weights.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/random_fill.h"

namespace espalier {

namespace {

constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};

// Slots of consecutive shapes. A four-dimensional one is laid out as [O][kh][kw][I] (channels_last): a filter is
// contiguous.
std::vector<Slot> lay_out(const std::vector<std::vector<int64_t>>& shapes) {
  std::vector<Slot> slots;
  int64_t offset = 0;
  for (const std::vector<int64_t>& sizes : shapes) {
    Slot s;
    s.offset = offset;
    s.sizes = sizes;
    s.numel = 1;
    for (const int64_t n : sizes) s.numel *= n;
    if (sizes.size() == 4) {
      s.strides = {sizes[1] * sizes[2] * sizes[3], 1, sizes[3] * sizes[1], sizes[1]};
    } else {
      s.strides.assign(sizes.size(), 1);
      for (size_t d = sizes.size(); d-- > 1;) s.strides[d - 1] = s.strides[d] * sizes[d];
    }
    offset += (s.numel + slot_alignment - 1) / slot_alignment * slot_alignment;
    slots.push_back(std::move(s));
  }
  return slots;
}

Arena make_arena(const Graph& graph, const std::vector<ParamId>& parameters,
                 const std::function<Shape(const Parameter&)>& shape, double initial, at::ScalarType dtype,
                 at::Device device) {
  std::vector<std::vector<int64_t>> shapes;
  for (const ParamId p : parameters) shapes.push_back(graph.sizes(shape ? shape(graph[p]) : graph[p].shape));
  Arena arena(lay_out(shapes), dtype, device);
  if (initial != 0) {
    for (size_t i = 0; i < parameters.size(); ++i) at::Tensor(arena.view(i)).fill_(initial);
  }
  return arena;
}

std::shared_ptr<Bank> make_bank(const Graph& graph, Role role, at::ScalarType dtype, at::Device device) {
  auto bank = std::make_shared<Bank>();
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    if (graph.parameters()[i].role == role) bank->parameters.push_back({static_cast<int32_t>(i)});
  }
  bank->values = make_arena(graph, bank->parameters, nullptr, 0, dtype, device);
  if (role != Role::buffer) bank->gradients = make_arena(graph, bank->parameters, nullptr, 0, dtype, device);
  return bank;
}

// fan_in and fan_out as PyTorch counts them, of a weight [out, in, kernel...].
std::pair<double, double> fans(const std::vector<int64_t>& sizes) {
  double receptive = 1;
  for (size_t d = 2; d < sizes.size(); ++d) receptive *= static_cast<double>(sizes[d]);
  const double out = sizes.empty() ? 1 : static_cast<double>(sizes[0]);
  const double in = sizes.size() < 2 ? out : static_cast<double>(sizes[1]);
  return {in * receptive, out * receptive};
}

at::Tensor initial_values(const Graph& graph, const Parameter& p, RandomKey key) {
  using Kind = Initializer::Kind;
  const std::vector<int64_t> sizes = graph.sizes(p.shape);
  const auto [fan_in, fan_out] = fans(sizes);
  const double a = p.init.a;
  switch (p.init.kind) {
    case Kind::constant:
      return at::full(sizes, a, at::kDouble);
    case Kind::uniform:
      return uniform(sizes, -a, a, key);
    case Kind::normal:
      return normal(sizes, a, key);
    case Kind::kaiming_uniform: {
      const double bound = std::sqrt(6 / ((1 + a * a) * fan_in));
      return uniform(sizes, -bound, bound, key);
    }
    case Kind::kaiming_normal_in:
      return normal(sizes, std::sqrt(2 / fan_in), key);
    case Kind::kaiming_normal_out:
      return normal(sizes, std::sqrt(2 / fan_out), key);
    case Kind::xavier_uniform: {
      const double bound = std::sqrt(6 / (fan_in + fan_out));
      return uniform(sizes, -bound, bound, key);
    }
    case Kind::bias_by_fan_in: {
      const ParamId weight = graph.nodes()[static_cast<size_t>(p.node)].parameters.front();
      const double bound = 1 / std::sqrt(fans(graph.sizes(graph[weight].shape)).first);
      return uniform(sizes, -bound, bound, key);
    }
  }
  return at::zeros(sizes, at::kDouble);
}

// dst <- src, along each dimension only the gathered positions.
void gather_into(const at::Tensor& dst, at::Tensor src, const std::vector<std::optional<Indices>>& from) {
  for (size_t d = 0; d < from.size(); ++d) {
    if (from[d]) src = src.index_select(static_cast<int64_t>(d), at::tensor(*from[d], at::kLong).to(src.device()));
  }
  at::Tensor(dst).copy_(src);
}

}  // namespace

Arena::Arena(std::vector<Slot> slots, at::ScalarType dtype, at::Device device) : slots_(std::move(slots)) {
  const int64_t n = slots_.empty() ? 0
                                   : slots_.back().offset +
                                         (slots_.back().numel + slot_alignment - 1) / slot_alignment * slot_alignment;
  flat_ = at::zeros({n}, at::TensorOptions().dtype(dtype).device(device));
  for (const Slot& s : slots_) views_.push_back(flat_.as_strided(s.sizes, s.strides, s.offset).detach());
}

void Arena::touch() {
  flat_.unsafeGetTensorImpl()->bump_version();
}

Weights::Weights(const Graph& graph, at::ScalarType dtype, at::Device device) : dtype_(dtype), device_(device) {
  if (dtype != at::kFloat && dtype != at::kDouble) throw Error("weights are kept in float32 or float64");
  for (const Role r : roles) banks_[static_cast<size_t>(r)] = make_bank(graph, r, dtype, device);
  bind(graph);
}

Weights::Weights(const Graph& graph, const Weights& lender, const std::vector<Role>& lent)
    : dtype_(lender.dtype_), device_(lender.device_) {
  for (const Role r : roles) {
    const auto i = static_cast<size_t>(r);
    banks_[i] = std::ranges::find(lent, r) != lent.end() ? lender.banks_[i] : make_bank(graph, r, dtype_, device_);
  }
  bind(graph);
}

Weights::~Weights() = default;

void Weights::bind(const Graph& graph) {
  places_.assign(graph.parameters().size(), {});
  leaves_.assign(graph.parameters().size(), {});
  for (const Role r : roles) {
    Bank& b = bank(r);
    for (size_t i = 0; i < b.parameters.size(); ++i) {
      const auto id = static_cast<size_t>(b.parameters[i].id);
      places_[id] = {r, i};
      leaves_[id] = b.values.view(i).detach();
      if (r == Role::buffer) continue;
      leaves_[id].set_requires_grad(true);
      leaves_[id].mutable_grad() = b.gradients.view(i);
    }
  }
  ++generation_;
}

void Weights::initialize(const Graph& graph, RandomKey key) {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    at::Tensor(leaves_[i]).copy_(initial_values(graph, p, key.with("initialize").with(p.name)));
  }
}

void Weights::copy_from(const Weights& other) {
  const c10::NoGradGuard no_grad;
  for (const Role r : roles) {
    if (banks_[static_cast<size_t>(r)] != other.banks_[static_cast<size_t>(r)])
      at::Tensor(bank(r).values.flat()).copy_(other.bank(r).values.flat());
  }
}

const at::Tensor& Weights::gradient(ParamId p) const {
  if (role(p) == Role::buffer) throw Error("a buffer has no gradient");
  return bank(role(p)).gradients.view(index(p));
}

void Weights::zero_gradients() {
  for (const Role r : {Role::weight, Role::architecture}) {
    if (bank(r).gradients.numel() > 0) at::Tensor(bank(r).gradients.flat()).zero_();
  }
}

void Weights::add_state(const Graph& graph, const StateSpec& spec) {
  if (!has_state(spec.name)) specs_.push_back(spec);
  for (const Role r : {Role::weight, Role::architecture}) {
    Bank& b = bank(r);
    if (!b.states.contains(spec.name))
      b.states.emplace(spec.name, make_arena(graph, b.parameters, spec.shape, spec.initial, dtype_, device_));
  }
}

bool Weights::has_state(const std::string& name) const {
  return std::ranges::any_of(specs_, [&](const StateSpec& s) { return s.name == name; });
}

void Weights::clear_states() {
  for (const Role r : roles) bank(r).states.clear();
  specs_.clear();
  counters_.clear();
}

const at::Tensor& Weights::state(const std::string& name, ParamId p) const {
  const Bank& b = bank(role(p));
  const auto it = b.states.find(name);
  if (it == b.states.end()) throw Error("the weights hold no state '" + name + "'");
  return it->second.view(index(p));
}

std::unique_ptr<Weights::Prepared> Weights::prepare(const Graph& before, const Rewrite& rewrite,
                                                    std::map<const Bank*, std::shared_ptr<Bank>>& done) const {
  const c10::NoGradGuard no_grad;
  auto prepared = std::make_unique<Prepared>();
  for (const Role r : roles) {
    const Bank& old = bank(r);
    std::shared_ptr<Bank>& next = done[&old];
    if (!next) {
      next = make_bank(rewrite.graph, r, dtype_, device_);
      const auto follow = [&](const Arena& from, const Arena& to, const std::function<Shape(const Parameter&)>& shape) {
        for (size_t i = 0; i < next->parameters.size(); ++i) {
          const ParamId origin = rewrite.origin[static_cast<size_t>(next->parameters[i].id)];
          if (origin.id < 0) continue;
          std::vector<std::optional<Indices>> gather;
          for (const Dim& d : shape ? shape(before[origin]) : before[origin].shape)
            gather.push_back(rewrite.gather(before, d));
          gather_into(to.view(i), from.view(index(origin)), gather);
        }
      };
      follow(old.values, next->values, nullptr);
      if (r != Role::buffer) follow(old.gradients, next->gradients, nullptr);
      for (const auto& [name, arena] : old.states) {
        const auto spec = std::ranges::find(specs_, name, &StateSpec::name);
        const auto shape = spec == specs_.end() ? std::function<Shape(const Parameter&)>() : spec->shape;
        Arena to = make_arena(rewrite.graph, next->parameters, shape, spec == specs_.end() ? 0 : spec->initial, dtype_,
                              device_);
        if (spec == specs_.end() || !spec->recompute) follow(arena, to, shape);
        next->states.emplace(name, std::move(to));
      }
    }
    prepared->banks[static_cast<size_t>(r)] = next;
  }
  return prepared;
}

std::unique_ptr<Weights::Prepared> Weights::present() const {
  auto prepared = std::make_unique<Prepared>();
  for (const Role r : roles) prepared->banks[static_cast<size_t>(r)] = banks_[static_cast<size_t>(r)];
  return prepared;
}

void Weights::commit(std::unique_ptr<Prepared> prepared, const Graph& after) {
  for (const Role r : roles) banks_[static_cast<size_t>(r)] = std::move(prepared->banks[static_cast<size_t>(r)]);
  bind(after);
  for (const StateSpec& s : specs_) {
    if (s.recompute) s.recompute(after, *this);
  }
}

}  // namespace espalier
