#include "espalier/schedule.h"

#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "plugins/builtin.h"
#include "recipe/yaml.h"

namespace espalier {
namespace {

std::unique_ptr<Schedule> schedule(const std::string& spec) {
  static Registry registry;
  register_builtin(registry);
  return registry.create<Schedule>(parse_yaml(spec, "r"));
}

TEST(Schedule, RefusesWhatLiesBeyondTheStage) {
  const auto refusal = [](const char* spec, int64_t epochs) -> std::string {
    try {
      schedule(spec)->check(epochs);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(refusal("{use: step, milestones: [80, 120]}", 100).find("'milestones' has 120"), std::string::npos);
  EXPECT_EQ(refusal("{use: step, milestones: [80, 99, 0.5]}", 100), "");
  for (const char* use : {"constant", "cosine", "plateau"}) {
    const std::string spec = "{use: " + std::string(use) + ", warmup: 5}";
    EXPECT_NE(refusal(spec.c_str(), 4).find("'warmup' takes 5"), std::string::npos) << use;
    EXPECT_EQ(refusal(spec.c_str(), 5), "") << use;
  }
}

TEST(Schedules, Constant) {
  EXPECT_EQ(schedule("constant")->factor(7.5, 10), 1);
  EXPECT_EQ(schedule("{use: constant, warmup: 2}")->factor(0, 10), 0);
  EXPECT_EQ(schedule("{use: constant, warmup: 2}")->factor(0.5, 10), 0.25);
  EXPECT_EQ(schedule("{use: constant, warmup: 2}")->factor(2, 10), 1);
}

TEST(Schedules, StepAtEpochsAndFractions) {
  for (const char* at : {"[80, 120]", "[0.5, 0.75]", "[120, 0.5]"}) {
    const auto s = schedule(std::string("{use: step, milestones: ") + at + "}");
    EXPECT_EQ(s->factor(79.99, 160), 1) << at;
    EXPECT_DOUBLE_EQ(s->factor(80, 160), 0.1) << at;
    EXPECT_DOUBLE_EQ(s->factor(120, 160), 0.01) << at;
  }
}

TEST(Schedules, StepEvery) {
  const auto s = schedule("{use: step, every: 30, factor: 0.5}");
  EXPECT_EQ(s->factor(29.9, 100), 1);
  EXPECT_EQ(s->factor(30, 100), 0.5);
  EXPECT_EQ(s->factor(90, 100), 0.125);
}

TEST(Schedules, StepRefusesWhatMakesNoSense) {
  EXPECT_THROW(schedule("step"), Error);
  EXPECT_THROW(schedule("{use: step, milestones: [10], every: 2}"), Error);
  EXPECT_THROW(schedule("{use: step, milestones: [1.5]}"), Error);
  EXPECT_THROW(schedule("{use: step, milestones: [0]}"), Error);
}

TEST(Schedules, CosineEndsAtItsFinalFraction) {
  const auto s = schedule("{use: cosine, min_factor: 0.2}");
  EXPECT_DOUBLE_EQ(s->factor(0, 10), 1);
  EXPECT_DOUBLE_EQ(s->factor(5, 10), 0.6);
  EXPECT_DOUBLE_EQ(s->factor(10, 10), 0.2);
  const auto warm = schedule("{use: cosine, warmup: 2}");
  EXPECT_DOUBLE_EQ(warm->factor(1, 10), 0.5);
  EXPECT_DOUBLE_EQ(warm->factor(2, 10), 1);
  EXPECT_DOUBLE_EQ(warm->factor(6, 10), 0.5);
  EXPECT_NEAR(warm->factor(10, 10), 0, 1e-15);
  // A warm-up as long as the stage, or longer.
  EXPECT_DOUBLE_EQ(schedule("{use: cosine, warmup: 20}")->factor(10, 10), 0.5);
}

TEST(Schedules, PlateauFallsAfterItsPatience) {
  const auto s = schedule("{use: plateau, patience: 1, factor: 0.5, min_factor: 0.2}");
  for (const double accuracy : {50.0, 50.0}) s->observe(accuracy);
  EXPECT_EQ(s->factor(3, 10), 1);
  s->observe(49);
  EXPECT_EQ(s->factor(3, 10), 0.5);
  s->observe(60);  // better: waits anew
  s->observe(60);
  EXPECT_EQ(s->factor(3, 10), 0.5);
  const Value saved = s->save();
  for (int i = 0; i < 10; ++i) s->observe(10);
  EXPECT_EQ(s->factor(3, 10), 0.2);
  // What was saved goes on where it stood: one more bad one.
  const auto resumed = schedule("{use: plateau, patience: 1, factor: 0.5, min_factor: 0.2}");
  resumed->load(from_json(to_json(saved)));
  EXPECT_EQ(resumed->factor(3, 10), 0.5);
  resumed->observe(60);
  EXPECT_EQ(resumed->factor(3, 10), 0.25);
}

TEST(Schedules, APlateauThatSawNothingCanBeSaved) {
  const auto s = schedule("plateau");
  const Value saved = s->save();
  s->load(from_json(to_json(saved)));
  s->observe(-5);
  EXPECT_EQ(s->factor(0, 1), 1);
}

}  // namespace
}  // namespace espalier
