#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/registry.h"
#include "espalier/selector.h"
#include "espalier/value.h"

namespace espalier {

// How the values of one input or target are scaled.
struct NormalizeRule {
  bool on = true;
  bool standardize = false;  // with what the training part has
  std::vector<double> mean;  // empty: the data set's own
  std::vector<double> deviation;
};

struct NormalizeSection {
  NormalizeRule input;                                         // of the input, where by_name is empty
  std::vector<std::pair<std::string, NormalizeRule>> by_name;  // of single inputs and targets
};

struct ResizeSection {
  int64_t size = 0;  // pixels; 0: images stay
  bool bicubic = false;
};

struct DataSection {
  Value dataset;  // spec of the dataset component, checked
  int64_t batch = 128;
  int64_t eval_batch = 1000;
  std::vector<Value> augment;  // specs of the augmentations, checked
  ResizeSection resize;
  NormalizeSection normalize;
  double validation = 0;   // fraction of the training set held out
  int64_t limit = 0;       // only the first n training samples; 0: all
  int64_t test_limit = 0;  // only so many test samples; 0: all
  int64_t repeat = 1;      // passes of an epoch
  bool shuffle = true;
  bool drop_last = false;
  int64_t workers = 0;  // threads that read images ahead; 0: as many as compute
};

struct Layout;

// The values of an earlier training that a network begins with.
struct WarmStart {
  std::filesystem::path from;  // a safetensors file, a PyTorch state dict or a run's folder; empty: none
  std::string which = "last";  // of a run's folder: last, best
  // Regular expressions, and what replaces them in the file's names, one after the other; several replacements split
  // a tensor.
  std::vector<std::pair<std::string, std::vector<std::string>>> rename;
  std::vector<std::string> ignore;       // regular expressions of names in the file that are passed over
  std::shared_ptr<const Layout> layout;  // the table that the file is read by; null: it has the network's own names
  std::string tried;                     // where no table was found: what those that there are do not know
  std::vector<std::string> notes;        // what the recipe says otherwise than the table
  bool new_classifier = false;           // the layer of the logits is left out
  bool partial = false;                  // what does not match is left out
  std::string key;  // of a checkpoint's dictionaries, the one that is meant; empty: as it is mostly called
  Location location;
};

struct OptimizerSection {
  Value spec;   // checked, without `on` and the keys below
  Selector on;  // empty: all parameters
  Location on_location;
  bool scheduled = true;  // the stage's schedule changes its learning rate
  bool clipped = true;    // the stage's clip_norm is for its parameters, too
};

struct EmaSection {
  double decay = 0.999;
  int64_t warmup = 0;
  bool instead = true;  // of the network, in evaluations and at the end
};

struct EarlyStopSection {
  std::string metric;  // empty: the leading one
  int64_t patience = 10;
  double min_delta = 0;
  Location location;
};

struct StageSection {
  std::string name;
  Location location;
  int64_t epochs = 0;
  std::vector<OptimizerSection> optimizers;
  std::vector<Value> regularizers;
  std::vector<Value> controllers;  // at least one: {use: none} where left out
  Value schedule;                  // {use: constant} where left out
  Value loss;                      // null: that of the data's task
  std::optional<double> clip_norm;
  double label_smoothing = 0;  // of a loss that the recipe does not name
  int64_t accumulate = 1;
  Selector freeze;  // empty: nothing
  std::optional<int64_t> unfreeze_at;
  PerSelector lr_scale = 1;
  double layer_decay = 1;
  bool gradient_norm = false;
  std::optional<EmaSection> ema;
  std::optional<EarlyStopSection> early_stop;
  std::optional<double> stop_below_lr;
  std::string start_from = "last";  // last, best: which weights of the stage before
  std::optional<DataSection> data;  // replaces the recipe's for this stage and those after
  Value network;                    // null: goes on with the stage before's
  WarmStart warm_start;             // of `network`
  int64_t evaluate_every = 1;
};

// A run of a recipe that another one `needs`, which is not there yet.
struct MissingRun {
  std::filesystem::path folder;  // absolute; what the recipe names: the run's folder, or a file in it
  std::string text;              // what is missing, where the recipe names it, and the command that makes it
};

struct Recipe {
  std::string name;
  std::string description;
  int64_t seed = 0;
  std::string device = "auto";        // auto, cpu, cuda
  std::string precision = "float32";  // float32, bf16, float64
  int64_t threads = 0;                // 0: all cores
  bool synchronised_norms = true;     // batch norms of several processes
  DataSection data;
  std::vector<Value> metrics;  // specs, checked; empty: those of the data's task
  Value network;               // spec of the backbone, checked
  WarmStart warm_start;
  std::vector<StageSection> stages;
  std::vector<MissingRun> missing_runs;  // each once
  Value base;  // for the train cost: {macs: n} or a backbone's spec; null: the network as first built
  std::optional<int64_t> base_epochs;  // that it is trained; none: as many as the run
  bool cost_with_start = false;        // the training of the run that the network begins with counts, too
  Value expect;                        // metric -> {value, within}
  Value resolved;                      // the whole tree with all defaults, for the run folder
};

// Reads, resolves `extends`, applies the changes of a scale (empty: none) and `--set` overrides
// ("stages.shrink.epochs=2"). Throws InputError at "file:line:column".
Value read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                  const std::string& scale = "");
// The names of the recipe's scales. Throws InputError where `scales` is no map of changes.
std::vector<std::string> scales_of(const std::filesystem::path& path);

// Checks everything that needs no network. Throws InputError at "file:line:column". A `matrix` stands for several
// recipes and is refused: see sweep/matrix.h.
Recipe check_recipe(const Value& tree, const Registry& registry);

// Both.
Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                   const Registry& registry);

}  // namespace espalier
