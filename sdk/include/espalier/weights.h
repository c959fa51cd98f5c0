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
  int64_t offset = 0;            // where it begins: a multiple of slot_alignment
  int64_t numel = 0;             // how many elements the parameter has
  std::vector<int64_t> sizes;    // the parameter's sizes
  std::vector<int64_t> strides;  // channels_last for four dimensions, so that a filter is contiguous in any case
};

// One flat tensor with a slot for each parameter of a role. The gaps between slots hold zeros, so a pass may run over
// everything.
class ESPALIER_API Arena {
 public:
  // Makes an arena without slots.
  Arena() = default;
  // Makes an arena that holds zeros. If `spare` is given, only the gaps are zero, and the caller fills the slots; if it
  // is large enough besides and no tensor outside shares its memory, the arena takes that and `spare` becomes empty.
  Arena(std::vector<Slot> slots, at::ScalarType dtype, at::Device device, Arena* spare = nullptr);

  // Returns the whole memory: a tensor of one dimension, with the gaps.
  const at::Tensor& flat() const { return flat_; }
  // Returns the slots, in the order of the role's parameters.
  const std::vector<Slot>& slots() const { return slots_; }
  // Returns the view into flat() of the i-th parameter of the role, detached from autograd.
  const at::Tensor& view(size_t i) const { return views_[i]; }
  // Returns how many elements flat() has, with the gaps.
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

// A state that an optimizer or a controller keeps beside the parameters. It follows every edit by itself.
struct StateSpec {
  // The name, with the label of its owner before it: "sgd.momentum".
  std::string name{};
  // Returns the shape of the state for a parameter; null means the parameter's own shape. One value for each filter:
  // [](const Parameter& p) { return Shape{p.shape[0]}; }
  std::function<Shape(const Parameter&)> shape{};
  // What the state holds at first, and what new slices hold after growth.
  double initial = 0;
  // Is called after every edit instead of slicing, for a state that is a function of other states; null otherwise.
  std::function<void(const Graph&, Weights&)> recompute{};
};

// Everything that belongs to the parameters of one role. Two Weights may share a bank.
struct Bank {
  std::vector<ParamId> parameters;      // the parameters of the role, in the order of the slots
  Arena values;                         // their values
  Arena gradients;                      // their gradients; empty for buffers
  std::map<std::string, Arena> states;  // their states, by name
  std::vector<StateSpec> specs;         // what the states are
};

// The values for the parameters and buffers of a graph: one bank for each role. Gradients are persistent views of an
// arena too, so clearing them is one fill, and an update of the network is one pass.
class ESPALIER_API Weights {
 public:
  // Makes weights that are all zero. `dtype` is float32 or float64.
  Weights(const Graph& graph, at::ScalarType dtype, at::Device device);
  // Makes weights that share the banks of the `lent` roles with another Weights of the same graph; all else is zero.
  // The two copies of RARTS share the architecture parameters.
  Weights(const Graph& graph, const Weights& lender, const std::vector<Role>& lent);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  // Fills every parameter and buffer by its initializer. Each draw is keyed by the parameter's name and the position.
  void initialize(const Graph& graph, RandomKey key);
  // Copies values and buffers, and no states, from another Weights. Both must belong to the same graph, after the same
  // edits: the arenas are copied whole, and this is not checked beyond their length (LibTorch throws if it differs).
  void copy_from(const Weights& other);

  // Returns the type of all values: float32 or float64.
  at::ScalarType dtype() const { return dtype_; }
  // Returns where all values lie.
  at::Device device() const { return device_; }

  // Returns the bank of a role.
  Bank& bank(Role role) { return *banks_[static_cast<size_t>(role)]; }
  // Returns the bank of a role.
  const Bank& bank(Role role) const { return *banks_[static_cast<size_t>(role)]; }
  // Returns the role of a parameter.
  Role role(ParamId p) const { return places_[static_cast<size_t>(p.id)].role; }
  // Returns the position of a parameter among those of its role.
  size_t index(ParamId p) const { return places_[static_cast<size_t>(p.id)].index; }

  // Returns the autograd leaf of a parameter (a plain tensor for a buffer): a view into its arena, with the parameter's
  // sizes. It holds until the next edit.
  const at::Tensor& operator[](ParamId p) const { return leaves_[static_cast<size_t>(p.id)]; }
  // Returns the view of a parameter's gradient, with the parameter's sizes. Throws Error for a buffer.
  const at::Tensor& gradient(ParamId p) const;
  // Returns where a parameter lies in the arenas of its bank.
  const Slot& slot(ParamId p) const { return bank(role(p)).values.slots()[index(p)]; }
  // Sets all gradients to zero.
  void zero_gradients();

  // Registers a state for all weights and architecture parameters, filled with its initial value. If a state of this
  // name is there already, it stays as it is, also if the shape or the initial value of `spec` is another.
  void add_state(const Graph& graph, const StateSpec& spec);
  // Returns whether a state of this name is registered.
  bool has_state(const std::string& name) const;
  // Returns the name of the one registered state that is called `what`, whichever component keeps it: "support" finds
  // "lbi.support". Empty if there is none. Throws Error with both names if two components keep one.
  std::string find_state(const std::string& what) const;
  // Forgets all states and counters. A stage begins without those of the stage before.
  void clear_states();
  // Sets the running means and variances of batch norms to what they are in a new network.
  void reset_statistics(const Graph& graph);
  // Sets all states to their initial values, and forgets the counters.
  void reset_states(const Graph& graph);
  // Returns the view of a parameter's state, with the sizes that the state's spec gives it. Throws Error if there is no
  // state of this name.
  const at::Tensor& state(const std::string& name, ParamId p) const;
  // Returns the numbers that belong to no parameter, such as a count of steps. They are kept and saved with the states.
  std::map<std::string, double>& counters() { return counters_; }
  // Returns the same numbers.
  const std::map<std::string, double>& counters() const { return counters_; }
  // Returns what the registered states are.
  const std::vector<StateSpec>& state_specs() const { return specs_; }

  // Returns a number that changes with every edit. What was computed from slots before is then void.
  uint64_t generation() const { return generation_; }

  // The banks of a rewritten graph, made by prepare() and put in place by commit().
  struct Prepared {
    std::shared_ptr<Bank> banks[3];  // by role
  };
  // Makes the banks of the rewritten graph and changes nothing. `done` holds the banks that are made already, so that
  // Weights which share a bank share the new one.
  std::unique_ptr<Prepared> prepare(const Graph& before, const Rewrite& rewrite,
                                    std::map<const Bank*, std::shared_ptr<Bank>>& done);
  // Puts prepared banks in place; the leaves are then those of the graph `after`.
  void commit(std::unique_ptr<Prepared> prepared, const Graph& after);
  // Returns the present banks, so that commit() can go back to them.
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

// Every slot begins at a multiple of this many elements.
inline constexpr int64_t slot_alignment = 64;

}  // namespace espalier
