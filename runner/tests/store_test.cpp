#include "store/store.h"

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"
#include "store/csv.h"
#include "store/filter.h"
#include "system/files.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
namespace fs = std::filesystem;

// The folder of a run as the program leaves it, as far as the store reads it.
struct MadeRun {
  fs::path folder;

  MadeRun(const fs::path& at, const std::string& id, const std::string& name, int64_t seed, double began) : folder(at) {
    fs::create_directories(folder);
    write_file(folder / "recipe.yaml", "name: " + name + "\nseed: " + std::to_string(seed) +
                                           "\nstages: [{name: train, epochs: 3, optimizers: [{use: sgd, lr: 0.1}]}]\n");
    write_file(folder / "environment.json",
               to_json(Value::map({{"id", id}, {"began", began}, {"cpu", "a processor"}, {"scale", "smoke"}})));
  }
  void epoch(int64_t n) const {
    append_bytes(folder / "metrics.jsonl",
                 to_json(Value::map({{"epoch", n}, {"loss", 1.0 / static_cast<double>(n)}})) + "\n");
  }
  void finish(double accuracy, int64_t params) const {
    Summary s;
    s.name = "made";
    s.status = "finished";
    s.stages.emplace_back();
    s.stages.back().name = "derive";
    s.stages.back().measured = {{"cifar10_accuracy", 94.25}};
    RunResult& r = s.result.emplace();
    r.metrics = {{"accuracy", accuracy}, {"top5", 99}};
    r.best = accuracy + 1;
    r.final = {params, 10 * params};
    r.seconds = 60;
    s.write(folder);
  }
};

std::vector<std::string> ids(const std::vector<StoredRun>& runs) {
  std::vector<std::string> all;
  for (const StoredRun& r : runs) all.push_back(r.id);
  return all;
}

TEST(Store, KeepsWhatTheFolderSays) {
  const TempFolder folder;
  Store store(folder / "runs.sqlite");
  const MadeRun run(folder / "runs" / "one", "0123456789ab", "one", 3, 1000);
  run.epoch(1);
  store.update(run.folder);
  ASSERT_THAT(store.runs(), SizeIs(1));
  StoredRun r = store.runs()[0];
  EXPECT_EQ(r.id, "0123456789ab");
  EXPECT_EQ(r.status, "running");
  EXPECT_EQ(status_now(r), "stopped") << "no process holds the folder";
  EXPECT_EQ(r.seed, 3);
  EXPECT_EQ(r.scale, "smoke");
  EXPECT_EQ(r.value("accuracy"), Value());
  EXPECT_EQ(r.value("stages.train.optimizers.0.lr"), Value(0.1));
  EXPECT_EQ(r.value("stages.train.optimizers.sgd.lr"), Value(0.1));

  run.epoch(2);
  run.finish(91.5, 1000);
  store.update(run.folder);
  r = store.runs()[0];
  EXPECT_EQ(r.status, "finished");
  EXPECT_EQ(r.value("accuracy"), Value(91.5));
  EXPECT_EQ(r.value("metric"), Value(91.5));
  EXPECT_EQ(r.value("top5"), Value(99));
  EXPECT_EQ(r.value("accuracy_best"), Value(92.5));
  EXPECT_EQ(r.value("params"), Value(1000));
  EXPECT_EQ(r.value("derive.cifar10_accuracy"), Value(94.25));
  const Value epochs = store.epochs(r);
  ASSERT_EQ(epochs.size(), 2U);
  EXPECT_EQ(epochs.as_list()[1].at("epoch").as_int(), 2);
}

TEST(Store, ReadsLinesAgainThatBecameFewer) {
  const TempFolder folder;
  Store store(folder / "runs.sqlite");
  const MadeRun run(folder / "one", "0123456789ab", "one", 0, 1000);
  for (int64_t n = 1; n <= 3; ++n) run.epoch(n);
  store.update(run.folder);
  // A continuation from the checkpoint of the first epoch.
  fs::remove(run.folder / "metrics.jsonl");
  run.epoch(1);
  store.update(run.folder);
  EXPECT_EQ(store.epochs(store.runs()[0]).size(), 1U);
  // A line that is still being written is taken in when it is whole.
  append_bytes(run.folder / "metrics.jsonl", R"({"epoch": 2)");
  store.update(run.folder);
  EXPECT_EQ(store.epochs(store.runs()[0]).size(), 1U);
  append_bytes(run.folder / "metrics.jsonl", "}\n");
  store.update(run.folder);
  EXPECT_EQ(store.epochs(store.runs()[0]).size(), 2U);
}

TEST(Store, KnowsARunAgainThatWasMovedAndTellsACopyFromIt) {
  const TempFolder folder;
  const fs::path file = folder / "runs.sqlite";
  Store store(file);
  const MadeRun run(folder / "runs" / "one", "0123456789ab", "one", 0, 1000);
  run.epoch(1);
  store.update(run.folder);
  fs::rename(folder / "runs", folder / "elsewhere");
  EXPECT_EQ(status_now(store.runs()[0]), "gone");
  EXPECT_EQ(rebuild_store(file, {folder / "elsewhere"}, [](const std::string& e) { FAIL() << e; }), 1);
  ASSERT_THAT(store.runs(), SizeIs(1));
  EXPECT_EQ(store.runs()[0].folder, folder / "elsewhere" / "one");
  EXPECT_EQ(store.epochs(store.runs()[0]).size(), 1U);

  fs::copy(folder / "elsewhere" / "one", folder / "copy", fs::copy_options::recursive);
  store.update(folder / "copy");
  EXPECT_THAT(ids(store.runs()), ElementsAre("0123456789ab", "0123456789ab"));
  try {
    run_called(store.runs(), "0123456789ab");
    FAIL() << "either may be meant";
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), HasSubstr((folder / "copy").string()));
  }
}

TEST(Store, IsMadeAnewWhereItIsDamaged) {
  const TempFolder folder;
  const fs::path file = folder / "runs.sqlite";
  const MadeRun run(folder / "runs" / "deep" / "one", "0123456789ab", "one", 0, 1000);
  const MadeRun broken(folder / "runs" / "broken", "ba9876543210", "broken", 0, 1000);
  write_file(broken.folder / "summary.json", "{");
  { Store(file).update(run.folder); }
  write_file(file, std::string(5000, 'x'));
  try {
    Store store(file);
    FAIL() << "it is no database";
  } catch (const DamagedDatabase& e) {
    EXPECT_THAT(e.what(), HasSubstr("runs.sqlite is damaged. `espalier runs rebuild FOLDER...`"));
  }
  std::vector<std::string> skipped;
  EXPECT_EQ(rebuild_store(file, {folder / "runs"}, [&](const std::string& e) { skipped.push_back(e); }), 1);
  EXPECT_THAT(skipped, ElementsAre(HasSubstr("broken/summary.json")));
  EXPECT_THAT(ids(Store(file).runs()), ElementsAre("0123456789ab"));
  EXPECT_EQ(read_file(file.string() + ".damaged"), std::string(5000, 'x'));
}

TEST(Store, LosesNothingOfTenWritersAtOnce) {
  const TempFolder folder;
  const fs::path file = folder / "runs.sqlite";
  constexpr int writers = 10, epochs = 20;
  std::vector<std::thread> threads;
  for (int w = 0; w < writers; ++w) {
    threads.emplace_back([&, w] {
      const MadeRun run(folder / std::to_string(w), "id" + std::to_string(w), "run", w, w);
      for (int64_t n = 1; n <= epochs; ++n) {
        run.epoch(n);
        Store(file).update(run.folder);
      }
      run.finish(w, 1);
      Store(file).update(run.folder);
    });
  }
  for (std::thread& t : threads) t.join();
  Store store(file);
  const std::vector<StoredRun> runs = store.runs();
  ASSERT_THAT(runs, SizeIs(writers));
  for (const StoredRun& r : runs) {
    EXPECT_EQ(r.status, "finished");
    EXPECT_EQ(r.value("accuracy"), Value(r.seed));
    const Value lines = store.epochs(r);
    ASSERT_EQ(lines.size(), static_cast<size_t>(epochs)) << r.id;
    for (int64_t n = 1; n <= epochs; ++n)
      EXPECT_EQ(lines.as_list()[static_cast<size_t>(n - 1)].at("epoch").as_int(), n);
  }
}

TEST(Store, OfALaterProgramIsRefused) {
  const TempFolder folder;
  const fs::path file = folder / "runs.sqlite";
  { Store store(file); }
  { Database(file, false).execute("PRAGMA user_version=7"); }
  EXPECT_THROW(Store store(file), InputError);
}

TEST(RunFilter, ComparesNumbersAndTexts) {
  const TempFolder folder;
  Store store(folder / "runs.sqlite");
  for (int i = 0; i < 4; ++i) {
    const MadeRun run(folder / std::to_string(i), "id" + std::to_string(i), i < 2 ? "a-run" : "b-run", i, 100 - i);
    if (i > 0) run.finish(90 + i, 1000 * i);
    store.update(run.folder);
  }
  const auto found = [&](const std::vector<std::string>& filters) { return ids(filtered(store.runs(), filters)); };
  EXPECT_THAT(found({}), ElementsAre("id0", "id1", "id2", "id3"));
  EXPECT_THAT(found({"accuracy>=92"}), ElementsAre("id2", "id3"));
  EXPECT_THAT(found({"accuracy<92"}), ElementsAre("id1")) << "a run without it has no smaller one";
  EXPECT_THAT(found({"name=a-*"}), ElementsAre("id0", "id1"));
  EXPECT_THAT(found({"name!=a-*", "params>2e3"}), ElementsAre("id3"));
  EXPECT_THAT(found({"stages.train.epochs==3", "seed=2"}), ElementsAre("id2"));
  EXPECT_THAT(found({"status=running"}), ElementsAre("id0"));
  const auto message = [&](const std::string& filter) {
    try {
      found({filter});
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(message("accurcy>90"), HasSubstr("did you mean 'accuracy'?"));
  EXPECT_THAT(message("accuracy"), HasSubstr("expected KEY=VALUE"));
  EXPECT_THAT(message("accuracy>high"), HasSubstr("'high' is no number"));
  EXPECT_THAT(message("=3"), HasSubstr("expected KEY=VALUE"));
}

TEST(RunsCsv, QuotesWhatWouldBeTwoCells) {
  EXPECT_EQ(runs_csv({Value::map({{"name", "a,b"}, {"metrics", Value::map({{"accuracy", 90.5}})}}),
                      Value::map({{"name", "say \"x\"\n"}, {"seed", 2}})}),
            "name,metrics.accuracy,seed\r\n\"a,b\",90.5,\r\n\"say \"\"x\"\"\n\",,2\r\n");
}

}  // namespace
}  // namespace espalier
