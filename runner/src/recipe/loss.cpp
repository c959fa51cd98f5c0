#include "recipe/loss.h"

#include "espalier/error.h"
#include "espalier/loss.h"

namespace espalier {

Value loss_of(const StageSection& stage, const TargetSpec& target) {
  if (!stage.loss.is_null()) return stage.loss;
  const auto refuse = [&](const std::string& what) {
    throw InputError(stage.location.str(), "stage '" + stage.name + "': " + what);
  };
  Value spec;
  try {
    spec = default_loss(target);
  } catch (const Error& e) {
    refuse(e.what());
  }
  spec.location = stage.location;
  if (stage.label_smoothing > 0) {
    if (target.task != task::classification)
      refuse("'label_smoothing' is for classes, and the task of the data is " + target.task + ": leave it out");
    spec["label_smoothing"] = stage.label_smoothing;
  }
  return spec;
}

}  // namespace espalier
