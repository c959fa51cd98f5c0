#include <espalier/plugin.h>
#include <espalier/schedule.h>

#include <cmath>

namespace espalier {

// The learning rates fall along a power of what is left of the stage: (1 - epoch / epochs)^power.
class @CLASS@ final : public Schedule {
 public:
  struct Options {
    double power = 2;

    static void declare(Declare<Options>& p) { p("power", &Options::power, above(0), "1 falls along a straight line"); }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  double factor(double epoch, int64_t epochs) const override {
    return std::pow(1 - epoch / static_cast<double>(epochs), o_.power);
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "falls to zero along a power of what is left"));

}  // namespace espalier
