#include <espalier/controller.h>
#include <espalier/groups.h>
#include <espalier/plugin.h>

#include <algorithm>

namespace espalier {

// After every epoch, takes the filter or unit of the smallest norm out of each layer, down to a share of its first
// width.
class @CLASS@ final : public Controller {
 public:
  struct Options {
    double keep = 0.5;
    Selector on;

    static void declare(Declare<Options>& p) {
      p("keep", &Options::keep, above(0), at_most(1), "Share of a layer's first width that stays.");
      p("on", &Options::on, "Layers whose filters and units are judged. Left out: all layers but the last.");
    }
  };

  explicit @CLASS@(Options options) : o_(std::move(options)) {}

  void stage_begin(Run& run) override {
    require_filters(run.graph(), o_.on, "`on`");
    for (const Axis axis : filter_axes(run.graph(), o_.on)) first_.emplace_back(axis, run.graph()[axis].size);
  }
  // A run that goes on from a checkpoint knows the first widths from there: axis and width, one after the other.
  Value save() const override {
    Value saved = Value::list();
    for (const auto& [axis, width] : first_) saved.push_back(Value::List{int64_t{axis.id}, width});
    return saved;
  }
  void resume(Run&, const Value& saved) override {
    for (const Value& v : saved.as_list())
      first_.emplace_back(Axis{static_cast<int32_t>(v.as_list()[0].as_int())}, v.as_list()[1].as_int());
  }

  void epoch_end(Run& run) override {
    for (const auto& [axis, width] : first_) {
      const std::vector<double> norms = filter_norms(run.graph(), run.weights(), axis);
      if (static_cast<double>(norms.size() - 1) < o_.keep * static_cast<double>(width)) continue;
      const auto smallest = std::ranges::min_element(norms) - norms.begin();
      // Carries out the edit on everything, checks it and writes it to the run's history.
      run.edit(shrink(run.graph(), axis, complement({smallest}, static_cast<int64_t>(norms.size()))));
    }
  }

 private:
  Options o_;
  std::vector<std::pair<Axis, int64_t>> first_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>(
    "@NAME@", "takes the smallest filter out of each layer after every epoch"));

}  // namespace espalier
