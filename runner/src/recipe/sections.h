#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/declare.h"

// The keys of a recipe, declared as the parameters of components are: validation, defaults, `describe` and the JSON
// Schema come from here. Keys that hold another section (data, stages, augment, normalize, rename, expect, base) are
// read by the function of that section.
namespace espalier {

struct RecipeKeys {
  int64_t espalier = 1;
  std::string name;
  std::string description;
  int64_t seed = 0;
  std::string device = "auto";
  std::string precision = "float32";
  int64_t threads = 0;
  std::string batch_norm = "synchronised";
  std::string needs_sdk;
  std::vector<std::string> needs;
  std::vector<Nested> metrics;
  Nested network;
  static void declare(Declare<RecipeKeys>& p);
};

struct DataKeys {
  int64_t batch = 128;
  int64_t eval_batch = 1000;
  double validation = 0;
  int64_t limit = 0;
  int64_t test_limit = 0;
  int64_t repeat = 1;
  bool shuffle = true;
  bool drop_last = false;
  int64_t workers = 0;
  static void declare(Declare<DataKeys>& p);
};

// `resize` of the data.
struct ResizeKeys {
  int64_t size = 224;
  std::string interpolation = "bilinear";
  static void declare(Declare<ResizeKeys>& p);
};

struct NormalizeKeys {
  std::vector<double> mean;
  std::vector<double> std;
  static void declare(Declare<NormalizeKeys>& p);
};

// The extra keys of a network, beside the backbone's own.
struct NetworkKeys {
  std::string from;
  std::string which = "last";
  std::string layout = "auto";
  std::string classifier = "loaded";
  std::vector<std::string> ignore;
  bool partial = false;
  std::string key;
  static void declare(Declare<NetworkKeys>& p);
};

struct StageKeys {
  std::string name;
  int64_t epochs = 0;
  Nested optimizer;
  std::vector<Nested> optimizers;
  std::vector<Nested> regularizers;
  Nested controller;
  std::vector<Nested> controllers;
  Nested schedule;
  Nested loss;
  std::optional<double> clip_norm;
  double label_smoothing = 0;
  int64_t accumulate = 1;
  Selector freeze;
  std::optional<int64_t> unfreeze_at;
  PerSelector lr_scale = 1;
  double layer_decay = 1;
  bool gradient_norm = false;
  std::string start_from = "last";
  Nested network;
  int64_t evaluate_every = 1;
  static void declare(Declare<StageKeys>& p);
};

// `ema` of a stage.
struct EmaKeys {
  double decay = 0.999;
  int64_t warmup = 0;
  std::string evaluate = "instead";
  static void declare(Declare<EmaKeys>& p);
};

// `early_stop` of a stage.
struct EarlyStopKeys {
  std::string metric;
  int64_t patience = 10;
  double min_delta = 0;
  static void declare(Declare<EarlyStopKeys>& p);
};

// `stop_below` of a stage.
struct StopBelowKeys {
  double lr = 1e-7;
  static void declare(Declare<StopBelowKeys>& p);
};

// The extra keys of an optimizer in a stage.
struct OptimizerKeys {
  Selector on;
  bool scheduled = true;
  bool clipped = true;
  static void declare(Declare<OptimizerKeys>& p);
};

// Of `base` where it is a backbone, beside the backbone's own.
struct BaseCostKeys {
  std::optional<int64_t> epochs;
  bool with_start = false;
  static void declare(Declare<BaseCostKeys>& p);
};

struct BaseKeys {
  int64_t macs = 0;
  std::optional<int64_t> epochs;
  bool with_start = false;
  static void declare(Declare<BaseKeys>& p);
};

struct ExpectKeys {
  double value = 0;
  double within = 0;
  static void declare(Declare<ExpectKeys>& p);
};

// What `expect` may name of every run, whatever its metrics are: numbers of summary.json; params and macs are those of
// the final network.
const std::vector<std::string>& expected_of_every_run();

// Keys of a section that hold further sections, with what they are for.
struct SubsectionInfo {
  std::string name;
  std::string expected;
  bool required = false;
  std::string doc;
};
const std::vector<SubsectionInfo>& recipe_subsections();
const std::vector<SubsectionInfo>& data_subsections();
const std::vector<SubsectionInfo>& network_subsections();
const std::vector<SubsectionInfo>& stage_subsections();

}  // namespace espalier
