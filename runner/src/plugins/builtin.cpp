#include "plugins/builtin.h"

#include "data/augmentations.h"
#include "espalier/build_config.h"
#include "espalier/controller.h"
#include "recipe/schedule.h"

namespace espalier {

namespace {

class None final : public Controller {
 public:
  using Options = NoOptions;
  explicit None(Options) {}
};

}  // namespace

void register_builtin(Registry& registry) {
  if (registry.find(Controller::kind, "none")) return;
  registry.add(component<None>("none", "ordinary training: the structure stays"), {"espalier", ESPALIER_VERSION, ""});
  register_schedules(registry);
  register_augmentations(registry);
}

}  // namespace espalier
