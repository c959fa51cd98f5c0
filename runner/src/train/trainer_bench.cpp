// Timing the training step, as runs do it.
#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <torch/cuda.h>

#include "espalier/error.h"
#include "record/environment.h"
#include "system/files.h"
#include "system/memory.h"
#include "train/trainer.h"

namespace espalier {

namespace {

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::ranges::nth_element(v, v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2));
  return v[v.size() / 2];
}

}  // namespace

Value Trainer::bench(int64_t steps, int64_t warmup, const std::filesystem::path& exported) {
  constexpr int64_t compared = 50;  // losses given, from the first step on
  options_.save_every = 1e9;
  start();
  begin_stage();
  if (!exported.empty()) {
    const at::Tensor* inputs = find_tensor(data_.train().inputs(), "input");
    const at::Tensor* targets = find_tensor(data_.train().targets(), "target");
    if (!inputs || !targets) {
      throw InputError(data_.section().dataset.location.str(),
                       "this data set is read on demand: there are no inputs to export. Leave out --export");
    }
    std::filesystem::create_directories(exported);
    export_model(exported);
    write_file(exported / "stage.json", to_json(recipe_.resolved.at("stages").as_list().front(), 1) + "\n");
    std::vector<at::Tensor> orders;
    for (int64_t have = 0; have < compared * data_.step_samples(); have += data_.train().size()) {
      data_.order_epoch(epoch_key());
      ++position_.epoch;
      orders.push_back(data_.train().order().to(at::kCPU));
    }
    position_.epoch = 0;
    save_safetensors(exported / "data.safetensors",
                     {{{"inputs", *inputs}, {"targets", *targets}, {"order", at::cat(orders)}}, {}});
  }

  begin_epoch();
  int64_t per_epoch = data_.order_epoch(epoch_key());
  const bool gpu = machine_.device.is_cuda();
  Phases phases;
  phases_ = &phases;
  Value losses = Value::list();
  std::vector<double> whole, data, gradients, regularizers, update;
  double first_step_at = 0, measured = 0;
  int64_t images = 0;
  Clock::time_point since;
  // On a GPU the steps are timed all at once, without waiting in between, and the phases in some more steps.
  const int64_t extra = gpu ? std::max<int64_t>(steps / 4, 10) : 0;
  for (int64_t s = 0; s < warmup + steps + extra; ++s) {
    if (position_.step == per_epoch) {
      ++position_.epoch;
      position_.step = 0;
      per_epoch = data_.order_epoch(epoch_key());
    }
    if (s == warmup) {
      if (gpu) torch::cuda::synchronize();
      since = Clock::now();
      images = meters_.images;
    }
    if (s == warmup + steps) {
      torch::cuda::synchronize();
      measured = std::chrono::duration<double>(Clock::now() - since).count();
      images = meters_.images - images;
      phases.wait = true;
    }
    const double loss = s < compared ? meters_.loss_sum.item<double>() : 0;
    const int64_t before = meters_.images;
    phases = {.wait = phases.wait};
    const Clock::time_point began = Clock::now();
    train_one_step(per_epoch);
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (s < compared)
      losses.push_back((meters_.loss_sum.item<double>() - loss) / static_cast<double>(meters_.images - before));
    if (s == 0) {
      if (gpu) torch::cuda::synchronize();
      first_step_at = wall_time();
    }
    if (s < warmup || (gpu && s < warmup + steps)) continue;
    whole.push_back(seconds);
    data.push_back(phases.data);
    gradients.push_back(phases.gradients);
    regularizers.push_back(phases.regularizers);
    update.push_back(phases.update);
  }
  if (!gpu) {
    measured = std::chrono::duration<double>(Clock::now() - since).count();
    images = meters_.images - images;
  }
  phases_ = nullptr;
  const double step = gpu ? measured / static_cast<double>(steps) : median(whole);
  return Value::map({{"name", recipe_.name},
                     {"environment", environment_of(machine_.device.str())},
                     {"precision", recipe_.precision},
                     {"batch", data_.step_samples()},
                     {"steps", steps},
                     {"step_ms", 1e3 * step},
                     {"images_per_second", static_cast<double>(data_.step_samples()) / step},
                     {"mean_images_per_second", static_cast<double>(images) / measured},
                     {"phases_ms", Value::map({{"data", 1e3 * median(data)},
                                               {"gradients", 1e3 * median(gradients)},
                                               {"regularizers", 1e3 * median(regularizers)},
                                               {"update", 1e3 * median(update)}})},
                     {"peak_memory_mb", static_cast<double>(peak_memory()) / (1 << 20)},
                     {"first_step_at", first_step_at},
                     {"losses", losses}});
}

}  // namespace espalier
