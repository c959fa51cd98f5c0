#include <filesystem>
#include <fstream>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

// A folder as a run leaves it, whose stage "test" grew conv1 by 1 before the first step, by 2 after step 3 of epoch 1,
// and by 4 at that epoch's end.
class Replay : public testing::Test {
 protected:
  Replay() : run(network(), 1) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libreplay.so");
    std::filesystem::create_directories(folder);
    summary(R"({"status": "finished", "stages": [{"name": "warm", "epochs": 9}, {"name": "test", "epochs": 3}]})");
    std::ofstream history(folder / "history.jsonl");
    int64_t count = 1;
    for (const auto& [epoch, step] : std::vector<std::pair<int, int>>{{0, 0}, {1, 3}, {1, 5}}) {
      const Edit edit{Grow{.axis = "conv1", .count = count, .init = "random", .seed = 3}};
      history << to_json(Value::map(
                     {{"stage", "test"}, {"epoch", epoch}, {"step", step}, {"edits", Value::List{edit.to_value()}}}))
              << "\n";
      history << to_json(Value::map({{"stage", "warm"}, {"epoch", epoch}, {"step", step}})) << "\n";
      count *= 2;
    }
    run.of_epochs = 10;
  }
  ~Replay() override { std::filesystem::remove_all(folder); }
  void summary(const std::string& text) const { std::ofstream(folder / "summary.json") << text; }
  static Graph network() {
    GraphBuilder g({1, 6, 6});
    const Edge x = g.relu(g.batch_norm("bn", g.conv("conv1", g.input(), {.filters = 4})));
    return g.output(g.linear("fc", g.flatten(x), {.features = 2}));
  }
  std::unique_ptr<Controller> make(const Value& more = Value::map()) const {
    Value spec = Value::map({{"use", "replay"}, {"run", folder.string()}});
    for (const Value::Entry& e : more.as_map()) spec[e.key] = e.value;
    return Registry::instance().create<Controller>(spec);
  }
  // Another edit of the stage, written behind those that there are.
  void add_line(int epoch, int step, int64_t count) const {
    const Edit edit{Grow{.axis = "conv1", .count = count, .init = "random", .seed = 3}};
    std::ofstream(folder / "history.jsonl", std::ios::app)
        << to_json(Value::map(
               {{"stage", "test"}, {"epoch", epoch}, {"step", step}, {"edits", Value::List{edit.to_value()}}}))
        << "\n";
  }
  int64_t width() const { return run.graph()[run.graph().axis("conv1")].size; }
  // Widths after each of `steps` steps and after the epoch.
  std::vector<int64_t> epoch(Controller& c, int64_t number, int64_t steps) {
    std::vector<int64_t> widths;
    run.at_epoch = number, run.at_step = 0;
    c.epoch_begin(run);
    widths.push_back(width());
    for (; run.at_step < steps; ++run.at_step) {
      c.step_end(run);
      widths.push_back(width());
    }
    c.epoch_end(run);
    widths.push_back(width());
    return widths;
  }

  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("espalier-replay-" + std::to_string(getpid()));
  testkit::TestRun run;
};

TEST_F(Replay, EditsWhereTheOtherRunDidAndEndsWithIt) {
  const auto c = make();
  c->stage_begin(run);
  EXPECT_EQ(epoch(*c, 0, 5), (std::vector<int64_t>{5, 5, 5, 5, 5, 5, 5}));
  EXPECT_EQ(epoch(*c, 1, 5), (std::vector<int64_t>{5, 5, 5, 5, 7, 7, 11}));
  EXPECT_FALSE(run.ended);
  EXPECT_EQ(epoch(*c, 2, 5).back(), 11);
  EXPECT_TRUE(run.ended);
}

TEST_F(Replay, DoesWhatIsLeftAtTheEndOfAShorterEpoch) {
  const auto c = make();
  c->stage_begin(run);
  epoch(*c, 0, 2);
  EXPECT_EQ(epoch(*c, 1, 2), (std::vector<int64_t>{5, 5, 5, 11}));
}

TEST_F(Replay, GoesOnInAResumedRun) {
  const auto first = make();
  first->stage_begin(run);
  EXPECT_EQ(epoch(*first, 0, 5).back(), 5);
  const auto second = make();
  second->resume(run, first->save());
  EXPECT_EQ(epoch(*second, 1, 5).back(), 11);
}

// What was done when the stage ended stands in the history behind its last epoch.
TEST_F(Replay, DoesAtTheStagesEndWhatWasDoneThere) {
  add_line(3, 0, 8);
  const auto c = make();
  c->stage_begin(run);
  for (int e = 0; e < 3; ++e) epoch(*c, e, 5);
  EXPECT_EQ(width(), 11);
  run.at_epoch = 3, run.at_step = 0;
  c->stage_end(run);
  EXPECT_EQ(width(), 19);
}

TEST_F(Replay, OfAStageWithoutEpochsDoesWhatWasDoneAtItsEnd) {
  summary(R"({"status": "finished", "stages": [{"name": "test", "epochs": 0}]})");
  std::ofstream(folder / "history.jsonl").close();
  add_line(0, 0, 8);
  run.of_epochs = 0, run.at_epoch = 0, run.at_step = 0;
  const auto c = make();
  c->stage_begin(run);
  c->stage_end(run);
  EXPECT_EQ(width(), 12);
}

TEST_F(Replay, FailsWhereSomethingWasNotCarriedOut) {
  const auto c = make();
  c->stage_begin(run);
  epoch(*c, 0, 5);
  run.at_epoch = 1, run.at_step = 0;
  try {
    c->stage_end(run);
    FAIL() << "two edits of the second epoch are missing";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("2 of the 3 recorded edits were not carried out"), std::string::npos)
        << e.what();
  }
}

TEST_F(Replay, ResetsWhatItIsTold) {
  for (const bool reset : {true, false}) {
    testkit::TestRun other(network(), 1);
    other.of_epochs = 10;
    const c10::NoGradGuard no_grad;
    other.weights().add_state(other.graph(), {.name = "sgd.momentum"});
    other.weights().state("sgd.momentum", other.graph().parameter("fc.bias")).fill_(2);
    other.weights()[other.graph().parameter("bn.running_mean")].fill_(3);
    const auto c = make(reset ? Value::map({{"states", "reset"}, {"statistics", "reset"}}) : Value::map());
    c->stage_begin(other);
    c->epoch_begin(other);
    EXPECT_EQ(other.weights().state("sgd.momentum", other.graph().parameter("fc.bias"))[0].item<double>(),
              reset ? 0 : 2);
    EXPECT_EQ(other.weights()[other.graph().parameter("bn.running_mean")][0].item<double>(), reset ? 0 : 3);
  }
}

TEST_F(Replay, RefusesRunsThatItCannotFollow) {
  EXPECT_THROW(make(Value::map({{"stage", "other"}}))->stage_begin(run), Error);
  EXPECT_THROW(make(Value::map({{"run", "/nowhere"}}))->stage_begin(run), Error);
  EXPECT_THROW(make(Value::map({{"stage", "warm"}}))->stage_begin(run), Error) << "its lines name no edits";
  run.of_epochs = 2;
  EXPECT_THROW(make()->stage_begin(run), Error);
  run.of_epochs = 10;
  summary(R"({"status": "interrupted", "stages": []})");
  EXPECT_THROW(make()->stage_begin(run), Error);
}

}  // namespace
}  // namespace espalier
