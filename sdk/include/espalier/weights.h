#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/random.h"

namespace espalier {

struct Rewrite;
class Weights;

// Where one parameter lies in an arena, in elements.
struct Slot {
  int64_t offset = 0;  // a multiple of 64
  int64_t numel = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;  // channels_last for four dimensions: a filter is contiguous in any case
};

// One flat tensor with a slot for each parameter of a role. The gaps between slots hold zeros, so that a pass may run
// over all.
class ESPALIER_API Arena {
 public:
  Arena() = default;
  // All zero; or in the memory of `spare` (which is empty then), where that is large enough and nobody else has it:
  // then only the gaps are zero.
  Arena(std::vector<Slot> slots, at::ScalarType dtype, at::Device device, Arena* spare = nullptr);

  const at::Tensor& flat() const { return flat_; }
  const std::vector<Slot>& slots() const { return slots_; }
  // Views into flat(), detached from autograd; index: position among the role's parameters.
  const at::Tensor& view(size_t i) const { return views_[i]; }
  int64_t numel() const { return flat_.numel(); }
  // Tells autograd that the memory was written through raw pointers. Call it after every such pass.
  void touch();

 private:
  // Whether no tensor outside shares the memory.
  bool is_free() const;
  at::Tensor flat_;
  int64_t memory_ = 0;  // elements that there are, at least those of flat_
  std::vector<Slot> slots_;
  std::vector<at::Tensor> views_;
};

// State that an optimizer or controller keeps next to the parameters. It follows every edit without their doing.
struct StateSpec {
  std::string name{};  // "sgd.momentum"
  // The shape for a parameter; null: like the parameter. One value a filter: [](const Parameter& p) { return
  // Shape{p.shape[0]}; }
  std::function<Shape(const Parameter&)> shape{};
  // What it holds at first, and what new slices hold after growth.
  double initial = 0;
  // Set for state that is a function of other state: called after every edit instead of slicing.
  std::function<void(const Graph&, Weights&)> recompute{};
};

// Everything that belongs to the parameters of one role: values, gradients (none for buffers), states. Two Weights may
// share one.
struct Bank {
  std::vector<ParamId> parameters;
  Arena values;
  Arena gradients;
  std::map<std::string, Arena> states;
  std::vector<StateSpec> specs;  // of the states
};

// Values for the parameters and buffers of a Graph: one arena for each role. Gradients are persistent views of an arena
// too, so clearing them is one fill and an update of the network is one pass.
class ESPALIER_API Weights {
 public:
  // All zero. dtype: float32 or float64.
  Weights(const Graph& graph, at::ScalarType dtype, at::Device device);
  // Shares the banks of `lent` roles with another Weights of the same graph: both of RARTS's share the architecture
  // parameters.
  Weights(const Graph& graph, const Weights& lender, const std::vector<Role>& lent);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  // Fills every parameter by its initializer; each draw is keyed by the parameter's name and position.
  void initialize(const Graph& graph, RandomKey key);
  // Copies values and buffers (not states) from another Weights of the same graph.
  void copy_from(const Weights& other);

  at::ScalarType dtype() const { return dtype_; }
  at::Device device() const { return device_; }

  Bank& bank(Role role) { return *banks_[static_cast<size_t>(role)]; }
  const Bank& bank(Role role) const { return *banks_[static_cast<size_t>(role)]; }
  Role role(ParamId p) const { return places_[static_cast<size_t>(p.id)].role; }
  // Position among the parameters of its role.
  size_t index(ParamId p) const { return places_[static_cast<size_t>(p.id)].index; }

  // The autograd leaf of a parameter (a plain tensor for a buffer), a view into its arena.
  const at::Tensor& operator[](ParamId p) const { return leaves_[static_cast<size_t>(p.id)]; }
  // The gradient's view. Throws Error for a buffer.
  const at::Tensor& gradient(ParamId p) const;
  const Slot& slot(ParamId p) const { return bank(role(p)).values.slots()[index(p)]; }
  void zero_gradients();

  // Registers a state, or returns quietly where it is there already. Kept for weights and architecture parameters.
  void add_state(const Graph& graph, const StateSpec& spec);
  bool has_state(const std::string& name) const;
  // The name of the one registered state that is called `what`, whichever component keeps it: "support" finds
  // "lbi.support". Empty where there is none. Throws Error naming both where two components keep one.
  std::string find_state(const std::string& what) const;
  // Forgets all states and counters: a stage begins without those of the stage before.
  void clear_states();
  // Running means and variances of batch norms as new.
  void reset_statistics(const Graph& graph);
  // All states as new: what they hold at first, and no counters.
  void reset_states(const Graph& graph);
  // The state's view for a parameter.
  const at::Tensor& state(const std::string& name, ParamId p) const;
  // Numbers that belong to no parameter (a step count), kept and saved with the states.
  std::map<std::string, double>& counters() { return counters_; }
  const std::map<std::string, double>& counters() const { return counters_; }
  const std::vector<StateSpec>& state_specs() const { return specs_; }

  // Changes with every edit: what was computed from slots before is void.
  uint64_t generation() const { return generation_; }

  // For edits: makes the arenas of the rewritten graph, then exchanges them; nothing is changed by prepare().
  struct Prepared {
    std::shared_ptr<Bank> banks[3];
  };
  std::unique_ptr<Prepared> prepare(const Graph& before, const Rewrite& rewrite,
                                    std::map<const Bank*, std::shared_ptr<Bank>>& done);
  void commit(std::unique_ptr<Prepared> prepared, const Graph& after);
  // The present arenas, to go back to by commit().
  std::unique_ptr<Prepared> present() const;

 private:
  struct Place {
    Role role = Role::weight;
    size_t index = 0;
  };
  void bind(const Graph& graph);
  std::shared_ptr<Bank> follow(const Graph& before, const Rewrite& rewrite, Role role);

  at::ScalarType dtype_;
  at::Device device_;
  std::shared_ptr<Bank> banks_[3];
  std::shared_ptr<Bank> spares_[3];  // of the edit before, whose memory the next one takes
  std::vector<Place> places_;
  std::vector<at::Tensor> leaves_;
  std::vector<StateSpec> specs_;
  std::map<std::string, double> counters_;
  uint64_t generation_ = 0;
};

// Elements of a slot are aligned to this many.
inline constexpr int64_t slot_alignment = 64;

}  // namespace espalier
