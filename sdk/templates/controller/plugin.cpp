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
    for (const Axis axis : filter_axes(run.graph(), o_.on))
      first_.emplace_back(run.graph()[axis].name, run.graph()[axis].size);
  }
  // A run that goes on from a checkpoint knows the first widths from there.
  Value save() const override {
    Value saved = Value::map();
    for (const auto& [name, width] : first_) saved[name] = width;
    return saved;
  }
  void resume(Run&, const Value& saved) override {
    for (const Value::Entry& e : saved.as_map()) first_.emplace_back(e.key, e.value.as_int());
  }

  void epoch_end(Run& run) override {
    Edits edits;
    for (const auto& [name, width] : first_) {
      // Names hold for good, an Axis until the next edit.
      const Axis axis = run.graph().axis(name);
      const std::vector<double> norms = filter_norms(run.graph(), run.weights(), axis);
      if (static_cast<double>(norms.size() - 1) < o_.keep * static_cast<double>(width)) continue;
      const auto smallest = std::ranges::min_element(norms) - norms.begin();
      edits.push_back(shrink(run.graph(), axis, complement({smallest}, static_cast<int64_t>(norms.size()))));
    }
    // Carries the edits out on everything in one pass, checks them and writes them to the run's history.
    run.edit(edits);
  }

 private:
  Options o_;
  std::vector<std::pair<std::string, int64_t>> first_;  // name of a width, and its first size
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>(
    "@NAME@", "takes the smallest filter out of each layer after every epoch"));

}  // namespace espalier
