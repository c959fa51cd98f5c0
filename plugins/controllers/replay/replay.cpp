#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <espalier/controller.h>
#include <espalier/plugin.h>

namespace espalier {

namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw InputError(file.string(), "there is no such file; `run` is the folder of a finished run");
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

// Carries out what another run wrote into its history, at the same steps, with whatever optimizer this one has (paper
// 000, table 4: Train Scratch - Grow).
class Replay final : public Controller {
 public:
  struct Options {
    std::string run;
    std::string stage;
    std::string states = "keep";
    std::string statistics = "keep";

    static void declare(Declare<Options>& p) {
      p("run", &Options::run, path(), required(), "Folder of the recorded run.");
      p("stage", &Options::stage,
        "Stage of the recorded run whose edits are carried out. Left out: the stage with the same name as "
        "this one.");
      p("states", &Options::states, one_of({"reset", "keep"}),
        "What happens to the states of the optimizers after edits.");
      p("statistics", &Options::statistics, one_of({"reset", "keep"}),
        "What happens to the running statistics of batch norms after edits.");
    }
  };
  explicit Replay(Options options) : o_(std::move(options)) {}

  void check(const Graph&) const override {
    try {
      const Value stages = recorded_stages();
      if (!o_.stage.empty()) epochs_of(stages, o_.stage);
    } catch (const InputError& e) {
      throw Error(e.what());  // which gets the recipe's place
    }
  }
  void stage_begin(Run& run) override {
    read(run);
    if (epochs_ > run.epochs()) {
      throw Error("the recorded stage has " + std::to_string(epochs_) + " epochs, this one at most " +
                  std::to_string(run.epochs()));
    }
    if (lines_.empty()) run.note("the recorded stage has no edits: there is nothing to replay");
  }
  Value save() const override { return Value::map({{"done", static_cast<int64_t>(done_)}}); }
  void resume(Run& run, const Value& saved) override {
    read(run);
    done_ = static_cast<size_t>(saved.at("done").as_int());
  }

  void epoch_begin(Run& run) override { carry_out(run, run.epoch(), 0); }
  void step_end(Run& run) override { carry_out(run, run.epoch(), run.step()); }
  // What was done after the last step; also where an epoch has another number of them here.
  void epoch_end(Run& run) override {
    carry_out(run, run.epoch(), last_step);
    if (run.epoch() + 1 == epochs_) run.end_stage();
  }
  // What was done at the stage's end stands in the history behind its epochs.
  void stage_end(Run& run) override {
    if (run.epoch() == epochs_) carry_out(run, epochs_, last_step);
    if (done_ == lines_.size()) return;
    throw Error(std::to_string(lines_.size() - done_) + " of the " + std::to_string(lines_.size()) +
                " recorded edits were not carried out: the recorded stage has " + std::to_string(epochs_) +
                " epochs, this one ended after " + std::to_string(run.epoch()));
  }

 private:
  static constexpr int64_t last_step = std::numeric_limits<int64_t>::max();
  struct Line {
    int64_t epoch;
    int64_t step;
    Edits edits;
  };

  std::filesystem::path summary() const { return std::filesystem::path(o_.run) / "summary.json"; }

  // The stages of the run, which has finished.
  Value recorded_stages() const {
    const Value s = from_json(text_of(summary()), summary().string());
    if (s.at("status").as_string() != "finished")
      throw InputError(summary().string(), "the recorded run has not finished");
    return s.at("stages");
  }

  int64_t epochs_of(const Value& stages, const std::string& wanted) const {
    std::vector<std::string> names;
    for (const Value& stage : stages.as_list()) {
      names.push_back(stage.at("name").as_string());
      if (names.back() == wanted) return stage.at("epochs").as_int();
    }
    throw InputError(summary().string(), "the recorded run has no stage '" + wanted + "'" + suggestion(wanted, names));
  }

  void read(const Run& run) {
    const std::string wanted = o_.stage.empty() ? run.stage() : o_.stage;
    epochs_ = epochs_of(recorded_stages(), wanted);
    lines_.clear();
    const std::filesystem::path file = std::filesystem::path(o_.run) / "history.jsonl";
    std::ifstream in(file);
    int64_t number = 0;
    for (std::string text; std::getline(in, text);) {
      const Value line = from_json(text, file.string() + ":" + std::to_string(++number));
      if (line.at("stage").as_string() != wanted) continue;
      lines_.push_back({line.at("epoch").as_int(), line.at("step").as_int(), {}});
      for (const Value& e : line.at("edits").as_list()) lines_.back().edits.push_back(Edit::from_value(e));
    }
  }

  // What was done until this epoch and step and is not done yet, in its order.
  void carry_out(Run& run, int64_t epoch, int64_t step) {
    const size_t before = done_;
    for (; done_ < lines_.size(); ++done_) {
      const Line& line = lines_[done_];
      if (std::pair(line.epoch, line.step) > std::pair(epoch, step)) break;
      run.edit(line.edits);
    }
    if (done_ == before) return;
    if (o_.states == "reset") run.weights().reset_states(run.graph());
    if (o_.statistics == "reset") run.weights().reset_statistics(run.graph());
  }

  Options o_;
  std::vector<Line> lines_;
  size_t done_ = 0;     // of the lines
  int64_t epochs_ = 0;  // of the recorded stage
};

ESPALIER_PLUGIN("replay", "1.0.0",
                component<Replay>("replay", "carries out the edits of another run at the same steps"));

}  // namespace espalier
