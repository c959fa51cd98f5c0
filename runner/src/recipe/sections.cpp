#include "recipe/sections.h"

namespace espalier {

void RecipeKeys::declare(Declare<RecipeKeys>& p) {
  p("espalier", &RecipeKeys::espalier, required(), "version of the recipe format: 1");
  p("name", &RecipeKeys::name, required(), "names the run and its folder: letters, digits, '.', '_' and '-'");
  p("description", &RecipeKeys::description, "what the run shows, in words");
  p("seed", &RecipeKeys::seed, at_least(0), "of everything random");
  p("device", &RecipeKeys::device, one_of({"auto", "cpu", "cuda"}), "auto: a GPU where there is one");
  p("precision", &RecipeKeys::precision, one_of({"float32", "bf16", "float64"}),
    "of the arithmetic; bf16: weights stay float32");
  p("threads", &RecipeKeys::threads, at_least(0), at_most(4096), "of the CPU; 0: all cores");
  p("network", &RecipeKeys::network, of_kind("backbone"), required(), "the network that the first stage starts with");
}

void DataKeys::declare(Declare<DataKeys>& p) {
  p("batch", &DataKeys::batch, at_least(1), unit("samples"), "of a training step");
  p("eval_batch", &DataKeys::eval_batch, at_least(1), unit("samples"), "at a time in an evaluation");
  p("validation", &DataKeys::validation, at_least(0), below(1), "fraction of the training set held out");
  p("limit", &DataKeys::limit, at_least(0), unit("samples"),
    "only the first of the training set, to try things out; 0: all");
  p("shuffle", &DataKeys::shuffle, "a new order in every epoch");
  p("drop_last", &DataKeys::drop_last, "leave out an epoch's last batch where it is not full");
  p("workers", &DataKeys::workers, at_least(0), at_most(4096), unit("threads"),
    "that read images ahead, of data sets that are not held in memory; 0: as many as compute");
}

void AugmentKeys::declare(Declare<AugmentKeys>& p) {
  p("crop", &AugmentKeys::crop, at_least(1), at_most(256), unit("pixels"),
    "zero padding before a random crop to the old size");
  p("flip", &AugmentKeys::flip, at_least(0), at_most(1), "probability of a horizontal flip");
  p("rotate", &AugmentKeys::rotate, at_least(0), at_most(180), unit("degrees"),
    "largest random rotation to either side");
  p("cutout", &AugmentKeys::cutout, at_least(1), at_most(4096), unit("pixels"), "side of a random square of zeros");
}

void NormalizeKeys::declare(Declare<NormalizeKeys>& p) {
  p("mean", &NormalizeKeys::mean, required(), "per channel, of values between 0 and 1");
  p("std", &NormalizeKeys::std, above(0), required(), "standard deviation per channel");
}

void NetworkKeys::declare(Declare<NetworkKeys>& p) {
  p("from", &NetworkKeys::from, path(),
    "values to begin with: a safetensors file, a PyTorch state dict or checkpoint (.pt, .pth, .bin), an index of one "
    "in "
    "parts (.index.json) or a run's folder; without `use` a run's, whose structure is taken too");
  p("which", &NetworkKeys::which, one_of({"last", "best"}),
    "of a run's folder: last: as the run ended; best: its best epoch");
  p("partial", &NetworkKeys::partial, "names and shapes that differ are left out and noted; false: an error");
  p("key", &NetworkKeys::key,
    "which dictionary of a checkpoint holds the values, 'ema' or 'model.state_dict'; left out: one called as state "
    "dicts "
    "mostly are");
}

void StageKeys::declare(Declare<StageKeys>& p) {
  p("name", &StageKeys::name, required(), "names the stage: letters, digits, '.', '_' and '-'");
  p("epochs", &StageKeys::epochs, at_least(0), required(), unit("epochs"), "length of the stage");
  p("optimizer", &StageKeys::optimizer, of_kind("optimizer"),
    "updates all parameters, or those that its key `on` selects");
  p("optimizers", &StageKeys::optimizers, of_kind("optimizer"),
    "several, each `on` a selector: {use: sgd, on: weights}");
  p("regularizers", &StageKeys::regularizers, of_kind("regularizer"), "penalties added to the loss");
  p("controller", &StageKeys::controller, of_kind("controller"),
    "decides between steps and edits the structure; left out: none");
  p("schedule", &StageKeys::schedule, of_kind("schedule"), "how the learning rates change; left out: constant");
  p("clip_norm", &StageKeys::clip_norm, above(0), "largest l2 norm of the gradient");
  p("label_smoothing", &StageKeys::label_smoothing, at_least(0), below(1), "probability spread over all classes");
  p("start_from", &StageKeys::start_from, one_of({"last", "best"}), "which weights of the stage before");
  p("network", &StageKeys::network, of_kind("backbone"), "a new network instead of the stage before's");
  p("evaluate_every", &StageKeys::evaluate_every, at_least(1), unit("epochs"), "between evaluations");
}

void OptimizerKeys::declare(Declare<OptimizerKeys>& p) {
  p("on", &OptimizerKeys::on, "the parameters that it updates; left out: all");
}

void BaseCostKeys::declare(Declare<BaseCostKeys>& p) {
  p("epochs", &BaseCostKeys::epochs, at_least(1), unit("epochs"),
    "that the network would be trained; left out: as many as the run");
}

void BaseKeys::declare(Declare<BaseKeys>& p) {
  p("macs", &BaseKeys::macs, at_least(1), required(),
    "multiply-accumulates of the network that train costs are relative to");
  p("epochs", &BaseKeys::epochs, at_least(1), unit("epochs"), "that it would be trained; left out: as many as the run");
}

void ExpectKeys::declare(Declare<ExpectKeys>& p) {
  p("value", &ExpectKeys::value, required(), "what is expected, as in the paper");
  p("within", &ExpectKeys::within, at_least(0), required(), "how far from it a result may be");
}

const std::vector<std::string>& expected_metrics() {
  static const std::vector<std::string> names = {"accuracy", "accuracy_best", "top5",       "loss",
                                                 "params",   "macs",          "train_cost", "seconds"};
  return names;
}

const std::vector<SubsectionInfo>& recipe_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"data", "a map: {use: DATASET, ...}", true, "the data set, its own parameters, and how it is fed"},
      {"stages", "a list of stages: [{name: ..., epochs: ...}]", true, "what is done, one after the other"},
      {"base", "a backbone or {macs: NUMBER}, with the epochs of its training: {use: BACKBONE, epochs: 300}", false,
       "what train costs are relative to; left out: the network as first built"},
      {"expect", "a map of metrics: {accuracy: {value: 92, within: 0.5}}", false,
       "what the results should be; a batch of runs compares"},
      {"matrix", "a map of lists, {seed: [0, 1, 2]}, or a list of maps, [{seed: 0}, ...]", false,
       "several runs: every combination of the lists, or each of the maps; keys are paths as --set takes them"},
      {"scales", "a map of names to changes: {smoke: {data.limit: 1000, stages.train.epochs: 1}}", false,
       "other sizes of the same: `--scale smoke`; keys are paths as --set takes them"},
  };
  return sections;
}

const std::vector<SubsectionInfo>& data_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"augment", "a list of crop, flip, rotate, cutout: [crop, {rotate: 15}]", false,
       "random changes of every training image"},
      {"normalize", "true, false, or {mean: [...], std: [...]}", false,
       "to zero mean and unit deviation; true: with the data set's own"},
  };
  return sections;
}

const std::vector<SubsectionInfo>& network_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"rename", "a map {PATTERN: REPLACEMENT}", false,
       "regular expressions (of RE2) replaced in the names of the file of `from`, in order, $1 being a group: "
       "{'^module\\.': ''}"},
  };
  return sections;
}

const std::vector<SubsectionInfo>& stage_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"data", "a map of data keys", false, "changes of the data, for this stage and those after it"},
  };
  return sections;
}

}  // namespace espalier
