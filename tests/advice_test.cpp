// What messages advise can be done: their commands are taken from the text and run.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "subprocess.h"
#include "system/files.h"
#include "system/text.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

// The command of a message that begins so, up to the end of its line, to a backquote or to a bracket.
std::string advised(const Output& o, const std::string& start) {
  const size_t from = o.text.find(start);
  EXPECT_NE(from, std::string::npos) << start << " in: " << o.text;
  if (from == std::string::npos) return "--version";
  const size_t to = o.text.find_first_of("\n`(", from);
  return o.text.substr(from + std::string("espalier ").size(), to - from - std::string("espalier ").size());
}

class Advice : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.write("r.yaml", R"(
espalier: 1
name: advice
threads: 1
data: {use: synthetic, size: 8, classes: 3, count: 60, batch: 20}
network: {use: mlp, hidden: [4]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.01}}]
)");
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Output run(const std::string& flags) const {
    return espalier_command("run -q " + path("r.yaml") + " --out " + path("run") + " " + flags);
  }
  TempFolder folder_;
};

TEST_F(Advice, OfAFolderThatIsNotEmpty) {
  ASSERT_EQ(run("").status, 0);
  const Output again = run("");
  EXPECT_EQ(again.status, 1);
  EXPECT_EQ(espalier_command(advised(again, "espalier resume ")).status, 0);

  folder_.write("other/notes.txt", "mine");
  const Output other = espalier_command("run -q " + path("r.yaml") + " --out " + path("other"));
  EXPECT_EQ(other.status, 1);
  EXPECT_THAT(other.text, Not(HasSubstr("espalier resume"))) << "there is no run in it";
}

TEST_F(Advice, OfALossThatIsNotANumber) {
  const Output wild = run("--set stages.train.optimizer.lr=1e30");
  EXPECT_EQ(wild.status, 1) << wild.text;
  EXPECT_THAT(wild.text, HasSubstr("clip_norm"));
  const std::string resume = advised(wild, "espalier resume ");
  EXPECT_EQ(
      espalier_command(resume + " --set stages.train.optimizers.sgd.lr=0.01 --set stages.train.clip_norm=1").status, 0);
}

TEST_F(Advice, OfValuesOfAStoppedRun) {
  // A run that was stopped: all but what the end leaves.
  ASSERT_EQ(run("").status, 0);
  for (const char* name : {"model.safetensors", "graph.json", "summary.json"}) fs::remove(folder_ / "run" / name);
  const std::string next = "run -q " + path("r.yaml") + " --set network.from=" + path("run") + " --out " + path("next");
  const Output refused = espalier_command(next);
  EXPECT_EQ(refused.status, 1);
  std::string command = advised(refused, "espalier export ");
  replace_all(command, "RUN", path("run"));
  EXPECT_EQ(espalier_command(command).status, 0);
  EXPECT_EQ(espalier_command(next).status, 0);

  // Its structure, too.
  const std::string whole = "validate " + path("r.yaml") + " --set 'network={from: " + path("run");
  const Output unfinished = espalier_command(whole + "}'");
  EXPECT_EQ(unfinished.status, 1);
  EXPECT_THAT(unfinished.text, HasSubstr("`which: best`"));
  EXPECT_EQ(espalier_command(whole + ", which: best}'").status, 0);
}

TEST_F(Advice, OfARunThatHasNoNetworkYet) {
  // Stopped in its first moments: it has a recipe and nothing else.
  ASSERT_EQ(run("").status, 0);
  for (const char* name : {"model.safetensors", "graph.json", "summary.json", "checkpoints"})
    fs::remove_all(folder_ / "run" / name);
  fs::create_directory(folder_ / "run" / "checkpoints");
  const std::string command = "export " + path("run") + " --to python";
  const Output refused = espalier_command(command);
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(espalier_command(advised(refused, "espalier resume ")).status, 0);
  EXPECT_EQ(espalier_command(command).status, 0);
}

TEST_F(Advice, OfAMatrixThatIsPlanned) {
  const Output all = espalier_command("plan " + path("r.yaml") + " --set 'matrix={seed: [0, 1]}'");
  ASSERT_EQ(all.status, 0) << all.text;
  std::string command = advised(all, "espalier plan ");
  replace_all(command, "RECIPE", path("r.yaml"));
  replace_all(command, "KEY=VALUE", "seed=1");
  EXPECT_EQ(espalier_command(command).status, 0) << command;
  const Output drawn = espalier_command("plan " + path("r.yaml") + " --set 'matrix={seed: [0, 1]}' --draw x.dot");
  EXPECT_EQ(drawn.status, 1);
  EXPECT_THAT(drawn.text, HasSubstr("--set matrix= --set KEY=VALUE"));
}

// A damaged copy of what Debian's package holds.
TEST_F(Advice, OfADamagedDataSet) {
  const fs::path whole = "/usr/share/datasets/fashion-mnist";
  if (!fs::exists(whole)) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  fs::create_directories(folder_ / "data");
  fs::copy(whole, folder_ / "data" / "fashion-mnist", fs::copy_options::recursive);
  std::string damaged;
  for (const auto& file : fs::directory_iterator(folder_ / "data" / "fashion-mnist")) damaged = file.path().string();
  fs::resize_file(damaged, fs::file_size(damaged) / 2);
  const std::string check = "data check fashion_mnist --data " + path("data");
  const Output found = espalier_command(check);
  EXPECT_EQ(found.status, 1);
  // There may be no network here.
  const Output fetched = espalier_command(advised(found, "espalier data fetch ") + " --from " + whole.string());
  EXPECT_EQ(fetched.status, 0) << fetched.text;
  const Output now = espalier_command(check);
  EXPECT_EQ(now.status, 0) << now.text;
}

// What is downloaded by hand is looked for where the command says.
TEST_F(Advice, OfADataSetThatIsNotThere) {
  const std::string nowhere = "XDG_CACHE_HOME=" + path("none") + " '" ESPALIER_PROGRAM "' ";
  const auto recipe = folder_.write("cifar.yaml",
                                    "espalier: 1\nname: cifar\ndata: {use: cifar100, limit: 100}\nnetwork: lenet5\n"
                                    "stages: [{name: none, epochs: 0}]\n");
  const Output missing = shell(nowhere + "run -q " + recipe.string() + " --out " + path("run"));
  if (missing.status == 0) GTEST_SKIP() << "CIFAR-100 is installed";
  EXPECT_THAT(missing.text, HasSubstr("espalier data fetch cifar100\n"));
  std::string command = advised(missing, "espalier data fetch cifar100 --from ");
  replace_all(command, "FOLDER", path("."));
  const Output fetched = shell(nowhere + command);
  EXPECT_EQ(fetched.status, 1) << "the folder holds nothing";
  EXPECT_THAT(fetched.text, HasSubstr("there is no cifar-100-binary.tar.gz"));
}

TEST_F(Advice, OfADeviceThatIsNotThere) {
  const Output gpu = run("--device cuda");
  if (gpu.status == 0) GTEST_SKIP() << "there is a GPU";
  EXPECT_THAT(gpu.text, HasSubstr("use --device cpu"));
  EXPECT_EQ(run("--device cpu").status, 0);
}

}  // namespace
}  // namespace espalier
