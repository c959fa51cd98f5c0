#include <espalier/controller.h>
#include <espalier/plugin.h>

namespace espalier {

// Ordinary training; the structure stays.
class None final : public Controller {
 public:
  using Options = NoOptions;
  explicit None(Options) {}
};

ESPALIER_PLUGIN("none", "1.0.0", component<None>("none", "ordinary training, the structure stays"));

}  // namespace espalier
