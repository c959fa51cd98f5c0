#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <espalier/edit.h>
#include <espalier/graph.h>
#include <espalier/kernel_support.h>
#include <espalier/per_selector.h>
#include <espalier/weights.h>

namespace espalier {

// What of a trained network goes where groups of its kernels are below a threshold (paper 001, (15) and (23)): found
// once, from the values as they are, and then carried out in steps that can be measured one by one.
class KernelCut {
 public:
  struct Settings {
    bool nested = true;  // judges nested groups of kernels; else whole filters alone
    KernelShrinkage shrinkage;
    std::string corner = "top_left";  // of the shrinkage, as edits write it
    bool identity = false;            // layers without a bypass that have nothing left become identities (24)
  };
  // A layer that is judged.
  struct Layer {
    ParamId weight;
    std::string node;
    Indices had;    // the sizes of its kernels before, one for each filter; 1 of linear layers
    Indices sizes;  // what they become
    bool crops = false;
  };

  // Judges the layers of a selector (empty: all) by tau, without changing anything. A group goes if its l2 norm is at
  // most tau, whatever norm it was trained with (001-X8). The last layer is never judged.
  KernelCut(const Graph& graph, const Weights& weights, const Selector& on, const PerSelector& tau, Settings settings);

  // Returns the layers that are judged, in the order of the graph. Of those that become identities `sizes` says so.
  const std::vector<Layer>& layers() const { return layers_; }
  // Returns the layers without anything left that no shortcut bypasses, so that nothing would reach the output. They
  // are none if identities take their place.
  const std::vector<std::string>& blocked() const { return blocked_; }
  // Returns the layers that become identities.
  const std::vector<std::string>& identities() const { return identities_; }
  // Returns why a layer of `blocked` cannot become an identity, if identities were asked for.
  const std::string& why_no_identity() const { return why_; }
  // Returns the layers of which nothing is left.
  std::vector<std::string> vanished() const;

  // Sets to zero what goes: (15) and (23), kernels alone.
  void zero_groups(const Graph& graph, Weights& weights) const;
  // Sets to zero what would be left of filters and branches without kernels, the shifts of batch norms and biases, and
  // writes the identities. From then on removing changes nothing.
  void zero_rest(const Graph& graph, Weights& weights) const;
  // Removes blocks, filters and borders of kernels by one call of `edit` for each kind. `graph` is read anew after each
  // call.
  void remove(const std::function<const Graph&()>& graph, const std::function<void(const Edits&)>& edit) const;

 private:
  void judge(const Graph& graph, const Weights& weights, ParamId weight, double tau);
  // Which edges carry nothing but zeros if these layers give zeros.
  std::vector<bool> zeros(const Graph& graph, const std::vector<const Layer*>& dead) const;
  std::vector<const Layer*> dead() const;
  void find_blocked(const Graph& graph);
  bool make_identity(const Graph& graph, Layer& layer);
  void find_filters(const Graph& graph);
  void find_drops(const Graph& graph);
  const Layer* layer_of(ParamId weight) const;

  Settings s_;
  std::vector<Layer> layers_;
  std::vector<std::string> blocked_, identities_;
  std::string why_;
  std::vector<bool> zero_;                // edges
  std::map<std::string, Indices> keeps_;  // of widths that lose positions, by name
  Edits drops_;
};

}  // namespace espalier
