// One run trained by several processes: as by one, also across edits, after signals and kills, and with another number
// of processes.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/max.h>
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

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
using ::testing::AllOf;
using ::testing::HasSubstr;

// A port that nobody uses at the moment.
std::string free_port() {
  const int s = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(s, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(s, reinterpret_cast<sockaddr*>(&address), &size);
  close(s);
  return std::to_string(ntohs(address.sin_port));
}

// The processes of one run, as torchrun starts them. What process 0 and the others say goes to files. shared_memory: on
// or off, or those of process 0 and of the others.
class Together {
 public:
  Together(size_t count, const std::vector<std::string>& arguments, const TempFolder& folder,
           const std::vector<std::string>& shared_memory = {"on"})
      : says_{folder / "leader.txt", folder / "others.txt"} {
    for (const fs::path& file : says_) fs::remove(file);
    const std::string port = free_port();
    for (size_t i = 0; i < count; ++i) {
      processes_.emplace_back(
          arguments, says_[i == 0 ? 0 : 1],
          std::vector<std::string>{
              "RANK=" + std::to_string(i), "LOCAL_RANK=" + std::to_string(i), "WORLD_SIZE=" + std::to_string(count),
              "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port, "OMP_NUM_THREADS=1", "ESPALIER_STORE=none",
              "ESPALIER_SHARED_MEMORY=" + (i == 0 ? shared_memory.front() : shared_memory.back())});
    }
  }
  Child& operator[](size_t i) { return *std::next(processes_.begin(), static_cast<std::ptrdiff_t>(i)); }
  // The exit status of each.
  std::vector<int> wait() {
    std::vector<int> all;
    for (Child& c : processes_) all.push_back(c.wait());
    return all;
  }
  std::string leader() const { return fs::exists(says_[0]) ? read_file(says_[0]) : ""; }
  std::string others() const { return fs::exists(says_[1]) ? read_file(says_[1]) : ""; }

 private:
  fs::path says_[2];
  std::list<Child> processes_;
};

std::vector<std::string> run_arguments(const fs::path& recipe, const fs::path& out) {
  std::vector<std::string> all{"run", recipe.string(), "--out", out.string()};
  for (const char* name : {"probe_growth", "probe_removal", "resumable", "apart"}) {
    all.emplace_back("--plugins");
    all.push_back(std::string(ESPALIER_FIXTURE_DIR "/lib") + name + ".so");
  }
  return all;
}

std::string command_of(const std::vector<std::string>& arguments) {
  std::string all;
  for (const std::string& a : arguments) all += "'" + a + "' ";
  return all;
}

std::vector<int> zeros(size_t n) {
  return std::vector<int>(n, 0);
}

// The losses of all epochs, and all final values, agree: `rounding` is relative to the largest of each.
void expect_like(const fs::path& one, const fs::path& several, double rounding) {
  const std::vector<Value> a = lines_of(one / "metrics.jsonl"), b = lines_of(several / "metrics.jsonl");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for (const Value::Entry& e : a[i].as_map()) {
      if (!e.value.is_number() || e.key == "seconds" || e.key == "images_per_second" || e.key.ends_with("memory_mb"))
        continue;
      const double wanted = e.value.as_double();
      EXPECT_NEAR(b[i].at(e.key).as_double(), wanted, rounding * std::max(1.0, std::abs(wanted)))
          << e.key << " of line " << i + 1;
    }
  }
  EXPECT_EQ(read_file(one / "graph.json"), read_file(several / "graph.json"));
  const TensorFile x = load_safetensors(one / "model.safetensors"), y = load_safetensors(several / "model.safetensors");
  ASSERT_EQ(x.tensors.size(), y.tensors.size());
  for (size_t i = 0; i < x.tensors.size(); ++i) {
    ASSERT_EQ(x.tensors[i].second.sizes(), y.tensors[i].second.sizes());
    const double largest = std::max(1e-3, x.tensors[i].second.abs().max().item<double>());
    EXPECT_LE((x.tensors[i].second - y.tensors[i].second).abs().max().item<double>(), rounding * largest)
        << x.tensors[i].first;
  }
}

// In float64 the rounding of another order of sums is 1e-16 a step, and training multiplies it as it does every
// difference. What a wrong share or a sample too many makes is larger than 1e-6.
constexpr double rounding = 1e-9;

// 204 steps, of 21 samples, which two processes cannot divide evenly, and of 9 at the end of an epoch; filters that are
// added and removed; an average that edits follow; a second pass of gradients of one step.
constexpr const char* growing = R"(
espalier: 1
name: growing
precision: float64
threads: 1
data: {use: synthetic, size: 16, classes: 4, count: 240, batch: 21, eval_batch: 16, augment: [crop: 1, flip]}
network: {use: lenet5, conv1: 3, conv2: 4, hidden: 12}
stages:
  - name: grow
    epochs: 8
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    regularizers: [{use: l2, weight: 1e-3}]
    clip_norm: 1
    gradient_norm: true
    controller: {use: probe_growth, count: 1, init: random}
  - name: keep
    epochs: 9
    accumulate: 2
    optimizer: {use: adam, lr: 0.002}
    controller: keeper
    ema: {decay: 0.9, evaluate: beside}
    data: {use: synthetic, size: 16, classes: 4, count: 240, batch: 10, eval_batch: 16, augment: [crop: 1, flip]}
)";

class Parallel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    folder_->write("growing.yaml", growing);
    const Output o = espalier_command(command_of(run_arguments(recipe(), one())) + "-q");
    if (o.status != 0) GTEST_FAIL() << o.text;
  }
  static void TearDownTestSuite() { delete folder_; }
  static fs::path recipe() { return *folder_ / "growing.yaml"; }
  static fs::path one() { return *folder_ / "one"; }
  static TempFolder* folder_;
};
TempFolder* Parallel::folder_ = nullptr;

TEST_F(Parallel, TwoProcessesTrainAsOneDoesAcrossGrowthAndRemoval) {
  // By memory that both share, as on one machine, and by Gloo, as on several, or where one of them wants that.
  const std::vector<std::vector<std::string>> ways{{"on"}, {"off"}, {"off", "on"}, {"on", "off"}};
  for (const std::vector<std::string>& shared_memory : ways) {
    const std::string way = shared_memory.front() + "-" + shared_memory.back();
    SCOPED_TRACE(way);
    const fs::path run = *folder_ / ("two-" + way);
    Together two(2, run_arguments(recipe(), run), *folder_, shared_memory);
    EXPECT_EQ(two.wait(), zeros(2)) << two.leader() << two.others();
    EXPECT_THAT(two.leader(), HasSubstr("2 processes"));
    EXPECT_EQ(two.others(), "") << "only process 0 says how it goes";
    expect_like(one(), run, rounding);
    EXPECT_GE(lines_of(run / "history.jsonl").size(), 10U);
    EXPECT_EQ(from_json(read_file(run / "environment.json")).at("processes").as_int(), 2);
  }
}

TEST_F(Parallel, GoesOnAfterSignalsAndKillsAlsoWithOtherNumbersOfProcesses) {
  const fs::path run = *folder_ / "stopped";
  const auto lines = [&] { return fs::exists(run / "metrics.jsonl") ? lines_of(run / "metrics.jsonl").size() : 0; };
  const auto wait_for_lines = [&](Together& all, size_t n) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (lines() < n && all[0].poll() < 0 && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  const std::vector<std::string> resume{"resume", run.string(), "--save-every", "0"};
  {
    std::vector<std::string> begin = run_arguments(recipe(), run);
    begin.insert(begin.end(), {"--save-every", "0"});
    Together two(2, begin, *folder_);
    wait_for_lines(two, 2);
    two[1].send(SIGTERM);
    EXPECT_EQ(two.wait(), (std::vector<int>{128 + SIGTERM, 128 + SIGTERM})) << two.leader() << two.others();
    EXPECT_EQ(from_json(read_file(run / "summary.json")).at("status").as_string(), "interrupted");
  }
  {
    Together two(2, resume, *folder_);
    wait_for_lines(two, lines() + 2);
    two[1].send(SIGKILL);
    EXPECT_EQ(two.wait(), (std::vector<int>{1, 128 + SIGKILL}));
    EXPECT_THAT(two.leader(),
                AllOf(HasSubstr("process 1 of 2 has ended"), HasSubstr("espalier resume " + run.string())));
  }
  {
    Together three(3, resume, *folder_, {"off"});
    wait_for_lines(three, lines() + 2);
    three[0].send(SIGKILL);
    EXPECT_EQ(three.wait(), (std::vector<int>{128 + SIGKILL, 1, 1}));
    EXPECT_THAT(three.others(), HasSubstr("process 0 of 3 has ended"));
  }
  const Output o = espalier_command("resume -q " + run.string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("processes: 2 before, 1 now"));
  expect_like(one(), run, rounding);
}

// Batch norms of the whole batch, channels that go in the middle of epochs, gates that are folded.
TEST(ParallelNorms, SynchronisedBatchNormsAreThoseOfOneProcess) {
  const TempFolder folder;
  const std::string text = R"(
espalier: 1
name: norms
threads: 1
data: {use: synthetic, size: 8, channels: 3, classes: 4, count: 120, batch: 13, augment: [flip]}
network: {use: resnet20, width: 0.25, blocks: [1, 1, 1], shortcut: none}
stages:
  - name: train
    epochs: 3
    optimizer: {use: sgd, lr: 0.02, momentum: 0.9}
    regularizers: [{use: l1, on: gates, weight: 0.01}]
)";
  const auto with = [&](const std::string& name, const std::string& keys, const char* tau) {
    return folder.write(name + ".yaml",
                        keys + text + "    controller: {use: probe_removal, every: 7, tau: " + tau + "}\n");
  };
  const auto two = [&](const fs::path& recipe, const std::string& name) {
    Together both(2, run_arguments(recipe, folder / name), folder);
    EXPECT_EQ(both.wait(), zeros(2)) << both.leader() << both.others();
  };
  const auto loss = [&](const std::string& run) {
    return lines_of(folder / run / "metrics.jsonl").at(0).at("loss").as_double();
  };
  const fs::path recipe = with("exact", "precision: float64", "0.95");
  const Output o = espalier_command(command_of(run_arguments(recipe, folder / "one")) + "-q");
  ASSERT_EQ(o.status, 0) << o.text;
  two(recipe, "exact");
  expect_like(folder / "one", folder / "exact", rounding);
  EXPECT_GE(lines_of(folder / "exact" / "history.jsonl").size(), 15U) << "gates in, channels out, gates folded";
  // The fused passes of float32. What rounds to another side of zero before a ReLU has another gradient, so some steps
  // are compared, roughly; parts_test.cpp compares one of them to the last digits. Removing nothing, since a channel at
  // the threshold might go here and stay there. Batch norms of six samples instead of thirteen make four times as much.
  two(with("fused", "precision: float32", "0"), "fused");
  EXPECT_NEAR(loss("fused"), loss("one"), 2e-3);
  two(with("own", "precision: float64\nbatch_norm: per_process", "0.95"), "own");
  EXPECT_GT(std::abs(loss("own") - loss("one")), 4e-3) << "each process normalises its own part";
}

class ParallelFaults : public ::testing::Test {
 protected:
  std::string fails(const std::string& controller) {
    const fs::path recipe = folder_.write("r.yaml", R"(
espalier: 1
name: apart
threads: 1
data: {use: synthetic, size: 16, count: 40, batch: 10}
network: {use: lenet5, conv1: 4, conv2: 3, hidden: 5}
stages: [{name: train, epochs: 2, optimizer: {use: sgd, lr: 0.05}, controller: )" +
                                                        controller + "}]\n");
    Together two(2, run_arguments(recipe, folder_ / "run"), folder_);
    status_ = two.wait();
    return two.leader() + two.others();
  }
  TempFolder folder_;
  std::vector<int> status_;
};

TEST_F(ParallelFaults, AnEditOfOneProcessAloneEndsTheRun) {
  EXPECT_THAT(fails("{use: apart, how: edits}"), HasSubstr("the processes of this run do different things"));
  EXPECT_EQ(status_, (std::vector<int>{1, 1}));
}

TEST_F(ParallelFaults, ValuesThatDifferEndTheRunAndNameTheProcess) {
  EXPECT_THAT(fails("{use: apart, how: values}"), HasSubstr("process 1 differs from process 0 in the values"));
  EXPECT_EQ(status_, (std::vector<int>{1, 1}));
}

TEST_F(ParallelFaults, OfDifferentEditsThoseOfProcessZeroAreCarriedOut) {
  EXPECT_THAT(fails("{use: apart, how: positions}"),
              HasSubstr("decided on other edits in process 1 than in process 0, whose edits are carried out"));
  ASSERT_EQ(status_, zeros(2));
  const Value edit = lines_of(folder_ / "run" / "history.jsonl")[0].at("edits").as_list().front();
  EXPECT_THAT(to_json(edit), HasSubstr("[1,2,3]")) << "the filter 0 is gone";
}

TEST_F(ParallelFaults, AComponentThatNeedsWholeBatchesIsRefused) {
  EXPECT_THAT(fails("whole"), AllOf(HasSubstr("r.yaml:7:"), HasSubstr("works in one process only: it compares all "
                                                                      "samples of a batch with each other")));
  EXPECT_EQ(status_, (std::vector<int>{1, 1}));
  EXPECT_FALSE(fs::exists(folder_ / "run")) << "nothing was begun";
}

}  // namespace
}  // namespace espalier
