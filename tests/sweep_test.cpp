// Sweeps by the program.
#include "sweep/sweep.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "espalier/value.h"
#include "recipe/yaml.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

const std::string tiny = R"(
espalier: 1
name: tiny
data: {use: synthetic, count: 200, batch: 20}
network: {use: mlp, hidden: [8]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.1}}]
)";

std::string at(const fs::path& p) {
  return "'" + p.string() + "'";
}

Value sweep_of(const fs::path& folder) {
  return from_json(read_file(folder / "sweep.json"));
}

TEST(Sweep, RunsEveryCombinationAndGoesOnWhereOneFails) {
  const TempFolder folder;
  const auto recipe =
      folder.write("r.yaml", tiny + "matrix: {seed: [0, 1], stages.train.optimizer.lr: [0.1, 1.0e+30]}\n");
  const fs::path out = folder / "sweep";
  const Output o = espalier_command("run " + at(recipe) + " --jobs 2 --out " + at(out));
  EXPECT_EQ(o.status, 1) << o.text;
  EXPECT_THAT(o.text, HasSubstr("2 at a time, with "));
  EXPECT_THAT(o.text, HasSubstr("2 of 4 runs failed"));
  EXPECT_THAT(o.text, HasSubstr("the run seed=0,lr=1e+30 failed: stage 'train', epoch 1, step 2: the loss is NaN"));
  EXPECT_THAT(o.text, HasSubstr("mean ± standard deviation over the seeds"));

  const Value sweep = sweep_of(out);
  EXPECT_EQ(sweep.at("status").as_string(), "failed");
  ASSERT_EQ(sweep.at("runs").size(), 4U);
  std::set<std::string> folders;
  for (const Value& run : sweep.at("runs").as_list()) {
    const fs::path run_folder = out / run.at("folder").as_string();
    EXPECT_TRUE(folders.insert(run_folder.string()).second);
    EXPECT_TRUE(fs::exists(run_folder / "output.txt")) << run_folder;
    const double lr = run.at("values").at("stages.train.optimizer.lr").as_double();
    EXPECT_EQ(run.at("status").as_string(), lr == 0.1 ? "finished" : "failed") << run_folder;
    EXPECT_EQ(run.at("summary").at("status").as_string(), run.at("status").as_string());
    // Each is an ordinary run of an ordinary recipe.
    const Value resolved = read_yaml(run_folder / "recipe.yaml");
    EXPECT_EQ(resolved.find("matrix"), nullptr);
    EXPECT_EQ(resolved.at("seed").as_int(), run.at("values").at("seed").as_int());
    EXPECT_EQ(resolved.at("stages").as_list()[0].at("optimizers").as_list()[0].at("lr").as_double(), lr);
    EXPECT_GE(resolved.at("threads").as_int(), 1) << "two at a time share the cores";
  }
  ASSERT_EQ(sweep.at("seeds").size(), 1U);
  EXPECT_EQ(to_json(sweep.at("seeds").as_list()[0].at("seeds")), "[0,1]");

  const Output again = espalier_command("run " + at(recipe) + " --out " + at(out));
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.text, HasSubstr("not empty"));
}

TEST(Sweep, OfOneAtATimeGivesTheBytesOfTheSingleRun) {
  const TempFolder folder;
  folder.write("base.yaml", tiny);
  const auto recipe = folder.write("r.yaml", "extends: base.yaml\nthreads: 1\nmatrix: [{seed: 7}]\n");
  ASSERT_EQ(espalier_command("run -q " + at(recipe) + " --out " + at(folder / "sweep")).text, "");
  ASSERT_EQ(espalier_command("run -q " + at(recipe) + " --set matrix= --seed 7 --out " + at(folder / "one")).text, "");
  EXPECT_EQ(read_file(folder / "sweep" / "seed=7" / "model.safetensors"),
            read_file(folder / "one" / "model.safetensors"));
}

TEST(Sweep, IsCheckedWholeBeforeAnythingIsWritten) {
  const TempFolder folder;
  // The second network does not fit: only a plan sees it.
  const auto recipe = folder.write("r.yaml", tiny + R"(matrix:
  network: [{use: mlp}, {use: lenet5}]
  data.size: [28, 8]
)");
  for (const std::string& command :
       std::vector<std::string>{"validate ", "plan ", "run --out " + at(folder / "sweep") + " "}) {
    const Output o = espalier_command(command + at(recipe));
    EXPECT_EQ(o.status, 1) << command;
    EXPECT_THAT(o.text, HasSubstr("r.yaml:8:25: ")) << "where the network is written";
    EXPECT_THAT(o.text, HasSubstr("in the run network=lenet5,size=8 of the matrix")) << command;
  }
  EXPECT_FALSE(fs::exists(folder / "sweep"));
}

TEST(Sweep, IsPlannedRunByRun) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", tiny + "matrix: {network.hidden: [[4], [8, 4]]}\n");
  const Output o = espalier_command("plan " + at(recipe));
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("tiny: 2 runs"));
  EXPECT_THAT(o.text, HasSubstr("8-4"));
  const Value plan = from_json(espalier_command("plan --json " + at(recipe)).text);
  ASSERT_EQ(plan.at("runs").size(), 2U);
  const Value& first = plan.at("runs").as_list()[0];
  EXPECT_EQ(first.at("name").as_string(), "hidden=4");
  // 16 x 16 x 1 pixels, 4 units, 4 classes.
  EXPECT_GT(first.at("plan").at("network").at("params").as_int(), 4 * 4 + 4);
  EXPECT_THAT(espalier_command("validate " + at(recipe)).text, HasSubstr("fine (tiny, 2 runs)"));
}

// A program that does as it is told by the recipe's seed, instead of training: 0 finishes, 1 is told to stop.
fs::path stand_in(const TempFolder& folder) {
  const fs::path program = folder.write("program.sh", R"(#!/bin/sh
echo "$@" >> ')" + folder.path().string() + R"(/calls'
case $1 in
  run) out=$4; mkdir -p $out/checkpoints ;;
  resume) out=$2 ;;
esac
finish() {
  echo '{"name": "fake", "seed": 0, "status": "'$1'", "accuracy": 90.0, "accuracy_best": 90.0, "loss": 1.0,' \
    > $out/summary.json
  echo '"train_cost": 1.0, "seconds": 1.0, "device": "cpu", "precision": "float32", "threads": 1, "stages": [],' \
    >> $out/summary.json
  echo '"final": {"params": 1, "macs": 1}, "base": {"params": 2, "macs": 2}}' >> $out/summary.json
}
if [ $1 = run ]; then
  case $out in
    *seed=1*) echo weights > $out/checkpoints/last.safetensors; finish interrupted; exit 143 ;;
    *seed=2*) echo 'espalier: error: no data'; exit 1 ;;
  esac
fi
finish finished
)");
  fs::permissions(program, fs::perms::owner_all);
  return program;
}

TEST(Sweep, GoesOnWithWhatHasNotFinished) {
  const TempFolder folder;
  SweepOptions options;
  options.out = (folder / "sweep").string();
  options.quiet = true;
  options.program = stand_in(folder);
  options.data = {folder.path().string()};
  options.flags = {"--save-every", "5"};
  const std::string calls = (folder / "calls").string();
  // As a sweep that was stopped leaves it.
  Value runs = Value::list();
  for (const char* name : {"seed=0", "seed=1", "seed=2"}) {
    runs.push_back(Value::map({{"name", name},
                               {"values", Value::map({{"seed", 0}})},
                               {"status", "waiting"},
                               {"seconds", 0.0},
                               {"summary", Value()}}));
    folder.write("sweep/recipes/" + std::string(name) + ".yaml", tiny);
  }
  const auto no_paths = Value::list();
  folder.write("sweep/sweep.json", to_json(Value::map({{"name", "tiny"},
                                                       {"status", "interrupted"},
                                                       {"jobs", 1},
                                                       {"threads", 0},
                                                       {"data", no_paths},
                                                       {"plugins", no_paths},
                                                       {"runs", runs}})));
  const auto status = [&](size_t i) {
    return sweep_of(folder / "sweep").at("runs").as_list()[i].at("status").as_string();
  };
  EXPECT_EQ(resume_sweep(folder / "sweep", options), 1);
  EXPECT_EQ(status(0), "finished");
  EXPECT_EQ(status(1), "interrupted");
  EXPECT_EQ(status(2), "failed");
  EXPECT_EQ(sweep_of(folder / "sweep").at("runs").as_list()[2].at("error").as_string(), "no data");

  fs::remove(calls);
  EXPECT_EQ(resume_sweep(folder / "sweep", options), 1) << "the third fails again";
  EXPECT_EQ(status(1), "finished");
  const std::string sweep = (folder / "sweep").string(),
                    data = " --data " + folder.path().string() + " --save-every 5\n";
  EXPECT_EQ(read_file(calls), "resume " + sweep + "/seed=1" + data + "run " + sweep + "/recipes/seed=2.yaml --out " +
                                  sweep + "/seed=2" + data)
      << "the first stays, the second goes on, the third begins anew";

  // What was finished and is gone is run again.
  fs::remove_all(folder / "sweep" / "seed=0");
  fs::remove(calls);
  EXPECT_EQ(resume_sweep(folder / "sweep", options), 1);
  EXPECT_THAT(read_file(calls), HasSubstr("run " + sweep + "/recipes/seed=0.yaml"));
}

const std::string random_matrix = R"(matrix:
  random: 3
  draw:
    stages.train.optimizer.lr: {log_uniform: [0.01, 0.1]}
    network.hidden.0: {int: [2, 20]}
)";

// What a run's folder and recipe hold, and when each was written.
std::map<std::string, fs::file_time_type> times(const fs::path& sweep, const std::string& run) {
  std::map<std::string, fs::file_time_type> all{{"recipe", fs::last_write_time(sweep / "recipes" / (run + ".yaml"))}};
  for (const auto& e : fs::recursive_directory_iterator(sweep / run))
    all[e.path().string()] = fs::last_write_time(e.path());
  return all;
}

TEST(Sweep, OfRandomDrawsGrowsByNewRunsAlone) {
  const TempFolder folder;
  const auto recipe = folder.write("in/r.yaml", tiny + random_matrix);
  const fs::path out = folder / "sweep";
  const Output whole = espalier_command("run " + at(recipe) + " --out " + at(out) + " --threads 1");
  ASSERT_EQ(whole.status, 0) << whole.text;
  EXPECT_THAT(whole.text, HasSubstr("front"));
  const Value before = sweep_of(out);
  ASSERT_EQ(before.at("runs").size(), 3U);
  const std::vector<std::string> first = {"draw=0", "draw=1", "draw=2"};
  std::vector<std::map<std::string, fs::file_time_type>> written;
  for (const std::string& run : first) written.push_back(times(out, run));

  // The recipe is not needed any more.
  fs::remove_all(folder / "in");
  const Output more = espalier_command("resume " + at(out) + " --set matrix.random=5");
  ASSERT_EQ(more.status, 0) << more.text;
  EXPECT_THAT(more.text, HasSubstr("tiny: 5 runs, 3 finished before"));
  const Value after = sweep_of(out);
  ASSERT_EQ(after.at("runs").size(), 5U);
  for (size_t i = 0; i < 5; ++i) {
    const Value& run = after.at("runs").as_list()[i];
    EXPECT_EQ(run.at("name").as_string(), "draw=" + std::to_string(i));
    EXPECT_EQ(run.at("draw").as_int(), static_cast<int64_t>(i));
    EXPECT_EQ(run.at("status").as_string(), "finished");
    if (i < 3) {
      EXPECT_EQ(to_json(run), to_json(before.at("runs").as_list()[i]));
      EXPECT_EQ(times(out, first[i]), written[i]) << "nothing of a run that was there is written again";
    }
    const Value resolved = read_yaml(out / run.at("folder").as_string() / "recipe.yaml");
    EXPECT_EQ(resolved.at("network").at("hidden").as_list()[0], run.at("values").at("network.hidden.0"));
    EXPECT_EQ(resolved.at("threads").as_int(), 1);
  }
  EXPECT_GE(after.at("front").size(), 1U);
  EXPECT_EQ(after.at("front_size").as_string(), "params");

  // The sweep that was larger from the beginning has the same runs.
  const auto again = folder.write("in/r.yaml", tiny + random_matrix);
  ASSERT_EQ(
      espalier_command("run -q " + at(again) + " --set matrix.random=5 --threads 1 --out " + at(folder / "at-once"))
          .status,
      0);
  for (const char* run : {"draw=0", "draw=4"})
    EXPECT_EQ(read_file(out / run / "model.safetensors"), read_file(folder / "at-once" / run / "model.safetensors"));

  for (const auto& [change, words] : std::map<std::string, std::string>{
           {"matrix.random=4", "the run draw=4 of " + out.string() + " would not be one of this matrix"},
           {"matrix.seed=1", "the run draw=0"},
           {"matrix=", "the run draw=0"},
           {"matrix.randm=9", "did you mean 'random'?"},
           {"seed=1", "of a sweep only the matrix can be changed"},
           {"matrix.random=1001", "an integer from 1 to 1000"}}) {
    const Output wrong = espalier_command("resume " + at(out) + " --set " + change);
    EXPECT_EQ(wrong.status, 1) << change;
    EXPECT_THAT(wrong.text, HasSubstr(words));
  }
  EXPECT_EQ(to_json(sweep_of(out)), to_json(after));
  const Output macs = espalier_command("resume " + at(out) + " --front macs");
  EXPECT_THAT(macs.text, HasSubstr("front of MACs"));
  EXPECT_EQ(sweep_of(out).at("front_size").as_string(), "macs");
}

TEST(Sweep, OfListsGrowsByValuesAndKeepsItsRunsOfAnotherOrder) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", tiny + "matrix: {seed: [1]}\n");
  const fs::path out = folder / "sweep";
  ASSERT_EQ(espalier_command("run -q " + at(recipe) + " --out " + at(out)).status, 0);
  const auto written = times(out, "seed=1");
  const Output more = espalier_command("resume -q " + at(out) + " --set matrix.seed='[0, 1]'");
  ASSERT_EQ(more.status, 0) << more.text;
  EXPECT_EQ(times(out, "seed=1"), written);
  ASSERT_EQ(sweep_of(out).at("runs").size(), 2U);
  EXPECT_EQ(sweep_of(out).at("runs").as_list()[0].at("name").as_string(), "seed=0");
  // A run that cannot be is refused before anything is written.
  const Output wrong = espalier_command("resume -q " + at(out) + " --set matrix.seed='[0, 1, -1]'");
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.text, HasSubstr("in the run seed=-1 of the matrix"));
  EXPECT_FALSE(fs::exists(out / "recipes" / "seed=-1.yaml"));
  EXPECT_EQ(sweep_of(out).at("runs").size(), 2U);
  // A sweep of before recipes were kept.
  fs::remove(out / "recipe.json");
  EXPECT_THAT(espalier_command("resume " + at(out) + " --set matrix.seed='[0, 1, 2]'").text,
              HasSubstr("keeps no recipe"));
  EXPECT_EQ(espalier_command("resume " + at(out)).status, 0);
}

TEST(Sweep, OfDrawsThatRepeatRunsEachOnceAndSaysSo) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", tiny + "matrix: {random: 40, draw: {seed: {choice: [4, 9]}}}\n");
  for (const std::string& command : {std::string("validate "), std::string("run --out ") + at(folder / "s") + " "}) {
    const Output o = espalier_command(command + at(recipe));
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_THAT(o.text, HasSubstr("38 of the 40 draws repeat earlier ones and are left out"));
  }
  EXPECT_EQ(sweep_of(folder / "s").at("runs").size(), 2U);
}

TEST(Sweep, KeepsWhatASelectionByValidationNeeds) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", tiny + "matrix: {data.validation: [0, 0.2]}\n");
  ASSERT_EQ(espalier_command("run -q " + at(recipe) + " --set stages.train.epochs=3 --out " + at(folder / "s")).status,
            0);
  const Value::List runs = sweep_of(folder / "s").at("runs").as_list();
  EXPECT_EQ(runs.at(0).at("summary").at("metric").find("validation"), nullptr) << "nothing is held out";
  double best = 0;
  std::istringstream lines(read_file(folder / "s" / runs.at(1).at("folder").as_string() / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    best = std::max(best, from_json(line).at("validation_accuracy").as_double());
  EXPECT_EQ(runs[1].at("summary").at("metric").at("validation").as_double(), best);
}

TEST(Sweep, ThatIsNoneOrAtWorkCannotGoOn) {
  const TempFolder folder;
  EXPECT_FALSE(is_sweep(folder.path()));
  EXPECT_THROW(resume_sweep(folder.path(), {}), InputError);
  folder.write("sweep.json", "{\"runs\": 3}");
  EXPECT_TRUE(is_sweep(folder.path()));
  EXPECT_THROW(resume_sweep(folder.path(), {}), InputError);
}

TEST(Sweep, IsStoppedByASignalWithItsRuns) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", tiny + "matrix: {seed: [0, 1], stages.train.epochs: [20000]}\n");
  const fs::path out = folder / "sweep";
  // The signal comes when the first run has trained an epoch.
  const Output o = shell("'" ESPALIER_PROGRAM "' run " + at(recipe) + " --out " + at(out) +
                         " & sweep=$!; for i in $(seq 200); do test -s " + at(out / "seed=0,epochs=20000") +
                         "/metrics.jsonl && break; sleep .05; done; kill -TERM $sweep; wait $sweep; exit $?");
  EXPECT_EQ(o.status, 143) << o.text;
  EXPECT_THAT(o.text, HasSubstr("To go on: espalier resume " + out.string()));
  const Value sweep = sweep_of(out);
  EXPECT_EQ(sweep.at("status").as_string(), "interrupted");
  EXPECT_EQ(sweep.at("runs").as_list()[0].at("status").as_string(), "interrupted");
  EXPECT_EQ(sweep.at("runs").as_list()[1].at("status").as_string(), "waiting");
}

}  // namespace
}  // namespace espalier
