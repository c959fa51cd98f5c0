// Runs that are stopped in every way, and go on.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <random>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../datasets/tests/image_files.h"
#include "child.h"
#include "espalier/value.h"
#include "formats/safetensors.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using ::testing::HasSubstr;

// Two optimizers, a schedule that remembers, a controller with state and Weights of its own, edits in the middle of
// epochs and at their ends, averages that follow them, accumulated batches, parameters that thaw, a second stage from
// the best of the first that learns from it.
constexpr const char* everything = R"(
espalier: 1
name: everything
threads: 2
data: {use: synthetic, count: 1000, batch: 20, validation: 0.2, augment: [crop: 1, flip]}
network: {use: lenet5, conv1: 10, conv2: 12, hidden: 30}
stages:
  - name: keep
    epochs: 2
    optimizers: [{use: adam, lr: 0.002, on: weights}, {use: sgd, lr: 0.01, momentum: 0.9, on: biases}]
    schedule: {use: plateau}
    controller: keeper
    ema: {decay: 0.9, warmup: 5}
    freeze: fc1.bias
    unfreeze_at: 1
    gradient_norm: true
  - name: shrink
    start_from: best
    epochs: 2
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    schedule: {use: cosine, warmup: 1}
    regularizers: [{use: group_lasso, weight: 0.02}]
    controller: {use: threshold, tau: 0.3, every: 1}
    loss: {use: distillation, teacher_stage: keep, weight: 0.3}
    ema: {decay: 0.95, evaluate: beside}
    accumulate: 2
    lr_scale: {fc*: 0.5}
    early_stop: {patience: 5}
)";

const std::string plugins = " --plugins '" ESPALIER_FIXTURE_DIR "/libresumable.so'";

// What a checkpoint holds, in bytes, but for times and for the sizes of files that hold times.
std::string content_of(const fs::path& checkpoint) {
  const TensorFile file = load_safetensors(checkpoint);
  Value meta = from_json(file.metadata.at("espalier"));
  Value* progress = meta.find("progress");
  progress->erase("seconds");
  progress->erase("files");
  for (Value& stage : progress->find("stages")->as_list()) stage = without_time(stage);
  std::string all = to_json(meta);
  for (const auto& [name, tensor] : file.tensors)
    all += name + std::string(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  return all;
}

void expect_same_run(const fs::path& a, const fs::path& b) {
  EXPECT_EQ(read_file(a / "model.safetensors"), read_file(b / "model.safetensors"));
  EXPECT_EQ(fs::exists(a / "history.jsonl"), fs::exists(b / "history.jsonl"));  // none: there was no edit
  if (fs::exists(a / "history.jsonl")) {
    EXPECT_EQ(read_file(a / "history.jsonl"), read_file(b / "history.jsonl"));
  }
  EXPECT_EQ(read_file(a / "graph.json"), read_file(b / "graph.json"));
  EXPECT_TRUE(timeless_lines(a / "metrics.jsonl") == timeless_lines(b / "metrics.jsonl"));
  for (const char* name : {"last", "best"}) {
    const fs::path file = fs::path("checkpoints") / (std::string(name) + ".safetensors");
    EXPECT_TRUE(content_of(a / file) == content_of(b / file)) << file;
  }
  Value one = from_json(read_file(a / "summary.json")), two = from_json(read_file(b / "summary.json"));
  for (Value* v : {&one, &two}) {
    v->erase("seconds");
    for (Value& stage : v->find("stages")->as_list()) stage = without_time(stage);
  }
  EXPECT_EQ(to_json(one), to_json(two));
  // The event file holds times too: 4 epochs of the same tags, so the same length.
  EXPECT_EQ(fs::file_size(a / "events.out.tfevents.0.espalier"), fs::file_size(b / "events.out.tfevents.0.espalier"));
}

// A run that nobody stopped, made once.
class Resume : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    folder_->write("r.yaml", everything);
    const Clock::time_point began = Clock::now();
    const Output o = espalier_command("run -q --save-every 0 " + recipe() + plugins + " --out " + whole().string());
    seconds_ = std::chrono::duration<double>(Clock::now() - began).count();
    ASSERT_EQ(o.status, 0) << o.text;
    ASSERT_FALSE(lines_of(whole() / "history.jsonl").empty());
    ASSERT_NE(lines_of(whole() / "metrics.jsonl")[0].find("early"), nullptr);
    ASSERT_NE(lines_of(whole() / "metrics.jsonl")[0].find("sum"), nullptr);
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string recipe() { return (*folder_ / "r.yaml").string(); }
  static fs::path whole() { return *folder_ / "whole"; }
  static std::vector<std::string> run_command(const fs::path& out) {
    return {"run",          recipe(), "--plugins", ESPALIER_FIXTURE_DIR "/libresumable.so",
            "--save-every", "0",      "--out",     out.string()};
  }
  static std::vector<std::string> resume_command(const fs::path& out) {
    return {"resume", out.string(), "--save-every", "0"};
  }

  static TempFolder* folder_;
  static double seconds_;
};

TempFolder* Resume::folder_ = nullptr;
double Resume::seconds_ = 0;

// Waits for the moment that `hit` sees, at most for a run's length.
template <class Hit>
void wait_for(Child& child, const Hit& hit) {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(20);
  while (Clock::now() < end && !hit() && child.poll() < 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
}

// Searches of architectures: Weights beside the network's, with states of optimizers, and alpha in both; gates that the
// search puts in; regularizers with a state for each copy of the weights, and with steps after an update.
struct SearchCase {
  const char* controller;
  const char* regularizers = "[{use: l1, on: architecture, weight: 0.01}]";
};
class ResumeSearch : public ::testing::TestWithParam<SearchCase> {};

TEST_P(ResumeSearch, EqualsAnUninterruptedRunAfterKills) {
  const TempFolder folder;
  const std::string recipe = folder
                                 .write("r.yaml", R"(
espalier: 1
name: search
threads: 1
data: {use: synthetic, count: 64, size: 8, channels: 3, batch: 4, validation: 0.5, augment: [crop: 1, flip]}
network: {use: nasbench201_search, channels: 2, cells: 1, track_running_stats: true}
stages:
  - name: search
    epochs: 3
    optimizers:
      - {use: sgd, lr: 0.025, momentum: 0.9, weight_decay: 3e-4, on: [all, "!architecture"]}
      - {use: adam, lr: 0.01, beta1: 0.5, on: architecture, scheduled: false, clipped: false}
    schedule: {use: cosine}
    clip_norm: 5
    regularizers: )" + std::string(GetParam().regularizers) +
                                                      "\n    controller: " + GetParam().controller + "\n")
                                 .string();
  const Clock::time_point began = Clock::now();
  const Output o = espalier_command("run -q --save-every 0 " + recipe + " --out " + (folder / "whole").string());
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  ASSERT_EQ(o.status, 0) << o.text;
  std::mt19937 random(11);
  std::uniform_real_distribution<double> uniform(0, 1);
  int kills = 0;
  const fs::path says = folder / "says.txt";
  for (int chain = 0; kills < 3; ++chain) {
    ASSERT_LT(chain, 10) << "the run is over before it can be killed";
    const fs::path run = folder / ("killed" + std::to_string(chain)), last = run / "checkpoints" / "last.safetensors";
    int status = -1;
    for (int life = 0; status != 0; ++life) {
      ASSERT_LT(life, 20) << "it never gets anywhere: " << read_file(says);
      const std::vector<std::string> begin{"run", recipe, "--save-every", "0", "--out", run.string()};
      const std::vector<std::string> go_on{"resume", run.string(), "--save-every", "0"};
      // A kill may fall between the two renames that put a new checkpoint in the place of the last one.
      const bool begun = fs::exists(last) || fs::exists(run / "checkpoints" / "previous.safetensors");
      Child child(begun ? go_on : begin, says);
      if (life < 2) {
        // Some steps of this life, which begin after its first checkpoint.
        std::error_code none;
        const auto before = fs::last_write_time(last, none);
        wait_for(child, [&] {
          const auto now = fs::last_write_time(last, none);
          return !none && now != before;
        });
        std::this_thread::sleep_for(std::chrono::duration<double>(uniform(random) * seconds / 8));
        child.send(SIGKILL);
      }
      status = child.wait();
      if (status == 128 + SIGKILL) {
        ++kills;
      } else {
        ASSERT_EQ(status, 0) << read_file(says);
      }
    }
    expect_same_run(folder / "whole", run);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Controllers, ResumeSearch,
    ::testing::Values(SearchCase{"{use: rarts, lambda: 2, beta: 0.5}"}, SearchCase{"{use: rarts, primary: drawn}"},
                      SearchCase{"{use: darts, order: first, hessian_every: 1}"},
                      SearchCase{"{use: darts, order: second}"}, SearchCase{"milenas"}, SearchCase{"joint"},
                      SearchCase{"{use: rarts, gates: norms}",
                                 "[{use: rvsm, on: all, weight: 1e-4}, {use: l1, on: gates, solver: proximal}]"},
                      SearchCase{"{use: milenas, gates: stem*}", "[{use: rvsm, on: architecture, penalty: l1}]"}),
    [](const auto& chosen) { return std::to_string(chosen.index); });

TEST_F(Resume, EqualsAnUninterruptedRunAfterTwentyKills) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  int kills = 0, in_checkpoint = 0, behind_an_edit = 0;
  for (int chain = 0; kills < 20; ++chain) {
    const fs::path run = *folder_ / ("killed" + std::to_string(chain));
    const fs::path history = run / "history.jsonl";
    const fs::path part = run / "checkpoints" / "last.safetensors.part";
    const auto size = [&] {
      std::error_code none;
      const auto n = fs::file_size(history, none);
      return none ? 0 : n;
    };
    int status = -1;
    for (int life = 0; status != 0; ++life) {
      ASSERT_LT(life, 60) << "it never gets anywhere: " << read_file(*folder_ / "says.txt");
      // The first life may die before it has written its recipe: then there is nothing to go on with.
      const bool begun_before = fs::exists(run / "recipe.yaml");
      if (!begun_before) fs::remove_all(run);
      Child child(begun_before ? resume_command(run) : run_command(run), *folder_ / "says.txt");
      if (life < 6) {
        // Past the start, which is the longest part: a first checkpoint of this life.
        const auto begun = [&, before = fs::exists(run / "checkpoints/last.safetensors")
                                            ? fs::last_write_time(run / "checkpoints/last.safetensors")
                                            : fs::file_time_type::min()] {
          std::error_code none;
          const auto now = fs::last_write_time(run / "checkpoints/last.safetensors", none);
          return !none && now != before;
        };
        if (life > 0) wait_for(child, begun);  // the first life may die before any checkpoint
        std::this_thread::sleep_for(std::chrono::duration<double>(uniform(random) * seconds_ / 4));
        if (life % 3 == 1) wait_for(child, [&] { return fs::exists(part); });
        if (life % 3 == 2) wait_for(child, [&, before = size()] { return size() > before; });
        child.send(SIGKILL);
      }
      status = child.wait();
      if (status == 128 + SIGKILL) {
        ++kills;
        in_checkpoint += fs::exists(part) ? 1 : 0;
        if (fs::exists(run / "checkpoints/last.safetensors")) {
          const Value meta = from_json(load_safetensors(run / "checkpoints/last.safetensors").metadata.at("espalier"));
          behind_an_edit += static_cast<int64_t>(size()) > meta.at("progress").at("files").at("history.jsonl").as_int();
        }
        status = -1;
      } else {
        ASSERT_EQ(status, 0) << read_file(*folder_ / "says.txt");
      }
    }
    expect_same_run(whole(), run);
  }
  EXPECT_GE(in_checkpoint, 2) << "kills while a checkpoint was being written";
  EXPECT_GE(behind_an_edit, 2) << "kills between an edit and the next checkpoint";
}

TEST_F(Resume, SavesAndStopsInOrderWhenAsked) {
  for (const int signal : {SIGTERM, SIGINT}) {
    const fs::path run = *folder_ / ("signal" + std::to_string(signal));
    auto command = run_command(run);
    *std::ranges::find(command, "0") = "1000";  // no checkpoint but at the ends of stages and when asked
    Child child(command, *folder_ / "says.txt");
    wait_for(child, [&] { return fs::exists(run / "metrics.jsonl") && fs::file_size(run / "metrics.jsonl") > 0; });
    child.send(signal);
    ASSERT_EQ(child.wait(), 128 + signal) << read_file(*folder_ / "says.txt");
    const Value summary = from_json(read_file(run / "summary.json"));
    EXPECT_EQ(summary.at("status").as_string(), "interrupted");
    const Value at = from_json(load_safetensors(run / "checkpoints/last.safetensors").metadata.at("espalier"));
    EXPECT_GT(at.at("progress").at("steps_done").as_int(), 0) << "a checkpoint was made when it was asked to stop";
    ASSERT_EQ(Child(resume_command(run), *folder_ / "says.txt").wait(), 0) << read_file(*folder_ / "says.txt");
    expect_same_run(whole(), run);
  }
}

// A copy of a run that was stopped in its second stage.
class Damaged : public Resume {
 protected:
  void SetUp() override {
    run_ = *folder_ / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    Child child(run_command(run_), *folder_ / "says.txt");
    wait_for(child, [&] { return fs::exists(run_ / "metrics.jsonl") && lines_of(run_ / "metrics.jsonl").size() > 2; });
    child.send(SIGTERM);
    ASSERT_EQ(child.wait(), 128 + SIGTERM) << read_file(*folder_ / "says.txt");
  }
  fs::path checkpoint(const std::string& name) const { return run_ / "checkpoints" / (name + ".safetensors"); }
  Output resume(const std::string& flags = "") const { return espalier_command("resume " + run_.string() + flags); }
  fs::path run_;
};

TEST_F(Damaged, TakesThePreviousCheckpointWhereTheLastIsCutShort) {
  fs::resize_file(checkpoint("last"), fs::file_size(checkpoint("last")) - 100);
  const Output o = resume();
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("checkpoints/last.safetensors"));
  EXPECT_THAT(o.text, HasSubstr("Going on from previous.safetensors"));
  expect_same_run(whole(), run_);
}

TEST_F(Damaged, FindsOneFlippedByteAnywhere) {
  const std::string good = read_file(checkpoint("last"));
  std::mt19937 random(3);
  const size_t header = 8 + static_cast<size_t>(*reinterpret_cast<const uint64_t*>(good.data()));
  std::vector<size_t> places{0, 7, 8, 20, 40, header - 1, header, good.size() - 1};
  for (int i = 0; i < 60; ++i) places.push_back(std::uniform_int_distribution<size_t>(0, good.size() - 1)(random));
  for (int i = 0; i < 60; ++i) places.push_back(std::uniform_int_distribution<size_t>(0, header)(random));
  for (const size_t at : places) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
    write_file(*folder_ / "flipped.safetensors", bad);
    bool found = false;
    try {
      found = !load_safetensors(*folder_ / "flipped.safetensors").checked;  // a checkpoint without one is refused too
    } catch (const std::exception& e) {
      found = std::string(e.what()).find("flipped.safetensors") != std::string::npos;
    }
    EXPECT_TRUE(found) << "byte " << at << " of " << good.size();
  }
  std::string bad = good;
  bad[header + 1000] = static_cast<char>(bad[header + 1000] ^ 4);
  write_file(checkpoint("last"), bad);
  const Output o = resume();
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("last.safetensors: not a valid safetensors file: its checksum is"));
  expect_same_run(whole(), run_);
}

TEST_F(Damaged, GoesBackToTheBestWhereAsked) {
  const Output o = resume(" --from best");
  EXPECT_EQ(o.status, 0) << o.text;
  expect_same_run(whole(), run_);
}

// What was asked for holds also when it is stopped at once, before anything is saved.
TEST_F(Damaged, StaysWhereItWentBackTo) {
  Child child({"resume", run_.string(), "--from", "best", "--save-every", "1000"}, *folder_ / "says.txt");
  wait_for(child, [&] { return !fs::exists(run_ / "summary.json"); });
  child.send(SIGKILL);
  child.wait();
  EXPECT_EQ(resume().status, 0);
  expect_same_run(whole(), run_);
}

TEST_F(Damaged, ChangesNothingButStages) {
  const Output o = resume(" --set network.conv1=32");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("only the stages"));
}

TEST_F(Damaged, SaysSoWhereNoCheckpointIsGood) {
  for (const char* name : {"last", "previous"}) write_file(checkpoint(name), "nothing");
  const Output o = resume();
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("no checkpoint is good"));
  EXPECT_THAT(o.text, HasSubstr("recipe.yaml"));
}

TEST_F(Damaged, WarnsWhereTheMachineDiffers) {
  const Output o = resume(" --threads 1");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("threads: 2 before, 1 now"));
}

TEST_F(Damaged, IsRefusedToASecondProcess) {
  Child first(resume_command(run_), *folder_ / "first.txt");
  wait_for(first, [&] { return !fs::exists(run_ / "summary.json"); });  // gone once it has begun
  first.send(SIGSTOP);
  const Output second = resume();
  first.send(SIGCONT);
  EXPECT_EQ(first.wait(), 0);
  EXPECT_NE(second.status, 0);
  EXPECT_THAT(second.text, HasSubstr("another process"));
}

TEST_F(Damaged, SaysWhichDataIsMissing) {
  const fs::path data = *folder_ / "data", run = *folder_ / "with-data";
  folder_->write("data/pixels.txt", "");
  const auto recipe = folder_->write("with-data.yaml", R"(
espalier: 1
name: with-data
data: {use: from_file, batch: 2}
network: {use: mlp, hidden: [8]}
stages: [{name: train, epochs: 2000, optimizer: {use: sgd, lr: 0.01}}]
)");
  Child child({"run", recipe.string(), "--plugins", ESPALIER_FIXTURE_DIR "/libresumable.so", "--data", data.string(),
               "--out", run.string()},
              *folder_ / "says.txt");
  wait_for(child, [&] { return fs::exists(run / "metrics.jsonl") && fs::file_size(run / "metrics.jsonl") > 0; });
  child.send(SIGTERM);
  ASSERT_EQ(child.wait(), 128 + SIGTERM) << read_file(*folder_ / "says.txt");
  fs::rename(data, *folder_ / "moved");
  const std::string before = read_file(run / "checkpoints/last.safetensors");
  const Output o = espalier_command("resume " + run.string());
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("pixels.txt is in no data folder"));
  EXPECT_EQ(read_file(run / "checkpoints/last.safetensors"), before);
  // Found elsewhere, it goes on.
  EXPECT_EQ(espalier_command("resume -q " + run.string() + " --set stages.train.epochs=3 --data " +
                             (*folder_ / "moved").string())
                .status,
            0);
}

// A disk of 300 kB: room for the first checkpoints, not for those of the network once it is there twice.
TEST_F(Resume, KeepsAGoodStateWhereTheDiskFillsUp) {
  std::string apart;  // from the system's mounts: as root, or as somebody who plays root
  for (const char* flags : {"-m", "-rm"}) {
    const std::string command = std::string("unshare ") + flags;
    if (apart.empty() && shell(command + " mount -t tmpfs none /mnt").status == 0) apart = command;
  }
  if (apart.empty()) GTEST_SKIP() << "no right to mount a small disk (unshare -rm)";
  const fs::path disk = *folder_ / "disk";
  fs::create_directory(disk);
  const std::string script = "mount -t tmpfs -o size=300k none " + disk.string() + " && head -c 60000 /dev/zero > " +
                             (disk / "other").string() + "\n" ESPALIER_PROGRAM " run " + recipe() + plugins +
                             " --save-every 0 --out " + (disk / "run").string() + "\necho status $?\nls " +
                             (disk / "run/checkpoints").string() + "\nrm " + (disk / "other").string() +
                             "; mount -o remount,size=3000k " + disk.string() + "\n" ESPALIER_PROGRAM " resume " +
                             (disk / "run").string() + "\necho status $?\ncp -r " + (disk / "run").string() + " " +
                             (*folder_ / "saved").string();
  const Output o = shell(apart + " sh -c '" + script + "'");
  EXPECT_THAT(o.text, HasSubstr("No space left on device"));
  EXPECT_THAT(o.text, HasSubstr("espalier resume"));
  const auto first = o.text.find("status 1");
  ASSERT_NE(first, std::string::npos) << o.text;
  EXPECT_EQ(o.text.find(".part", first), std::string::npos) << "nothing half-written: " << o.text;
  EXPECT_NE(o.text.find("status 0", first), std::string::npos) << o.text;
  expect_same_run(whole(), *folder_ / "saved");
}

TEST_F(Resume, KeepsTheStateBeforeALossThatIsNotANumber) {
  const auto recipe = folder_->write("wild.yaml", R"(
espalier: 1
name: wild
data: {use: synthetic, count: 200, batch: 20}
network: {use: mlp, hidden: [8]}
stages:
  - {name: tame, epochs: 1, optimizer: {use: sgd, lr: 0.01}}
  - {name: wild, epochs: 2, optimizer: {use: sgd, lr: 1.0e+25}}
)");
  const std::string run = (*folder_ / "wild").string();
  const Output o = espalier_command("run " + recipe.string() + " --save-every 0 --out " + run);
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("stage 'wild', epoch 1, step"));
  EXPECT_THAT(o.text, HasSubstr("smaller learning rate"));
  EXPECT_THAT(o.text, HasSubstr("espalier resume " + run));
  for (const auto& [name, tensor] : load_safetensors(run + "/checkpoints/last.safetensors").tensors)
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  const Output again = espalier_command("resume " + run + " --from previous --set stages.wild.optimizers.sgd.lr=0.01");
  EXPECT_EQ(again.status, 0) << again.text;
  EXPECT_THAT(again.text, HasSubstr("the recipe changes here"));
  EXPECT_THAT(read_file(run + "/recipe.yaml"), HasSubstr("0.01"));
}

TEST_F(Resume, SaysThatMemoryIsShortAndKeepsTheState) {
  const auto recipe = folder_->write("large.yaml", R"(
espalier: 1
name: large
data: {use: synthetic, count: 200, batch: 20}
network: {use: mlp, hidden: [8]}
stages:
  - {name: small, epochs: 1, optimizer: {use: sgd, lr: 0.01}}
  - {name: large, epochs: 1, optimizer: {use: sgd, lr: 0.01}, network: {use: mlp, hidden: [100000, 2000000]}}
)");
  const std::string run = (*folder_ / "large").string();
  const Output o = espalier_command("run " + recipe.string() + " --out " + run);
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("can't allocate memory"));
  EXPECT_THAT(o.text, HasSubstr("smaller network"));
  EXPECT_THAT(o.text, HasSubstr("espalier resume " + run));
  EXPECT_EQ(o.text.find("frame #"), std::string::npos) << "no stack of LibTorch's: " << o.text;
  const Value at = from_json(load_safetensors(run + "/checkpoints/last.safetensors").metadata.at("espalier"));
  EXPECT_EQ(at.at("progress").at("stage").as_int(), 1) << "the first stage is kept";
}

// Images of a folder, read by threads while the run trains: the same run with any number of them, and where it was
// stopped in the middle of an epoch.
TEST(ResumeOfImages, EqualsAnUninterruptedRunWithOtherThreads) {
  const TempFolder folder;
  for (uint32_t n = 0; n < 48; ++n) {
    const std::string name = std::string(n % 2 == 0 ? "dark" : "light") + "/" + std::to_string(n);
    samples::Bytes pixels = samples::noise(40 + static_cast<int>(n), 50, n);
    for (uint8_t& p : pixels) p = static_cast<uint8_t>(p / 2 + (n % 2 == 0 ? 0 : 127));
    const int width = 40 + static_cast<int>(n);
    samples::write(
        folder / ("images/" + std::string(n < 36 ? "train/" : "val/") + name + (n % 3 == 0 ? ".png" : ".JPEG")),
        n % 3 == 0 ? samples::png(width, 50, pixels) : samples::jpeg(width, 50, pixels));
  }
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: images
threads: 1
data: {use: image_folder, folder: images, classes: 2, size: 24, batch: 2, eval_batch: 7, validation: 0.25,
       augment: [crop: 2, flip]}
network: {use: lenet5, conv1: 4, conv2: 6, hidden: 10}
stages: [{name: train, epochs: 2, optimizer: {use: sgd, lr: 0.02, momentum: 0.9}}]
)");
  const auto command = [&](const std::string& workers, const fs::path& out) {
    return std::vector<std::string>{
        "run", recipe.string(), "--data",    folder.path().string(), "--set", "data.workers=" + workers, "--save-every",
        "0",   "--out",         out.string()};
  };
  const fs::path one = folder / "one", four = folder / "four", stopped = folder / "stopped", says = folder / "says.txt";
  ASSERT_EQ(Child(command("1", one), says).wait(), 0) << read_file(says);
  ASSERT_EQ(Child(command("4", four), says).wait(), 0) << read_file(says);
  // 27 images for training, 14 steps in an epoch. After the first few it is told to stop.
  Child child(command("3", stopped), says);
  wait_for(child, [&] { return fs::exists(stopped / "checkpoints/previous.safetensors"); });
  child.send(SIGTERM);
  const int status = child.wait();
  ASSERT_EQ(status, 128 + SIGTERM) << read_file(says);
  const Value at = from_json(load_safetensors(stopped / "checkpoints/last.safetensors").metadata.at("espalier"));
  EXPECT_LT(at.at("progress").at("steps_done").as_int(), 28);
  EXPECT_NE(at.at("progress").at("step").as_int(), 0) << "in the middle of an epoch";
  ASSERT_EQ(Child({"resume", stopped.string()}, says).wait(), 0) << read_file(says);
  const std::string model = read_file(one / "model.safetensors");
  EXPECT_EQ(lines_of(one / "metrics.jsonl").size(), 2U);
  for (const fs::path& other : {four, stopped}) {
    EXPECT_TRUE(read_file(other / "model.safetensors") == model) << other;
    EXPECT_TRUE(timeless_lines(other / "metrics.jsonl") == timeless_lines(one / "metrics.jsonl")) << other;
  }
  // Another seed is another model: the bytes above do depend on what was read.
  std::vector<std::string> seeded = command("1", folder / "seeded");
  seeded.insert(seeded.end(), {"--seed", "1"});
  ASSERT_EQ(Child(seeded, says).wait(), 0) << read_file(says);
  EXPECT_FALSE(read_file(folder / "seeded/model.safetensors") == model);

  samples::write(folder / "images/train/dark/0.png", {1, 2, 3});
  const Output broken = espalier_command("run " + recipe.string() + " --data " + folder.path().string() + " --out " +
                                         (folder / "broken").string());
  EXPECT_EQ(broken.status, 1);
  EXPECT_THAT(broken.text,
              HasSubstr((folder / "images/train/dark/0.png").string() + ": is no JPEG, PNG, WebP, BMP or TIFF file"));
}

TEST_F(Resume, OfAStoppedSweepEqualsTheWholeOne) {
  const auto recipe = folder_->write("sweep.yaml", std::string(everything) + "matrix: {seed: [0, 1, 2]}\n");
  const fs::path stopped = *folder_ / "stopped", uninterrupted = *folder_ / "uninterrupted";
  const std::vector<std::string> rest{"--plugins", ESPALIER_FIXTURE_DIR "/libresumable.so", "--out"};
  const auto command = [&](const fs::path& out) {
    return std::vector<std::string>{"run", recipe.string(), rest[0], rest[1], rest[2], out.string()};
  };
  ASSERT_EQ(Child(command(uninterrupted), *folder_ / "says.txt").wait(), 0) << read_file(*folder_ / "says.txt");
  Child child(command(stopped), *folder_ / "says.txt");
  const fs::path second = stopped / "seed=1" / "metrics.jsonl";
  wait_for(child, [&] { return fs::exists(second) && fs::file_size(second) > 0; });
  child.send(SIGTERM);
  ASSERT_EQ(child.wait(), 128 + SIGTERM) << read_file(*folder_ / "says.txt");
  EXPECT_EQ(from_json(read_file(stopped / "seed=1" / "summary.json")).at("status").as_string(), "interrupted");
  EXPECT_FALSE(fs::exists(stopped / "seed=2"));
  const Output o = espalier_command("resume " + stopped.string());
  ASSERT_EQ(o.status, 0) << o.text;
  for (const char* run : {"seed=0", "seed=1", "seed=2"}) expect_same_run(uninterrupted / run, stopped / run);
}

TEST_F(Resume, RefusesWhatIsNoRun) {
  for (const std::string& wrong : {std::string("nowhere"), folder_->path().string(), recipe()}) {
    const Output o = espalier_command("resume " + wrong);
    EXPECT_EQ(o.status, 1) << wrong;
    EXPECT_THAT(o.text, HasSubstr(wrong));
  }
  const Output finished = espalier_command("resume " + whole().string());
  EXPECT_EQ(finished.status, 0);
  EXPECT_THAT(finished.text, HasSubstr("finished"));
}

// A finished run, trained on, is the run that it would have been: with a constant learning rate nothing depends on how
// many epochs were meant.
class Further : public ::testing::Test {
 protected:
  void SetUp() override {
    recipe_ = folder_.write("r.yaml", R"(
espalier: 1
name: further
threads: 2
data: {use: synthetic, count: 200, batch: 20}
network: {use: lenet5, conv1: 4, conv2: 6, hidden: 10}
stages:
  - {name: first, epochs: 1, optimizer: {use: adam, lr: 0.002}}
  - name: train
    epochs: 2
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    controller: {use: l1_prune, ratio: 0.5, when: end}
)");
    const Output o = espalier_command("run -q " + recipe_.string() + " --out " + run());
    ASSERT_EQ(o.status, 0) << o.text;
  }
  std::string run() const { return (folder_ / "run").string(); }
  Value summary(const std::string& of = "run") const { return from_json(read_file(folder_ / of / "summary.json")); }

  TempFolder folder_;
  fs::path recipe_;
};

TEST_F(Further, EqualsALongerRun) {
  const std::string short_model = read_file(folder_ / "run" / "model.safetensors");
  const Output told = espalier_command("resume " + run());
  EXPECT_EQ(told.status, 0);
  const std::string advice = "espalier resume " + run() + " --set stages.train.epochs=4";
  ASSERT_THAT(told.text, HasSubstr(advice));
  ASSERT_EQ(espalier_command("run -q " + recipe_.string() + " --set stages.train.epochs=4 --out " +
                             (folder_ / "long").string())
                .status,
            0);
  const Output o = espalier_command(advice.substr(9));
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(read_file(folder_ / "run" / "model.safetensors"), read_file(folder_ / "long" / "model.safetensors"));
  EXPECT_EQ(read_file(folder_ / "run" / "history.jsonl"), read_file(folder_ / "long" / "history.jsonl"));
  EXPECT_TRUE(timeless_lines(folder_ / "run" / "metrics.jsonl") == timeless_lines(folder_ / "long" / "metrics.jsonl"));
  EXPECT_EQ(summary().at("train_cost").as_double(), summary("long").at("train_cost").as_double());
  EXPECT_EQ(read_file(folder_ / "run" / "finished-1" / "model.safetensors"), short_model) << "nothing is lost";
}

TEST_F(Further, SaysWhereNothingIsLeftToDo) {
  for (const std::string flags : {"--set stages.first.epochs=5", "--set stages.train.optimizers.sgd.lr=0.01"}) {
    const Output o = espalier_command("resume " + run() + " " + flags);
    EXPECT_EQ(o.status, 1) << flags;
    EXPECT_THAT(o.text, HasSubstr("nothing is left to do"));
    EXPECT_THAT(o.text, HasSubstr("espalier resume " + run() + " --set stages.train.epochs=4"));
  }
  const Output adam =
      espalier_command("resume " + run() + " --set stages.train.epochs=4 --set stages.train.optimizers=[adam]");
  EXPECT_EQ(adam.status, 1);
  EXPECT_THAT(adam.text, HasSubstr("not be replaced by others that keep other states"));
  // Here the best is the network that the stage's end left: no epoch had that structure.
  const Output best = espalier_command("resume " + run() + " --from best");
  EXPECT_EQ(best.status, 1) << best.text;
  EXPECT_THAT(best.text, HasSubstr("which: best}"));
  EXPECT_EQ(summary().at("status").as_string(), "finished");
  EXPECT_FALSE(fs::exists(folder_ / "run" / "finished-1"));
}

// Six epochs of a learning rate that jumps about: the best is not the last.
TEST(Best, IsExportedUsedAndGoneOnFrom) {
  const TempFolder folder;
  const std::string head = "espalier: 1\nname: best\nthreads: 2\ndata: {use: synthetic, count: 100, batch: 10}\n";
  const auto recipe = folder.write("r.yaml", head + R"(
network: {use: mlp, hidden: [6]}
stages: [{name: train, epochs: 6, optimizer: {use: sgd, lr: 0.9, momentum: 0.5}}]
)");
  // A seed whose best epoch lies in the middle.
  fs::path run;
  Value summary;
  for (int seed = 0; run.empty() && seed < 10; ++seed) {
    const fs::path out = folder / ("seed" + std::to_string(seed));
    ASSERT_EQ(
        espalier_command("run -q " + recipe.string() + " --seed " + std::to_string(seed) + " --out " + out.string())
            .status,
        0);
    summary = from_json(read_file(out / "summary.json"));
    if (summary.at("metric").at("best").as_double() > summary.at("metrics").at("accuracy").as_double()) run = out;
  }
  ASSERT_FALSE(run.empty());
  const std::string model = read_file(run / "model.safetensors");
  const auto used = folder.write(
      "used.yaml", head + "network: {from: " + run.string() + ", which: best}\nstages: [{name: look, epochs: 0}]\n");
  ASSERT_EQ(espalier_command("run -q " + used.string() + " --out " + (folder / "used").string()).status, 0);
  EXPECT_EQ(from_json(read_file(folder / "used" / "summary.json")).at("metrics").at("accuracy").as_double(),
            summary.at("metric").at("best").as_double());

  const Output exported = espalier_command("export " + run.string() + " --from best --to safetensors --out " +
                                           (folder / "best.safetensors").string());
  ASSERT_EQ(exported.status, 0) << exported.text;
  const auto best = load_safetensors(folder / "best.safetensors").tensors;
  const auto now = load_safetensors(folder / "used" / "model.safetensors").tensors;
  ASSERT_EQ(best.size(), now.size());
  for (size_t i = 0; i < best.size(); ++i) EXPECT_TRUE(best[i].second.equal(now[i].second)) << best[i].first;

  // From the best epoch on everything happens again.
  const Output again = espalier_command("resume -q " + run.string() + " --from best");
  EXPECT_EQ(again.status, 0) << again.text;
  EXPECT_EQ(read_file(run / "model.safetensors"), model);
  EXPECT_EQ(lines_of(run / "metrics.jsonl").size(), 6U);
}

// An image that came to the folder after the run began.
TEST(ChangedData, AreRefusedUnlessTheyAreMeant) {
  const TempFolder folder;
  const auto image = [&](const std::string& name, uint32_t seed) {
    samples::write(folder / ("images/" + name), samples::png(16, 16, samples::noise(16, 16, seed)));
  };
  for (uint32_t n = 0; n < 12; ++n)
    image(std::string(n < 8 ? "train/" : "val/") + (n % 2 ? "a/" : "b/") + std::to_string(n) + ".png", n);
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: images
threads: 1
data: {use: image_folder, folder: images, classes: 2, size: 16, batch: 4}
network: {use: mlp, hidden: [4]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.02}}]
)");
  const std::string run = (folder / "run").string();
  const Output o =
      espalier_command("run -q " + recipe.string() + " --data " + folder.path().string() + " --out " + run);
  ASSERT_EQ(o.status, 0) << o.text;
  const Value record = from_json(read_file(folder / "run" / "data.json"));
  EXPECT_EQ(record.as_list()[0].at("train").at("samples").as_int(), 8);

  const std::string further = "resume -q " + run + " --set stages.train.epochs=2";
  image("train/a/another.png", 77);
  const Output refused = espalier_command(further);
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.text, HasSubstr("train: 8 samples before, 9 now"));
  EXPECT_THAT(refused.text, HasSubstr("--changed-data"));
  EXPECT_EQ(from_json(read_file(folder / "run" / "summary.json")).at("status").as_string(), "finished")
      << "what is refused changes nothing";
  EXPECT_FALSE(fs::exists(folder / "run" / "finished-1"));
  // As many as before, of which one is another.
  fs::remove(folder / "images/train/a/1.png");
  EXPECT_THAT(espalier_command(further).text, HasSubstr("train: 8 samples as before, but others"));
  const Output meant = espalier_command(further + " --changed-data");
  EXPECT_EQ(meant.status, 0) << meant.text;
  EXPECT_THAT(meant.text, HasSubstr("the data are not those that the run began with"));
}

}  // namespace
}  // namespace espalier
