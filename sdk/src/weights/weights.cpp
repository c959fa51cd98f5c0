#include "espalier/weights.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/parallel.h"
#include "espalier/random_fill.h"
#include "espalier/rewrite.h"
#include "operations/kernel_sizes.h"
#include "weights/moves.h"

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

std::vector<Slot> slots_of(const Graph& graph, const std::vector<ParamId>& parameters,
                           const std::function<Shape(const Parameter&)>& shape) {
  std::vector<std::vector<int64_t>> shapes;
  for (const ParamId p : parameters) shapes.push_back(graph.sizes(shape ? shape(graph[p]) : graph[p].shape));
  return lay_out(shapes);
}

Arena make_arena(const Graph& graph, const std::vector<ParamId>& parameters,
                 const std::function<Shape(const Parameter&)>& shape, double initial, at::ScalarType dtype,
                 at::Device device) {
  Arena arena(slots_of(graph, parameters, shape), dtype, device);
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

}  // namespace

namespace {

at::Tensor drawn_values(const Graph& graph, const Parameter& p, RandomKey key) {
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

// How a state's dimensions follow; those which are the parameter's, as these do.
Moves state_moves(const Graph& before, const Rewrite& rewrite, const Parameter& old, const Moves& own, const Shape& was,
                  const Shape& now) {
  Moves m = moves(before, rewrite, was, now);
  size_t d = 0;
  for (size_t i = 0; i < was.size(); ++i) {
    const auto same = std::find(old.shape.begin() + static_cast<std::ptrdiff_t>(d), old.shape.end(), was[i]);
    if (same == old.shape.end()) continue;
    d = static_cast<size_t>(same - old.shape.begin());
    m.from[i] = own.from[d++];
  }
  return m;
}

}  // namespace

at::Tensor initial_values(const Graph& graph, const Parameter& p, RandomKey key) {
  at::Tensor values = drawn_values(graph, p, key);
  // What lies outside of a cropped kernel is zero, and stays so.
  const Node& node = graph.nodes()[static_cast<size_t>(p.node)];
  if (values.dim() == 4 && graph[node.parameters.front()].name == p.name) {
    const Indices kernels = node.op->kernel_sizes(graph, node);
    if (!kernels.empty() && std::ranges::min(kernels) < values.size(2))
      values.mul_(kernel_mask(kernels, values.size(2), values.options(), node.op->kernel_corner()));
  }
  return values;
}

Arena::Arena(std::vector<Slot> slots, at::ScalarType dtype, at::Device device, Arena* spare)
    : slots_(std::move(slots)) {
  const int64_t n = slots_.empty() ? 0
                                   : slots_.back().offset +
                                         (slots_.back().numel + slot_alignment - 1) / slot_alignment * slot_alignment;
  const auto zero_gaps = [&] {
    for (const Slot& s : slots_) {
      const int64_t end = s.offset + s.numel;
      const int64_t gap = (slot_alignment - end % slot_alignment) % slot_alignment;
      if (gap > 0) flat_.narrow(0, end, gap).zero_();
    }
  };
  if (spare && spare->is_free() && spare->flat_.scalar_type() == dtype && spare->flat_.device() == device &&
      spare->memory_ >= n) {
    memory_ = spare->memory_;
    flat_ = spare->flat_.as_strided({n}, {1}, 0).detach();
    *spare = Arena();
    zero_gaps();
  } else {
    memory_ = n;
    const auto options = at::TensorOptions().dtype(dtype).device(device);
    flat_ = spare ? at::empty({n}, options) : at::zeros({n}, options);
    if (spare) zero_gaps();
  }
  for (const Slot& s : slots_) views_.push_back(flat_.as_strided(s.sizes, s.strides, s.offset).detach());
}

bool Arena::is_free() const {
  return flat_.defined() && flat_.storage().use_count() == 1 + views_.size();
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
    if (b.states.contains(spec.name)) continue;
    b.states.emplace(spec.name, make_arena(graph, b.parameters, spec.shape, spec.initial, dtype_, device_));
    b.specs.push_back(spec);
  }
}

bool Weights::has_state(const std::string& name) const {
  return std::ranges::any_of(specs_, [&](const StateSpec& s) { return s.name == name; });
}

std::string Weights::find_state(const std::string& what) const {
  std::string found;
  for (const StateSpec& s : specs_) {
    const bool is_it = s.name == what || s.name.ends_with("." + what);
    if (!is_it) continue;
    if (!found.empty())
      throw Error("two components keep a state '" + what + "': '" + found + "' and '" + s.name + "'; only one may");
    found = s.name;
  }
  return found;
}

void Weights::clear_states() {
  for (const Role r : roles) {
    bank(r).states.clear();
    bank(r).specs.clear();
  }
  specs_.clear();
  counters_.clear();
}

void Weights::reset_statistics(const Graph& graph) {
  const c10::NoGradGuard no_grad;
  for (const ParamId p : bank(Role::buffer).parameters) {
    const Parameter& parameter = graph[p];
    if (parameter.kind == "running_mean" || parameter.kind == "running_var")
      at::Tensor((*this)[p]).fill_(parameter.init.a);
  }
}

void Weights::reset_states(const Graph& graph) {
  const c10::NoGradGuard no_grad;
  for (const auto& bank : banks_) {
    for (const StateSpec& spec : bank->specs) {
      const Arena& arena = bank->states.at(spec.name);
      for (size_t i = 0; i < bank->parameters.size(); ++i) at::Tensor(arena.view(i)).fill_(spec.initial);
    }
  }
  counters_.clear();
  for (const StateSpec& s : specs_) {
    if (s.recompute) s.recompute(graph, *this);
  }
}

const at::Tensor& Weights::state(const std::string& name, ParamId p) const {
  const Bank& b = bank(role(p));
  const auto it = b.states.find(name);
  if (it == b.states.end()) throw Error("the weights hold no state '" + name + "'");
  return it->second.view(index(p));
}

std::unique_ptr<Weights::Prepared> Weights::prepare(const Graph& before, const Rewrite& rewrite,
                                                    std::map<const Bank*, std::shared_ptr<Bank>>& done) {
  const c10::NoGradGuard no_grad;
  auto prepared = std::make_unique<Prepared>();
  bool made[3] = {};
  for (const Role r : roles) {
    const Bank& old = bank(r);
    std::shared_ptr<Bank>& next = done[&old];
    if (!next) {
      next = follow(before, rewrite, r);
      made[static_cast<size_t>(r)] = true;
    }
    prepared->banks[static_cast<size_t>(r)] = next;
  }
  if (rewrite.transform) {
    rewrite.transform(before, *this, [&](ParamId p) -> at::Tensor {
      const auto role = static_cast<size_t>(rewrite.graph[p].role);
      if (!made[role]) return {};
      const Bank& b = *prepared->banks[role];
      return b.values.view(static_cast<size_t>(std::ranges::find(b.parameters, p) - b.parameters.begin()));
    });
  }
  return prepared;
}

std::shared_ptr<Bank> Weights::follow(const Graph& before, const Rewrite& rewrite, Role role) {
  const Graph& after = rewrite.graph;
  const Bank& old = bank(role);
  auto next = std::make_shared<Bank>();
  for (size_t i = 0; i < after.parameters().size(); ++i) {
    if (after.parameters()[i].role == role) next->parameters.push_back({static_cast<int32_t>(i)});
  }
  // Which positions go where is the same for all arenas whose shapes are the parameters'.
  std::vector<Moves> own;
  for (const ParamId p : next->parameters) {
    const ParamId origin = rewrite.origin[static_cast<size_t>(p.id)];
    own.push_back(origin.id < 0 ? Moves{} : moves(before, rewrite, before[origin].shape, after[p].shape));
    if (const auto it = rewrite.windows.find(p); it != rewrite.windows.end()) {
      for (const auto& [d, from] : it->second) own.back().from[d] = from;
    }
  }
  const std::shared_ptr<Bank>& last = spares_[static_cast<size_t>(role)];
  Bank* spare = last.use_count() == 1 ? last.get() : nullptr;  // others may want to go back to it
  const auto arena_of = [&](const Arena& from, Arena* reuse, const std::function<Shape(const Parameter&)>& shape,
                            const std::function<void(size_t, const at::Tensor&)>& fill, bool copied = true) {
    Arena nothing;  // with a spare, an empty one too, no zeros are written that are overwritten below
    Arena to(slots_of(after, next->parameters, shape), dtype_, device_, reuse ? reuse : &nothing);
    const auto count = static_cast<int64_t>(next->parameters.size());
    parallel_for(count, device_.is_cpu() ? 1 : count, [&](int64_t begin, int64_t end) {
      const c10::NoGradGuard each_thread;
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        const ParamId p = next->parameters[i];
        const ParamId origin = rewrite.origin[static_cast<size_t>(p.id)];
        const bool is_new = origin.id < 0 || !copied;
        const bool whole = is_new || !shape || shape(before[origin]) == before[origin].shape;
        const Moves m =
            is_new  ? Moves{}
            : whole ? own[i]
                    : state_moves(before, rewrite, before[origin], own[i], shape(before[origin]), shape(after[p]));
        if (is_new || m.has_new()) fill(i, to.view(i));
        if (is_new) continue;
        const auto mask = rewrite.masks.find(origin);
        if (mask == rewrite.masks.end() || !whole) {
          copy_slices(to.view(i), from.view(index(origin)), m);
        } else {
          at::Tensor masked = at::empty_strided(from.view(index(origin)).sizes(), from.view(index(origin)).strides(),
                                                from.view(index(origin)).options());
          masked.copy_(from.view(index(origin))).masked_fill_(mask->second.to(masked.device()).eq(0), 0);
          copy_slices(to.view(i), masked, m);
        }
      }
    });
    return to;
  };
  const auto constant = [](double value) { return [value](size_t, const at::Tensor& t) { t.fill_(value); }; };
  next->values = arena_of(old.values, spare ? &spare->values : nullptr, nullptr, [&](size_t i, const at::Tensor& t) {
    const ParamId p = next->parameters[i];
    fill_new(after, p, rewrite.fill, own[i], t);
  });
  if (rewrite.fill.orthogonal) {
    for (size_t i = 0; i < next->parameters.size(); ++i) {
      if (after[next->parameters[i]].kind == "weight")
        orthogonalize(after[next->parameters[i]], own[i], next->values.view(i));
    }
  }
  if (role != Role::buffer)
    next->gradients = arena_of(old.gradients, spare ? &spare->gradients : nullptr, nullptr, constant(0));
  // As the bank knows them: where Weights share it, one alone may have registered a state.
  for (const StateSpec& spec : old.specs) {
    Arena* reuse = spare && spare->states.contains(spec.name) ? &spare->states.at(spec.name) : nullptr;
    next->states.emplace(spec.name, arena_of(old.states.at(spec.name), reuse, spec.shape, constant(spec.initial),
                                             /*copied=*/!spec.recompute));
  }
  next->specs = old.specs;
  return next;
}

std::unique_ptr<Weights::Prepared> Weights::present() const {
  auto prepared = std::make_unique<Prepared>();
  for (const Role r : roles) prepared->banks[static_cast<size_t>(r)] = banks_[static_cast<size_t>(r)];
  return prepared;
}

void Weights::commit(std::unique_ptr<Prepared> prepared, const Graph& after) {
  for (const Role r : roles) {
    const auto i = static_cast<size_t>(r);
    // The memory of an arena is used again at the edit after the next: fresh pages cost more than the copies.
    if (banks_[i] != prepared->banks[i]) spares_[i] = banks_[i];
    banks_[i] = std::move(prepared->banks[i]);
  }
  bind(after);
  for (const StateSpec& s : specs_) {
    if (s.recompute) s.recompute(after, *this);
  }
}

}  // namespace espalier
