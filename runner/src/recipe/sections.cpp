#include "recipe/sections.h"

namespace espalier {

void RecipeKeys::declare(Declare<RecipeKeys>& p) {
  p("espalier", &RecipeKeys::espalier, required(), "Version of the recipe format: 1.");
  p("name", &RecipeKeys::name, required(), "Name of the run and of its folder, of letters, digits, '.', '_' and '-'.");
  p("description", &RecipeKeys::description, "What the run shows, in words.");
  p("seed", &RecipeKeys::seed, at_least(0), "Seed of every random draw of the run.");
  p("device", &RecipeKeys::device, one_of({"auto", "cpu", "cuda"}), "Device that trains; auto: a GPU if there is one.");
  p("precision", &RecipeKeys::precision, one_of({"float32", "bf16", "float64"}),
    "Precision of the arithmetic; bf16: computes in bfloat16 and keeps the weights in float32.");
  p("threads", &RecipeKeys::threads, at_least(0), at_most(4096),
    "Number of CPU threads; 0: as many as there are cores.");
  p("batch_norm", &RecipeKeys::batch_norm, one_of({"synchronised", "per_process"}),
    "Which samples a batch norm takes its statistics of where several processes train the network: those of the whole "
    "batch, or those of each process by itself. One process is not changed by it.");
  p("needs_sdk", &RecipeKeys::needs_sdk,
    "Versions of Espalier that the recipe is for, as conditions that must all hold: \">= 1.2\" or \">= 1.2, < 2\".");
  p("needs", &RecipeKeys::needs,
    "Recipes whose runs this one reads, by paths relative to its own folder. `espalier validate` notes a run of theirs "
    "that is missing, and checks the rest.");
  p("metrics", &RecipeKeys::metrics, of_kind("metric"),
    "Metrics of the evaluations. The first is the leading one, which chooses the best epoch. Left out: those of the "
    "data's task.");
  p("network", &RecipeKeys::network, of_kind("backbone"), required(), "Network that the first stage begins with.");
}

void DataKeys::declare(Declare<DataKeys>& p) {
  p("batch", &DataKeys::batch, at_least(1), unit("samples"), "Number of samples in a training step.");
  p("eval_batch", &DataKeys::eval_batch, at_least(1), unit("samples"),
    "Number of samples that an evaluation computes at a time.");
  p("validation", &DataKeys::validation, at_least(0), below(1),
    "Fraction of the training set that is held out for validation.");
  p("limit", &DataKeys::limit, at_least(0), unit("samples"),
    "Number of training samples that are used, drawn by the seed, to try things out; 0: all.");
  p("test_limit", &DataKeys::test_limit, at_least(0), unit("samples"),
    "Number of test samples that are evaluated, drawn by the seed, to try things out; 0: all.");
  p("repeat", &DataKeys::repeat, at_least(1), at_most(1e9),
    "Number of times that an epoch goes through the training part, for small data sets: evaluations, metrics and "
    "checkpoints come once in an epoch.");
  p("shuffle", &DataKeys::shuffle, "Whether the samples come in a new order every time.");
  p("drop_last", &DataKeys::drop_last, "Whether the last batch of an epoch is left out if it is not full.");
  p("workers", &DataKeys::workers, at_least(0), at_most(4096), unit("threads"),
    "Number of threads that read images ahead, for data sets that are not held in memory; 0: as many as "
    "compute.");
}

void ResizeKeys::declare(Declare<ResizeKeys>& p) {
  p("size", &ResizeKeys::size, at_least(1), at_most(8192), required(), unit("pixels"), "Side of the square images.");
  p("interpolation", &ResizeKeys::interpolation, one_of({"bilinear", "bicubic"}),
    "How pixels are computed; both are antialiased.");
}

void NormalizeKeys::declare(Declare<NormalizeKeys>& p) {
  p("mean", &NormalizeKeys::mean, required(), "Mean of each channel, of values between 0 and 1.");
  p("std", &NormalizeKeys::std, above(0), required(), "Standard deviation of each channel, of values between 0 and 1.");
}

void NetworkKeys::declare(Declare<NetworkKeys>& p) {
  p("from", &NetworkKeys::from, path(),
    "File of values to begin with: a safetensors file, a PyTorch state dict or checkpoint (.pt, .pth, "
    ".bin), the index of a file in parts (.index.json), or the folder of a run. Without `use` it is the "
    "folder of a run, whose structure is taken too.");
  p("which", &NetworkKeys::which, one_of({"last", "best"}),
    "Network of a run's folder that is taken; last: as the run ended; best: that of its best epoch.");
  p("layout", &NetworkKeys::layout,
    "Whose names and arrangement the file has: timm, torchvision, huggingface, microsoft, as far as there is a table "
    "for the backbone, or the file of a table of your own; own: the network's names; auto: what its names and shapes "
    "say. The table sets the options of the backbone that the values need, unless the network says them.");
  p("classifier", &NetworkKeys::classifier, one_of({"loaded", "new"}),
    "Layer of the logits; loaded: as in the file; new: it is left out and begins anew, as for other classes.");
  p("ignore", &NetworkKeys::ignore,
    "Regular expressions (of RE2) of names in the file that are passed over: ['^ema\\.', 'attn_mask$'].");
  p("partial", &NetworkKeys::partial,
    "Whether names and shapes that differ are left out and noted. If not, they are an error.");
  p("key", &NetworkKeys::key,
    "Dictionary of a checkpoint that holds the values, such as 'ema' or 'model.state_dict'. Left out: one "
    "with a name that state dicts usually have.");
}

void StageKeys::declare(Declare<StageKeys>& p) {
  p("name", &StageKeys::name, required(), "Name of the stage, of letters, digits, '.', '_' and '-'.");
  p("epochs", &StageKeys::epochs, at_least(0), required(), unit("epochs"), "Length of the stage.");
  p("optimizer", &StageKeys::optimizer, of_kind("optimizer"),
    "Optimizer of all parameters, or of those that its key `on` selects.");
  p("optimizers", &StageKeys::optimizers, of_kind("optimizer"),
    "Several optimizers, each with a selector `on`: {use: sgd, on: weights}.");
  p("regularizers", &StageKeys::regularizers, of_kind("regularizer"), "Penalties that are added to the loss.");
  p("controller", &StageKeys::controller, of_kind("controller"),
    "Controller, which decides between steps and edits the structure. Left out: none.");
  p("controllers", &StageKeys::controllers, of_kind("controller"),
    "Several controllers, which take their turns in this order; at most one has a training step of its own.");
  p("schedule", &StageKeys::schedule, of_kind("schedule"), "Schedule of the learning rates. Left out: constant.");
  p("loss", &StageKeys::loss, of_kind("loss"),
    "Loss that the training makes small. Left out: that of the data's task.");
  p("clip_norm", &StageKeys::clip_norm, above(0),
    "Largest l2 norm of all gradients together; larger ones are scaled down.");
  p("label_smoothing", &StageKeys::label_smoothing, at_least(0), below(1),
    "Share of the target's probability that is spread over all classes in training: an option of the loss "
    "cross_entropy, written shortly.");
  p("accumulate", &StageKeys::accumulate, at_least(1), at_most(1e6), unit("batches"),
    "Number of batches whose gradients are averaged before an update: a step then has as many times more samples, and "
    "needs no more memory.");
  p("freeze", &StageKeys::freeze, "Parameters that no optimizer updates.");
  p("unfreeze_at", &StageKeys::unfreeze_at, at_least(1), unit("epochs"),
    "Number of epochs after which the frozen parameters are updated like the others. Left out: never.");
  p("lr_scale", &StageKeys::lr_scale, at_least(0),
    "Factor of the learning rate: one number, or a map from selectors to numbers (the first that matches counts; what "
    "none matches has the factor 1).");
  p("layer_decay", &StageKeys::layer_decay, above(0), at_most(1),
    "Factor of the learning rate from each layer to the one before it, so that early layers change less. A layer is a "
    "node with parameters, in the order of the graph; the last one has the factor 1.");
  p("gradient_norm", &StageKeys::gradient_norm,
    "Whether the l2 norm of all gradients, before clipping, is among the metrics: the mean over the steps of an "
    "epoch.");
  p("start_from", &StageKeys::start_from, one_of({"last", "best"}),
    "Weights of the stage before that this one begins with.");
  p("network", &StageKeys::network, of_kind("backbone"), "New network, instead of that of the stage before.");
  p("evaluate_every", &StageKeys::evaluate_every, at_least(1), unit("epochs"),
    "Number of epochs between two evaluations. The last epoch is always evaluated.");
}

void EmaKeys::declare(Declare<EmaKeys>& p) {
  p("decay", &EmaKeys::decay, at_least(0), below(1),
    "Share of the average that stays in a step; the rest comes from the network.");
  p("warmup", &EmaKeys::warmup, at_least(0), unit("steps"),
    "Number of steps over which the decay rises: in step t it is at most (1 + t) / (warmup + t). 0: it is the same "
    "from "
    "the beginning.");
  p("evaluate", &EmaKeys::evaluate, one_of({"instead", "beside"}),
    "What the average is for; instead: its metrics are those of the run, it chooses the best epoch, and the network "
    "has "
    "its values when the stage ends; beside: its metrics stand beside those of the network, as ema_NAME.");
}

void EarlyStopKeys::declare(Declare<EarlyStopKeys>& p) {
  p("metric", &EarlyStopKeys::metric, "Metric that has to become better, or 'loss'. Left out: the leading one.");
  p("patience", &EarlyStopKeys::patience, at_least(1), unit("evaluations"),
    "Number of evaluations without an improvement after which the stage ends.");
  p("min_delta", &EarlyStopKeys::min_delta, at_least(0), "Smallest change that counts as an improvement.");
}

void StopBelowKeys::declare(Declare<StopBelowKeys>& p) {
  p("lr", &StopBelowKeys::lr, above(0), "Learning rate of the first optimizer below which the stage ends.");
}

void OptimizerKeys::declare(Declare<OptimizerKeys>& p) {
  p("on", &OptimizerKeys::on, "Parameters that this optimizer updates. Left out: all.");
  p("scheduled", &OptimizerKeys::scheduled, "Whether the schedule of the stage changes its learning rate.");
  p("clipped", &OptimizerKeys::clipped,
    "Whether the gradients of its parameters count in the norm that `clip_norm` of the stage bounds, and are clipped.");
}

constexpr const char* with_start_doc =
    "Whether the training of the run that the network begins with, `network: {from: RUN}`, is part of the train cost.";

void BaseCostKeys::declare(Declare<BaseCostKeys>& p) {
  p("epochs", &BaseCostKeys::epochs, at_least(1), unit("epochs"),
    "Number of epochs that the network would be trained. Left out: as many as the run has.");
  p("with_start", &BaseCostKeys::with_start, with_start_doc);
}

void BaseKeys::declare(Declare<BaseKeys>& p) {
  p("macs", &BaseKeys::macs, at_least(1), required(),
    "Multiply-accumulates of the network that train costs are relative to.");
  p("epochs", &BaseKeys::epochs, at_least(1), unit("epochs"),
    "Number of epochs that it would be trained. Left out: as many as the run has.");
  p("with_start", &BaseKeys::with_start, with_start_doc);
}

void ExpectKeys::declare(Declare<ExpectKeys>& p) {
  p("value", &ExpectKeys::value, required(), "Value that is expected, as in the paper.");
  p("within", &ExpectKeys::within, at_least(0), required(), "Largest distance of a result from the expected value.");
}

const std::vector<std::string>& expected_of_every_run() {
  static const std::vector<std::string> names = {"loss", "train_loss", "sparsity", "params",
                                                 "macs", "train_cost", "seconds"};
  return names;
}

const std::vector<SubsectionInfo>& recipe_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"data", "a map: {use: DATASET, ...}", true, "Data set, with its own options, and how it is used."},
      {"stages", "a list of stages: [{name: ..., epochs: ...}]", true,
       "Stages, which are carried out one after the other."},
      {"base", "a backbone or {macs: NUMBER}, with the epochs of its training: {use: BACKBONE, epochs: 300}", false,
       "Network and training that train costs are relative to. Left out: the network as first built."},
      {"expect", "a map of metrics: {accuracy: {value: 92, within: 0.5}}", false,
       "Results that a paper reports, which the table at the end is compared with."},
      {"matrix",
       "a map of lists, {seed: [0, 1, 2]}, a list of maps, [{seed: 0}, ...], or random draws, {random: 50, "
       "draw: {seed: {int: [0, 99]}}}",
       false,
       "Several runs: every combination of the lists, each of the maps, or random draws. Keys are paths as --set takes "
       "them."},
      {"scales", "a map of names to changes: {smoke: {data.limit: 1000, stages.train.epochs: 1}}", false,
       "Other sizes of the same run: `--scale smoke`. Keys are paths as --set takes them."},
  };
  return sections;
}

const std::vector<SubsectionInfo>& data_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"augment", "a list of augmentations: [crop, {rotate: 15}, {use: cutout, size: 8}]", false,
       "Random changes of every training image; {NAME: VALUE} gives an augmentation its first parameter."},
      {"resize", "a size in pixels, or {size: 224, interpolation: bicubic}", false,
       "Resizing of every image, in training after crop, flip, rotate and cutout."},
      {"normalize", "true, false, standardize, {mean: [...], std: [...]}, or a map of names to these", false,
       "Normalisation to zero mean and unit standard deviation; true: as the data set says; standardize: with what the "
       "training part has. By names of inputs and targets: {input: standardize, target: standardize}."},
  };
  return sections;
}

const std::vector<SubsectionInfo>& network_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"rename", "a map {PATTERN: REPLACEMENT}", false,
       "Regular expressions (of RE2) that are replaced in the names of the file of `from`, in order. $1 is a "
       "group and {$1+1} the number after it: {'^module\\.': ''}. A list of replacements splits a tensor into equal "
       "parts along its first dimension."},
  };
  return sections;
}

const std::vector<SubsectionInfo>& stage_subsections() {
  static const std::vector<SubsectionInfo> sections = {
      {"data", "a map of data keys", false, "Changes of the data, for this stage and those after it."},
      {"ema", "a map: {decay: 0.999}", false,
       "Exponential moving average of weights and statistics, which follows every edit."},
      {"early_stop", "a map: {patience: 10}", false,
       "End of the stage once a metric (of the validation part, if there is one) no longer becomes better."},
      {"stop_below", "a map: {lr: 1e-7}", false,
       "End of the stage once the schedule has made the learning rate small."},
  };
  return sections;
}

}  // namespace espalier
