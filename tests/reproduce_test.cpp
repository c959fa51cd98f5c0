// Many recipes in one command.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "recipe/yaml.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

std::string at(const fs::path& p) {
  return "'" + p.string() + "'";
}

struct Recipes {
  TempFolder folder;
  fs::path out = folder / "all";

  Recipes() {
    folder.write("recipes/common/base.yaml", R"(espalier: 1
data: {use: synthetic, count: 200, batch: 20}
network: {use: mlp, hidden: [8]}
)");
    add("first", "scales: {smoke: {stages.train.epochs: 1}}\n");
  }
  fs::path add(const std::string& name, const std::string& more, const std::string& optimizer = "{use: sgd, lr: 0.1}") {
    return folder.write("recipes/" + name + ".yaml", "extends: common/base.yaml\nname: " + name +
                                                         "\nstages: [{name: train, epochs: 2, optimizer: " + optimizer +
                                                         "}]\n" + more);
  }
  Output reproduce(const std::string& more = "") const {
    return espalier_command("reproduce " + at(folder / "recipes") + " --out " + at(out) + " " + more);
  }
  // Of a run, what the record says.
  std::string status(const std::string& run, const std::string& record = "reproduce") const {
    const Value all = from_json(read_file(out / record / "runs.json"));
    for (const Value& r : all.at("runs").as_list()) {
      if (r.at("run").as_string() == run) return r.at("status").as_string();
    }
    return "not there";
  }
};

TEST(Reproduce, MakesWhatOthersNeedFirstAndWhatIsThereNotAgain) {
  Recipes r;
  // Before `first` by its name, and after it by what it needs.
  r.add("another", "needs: [first.yaml]\nnetwork: {use: mlp, hidden: [8], from: ../runs/first-seed0}\n");
  r.add("matrix", "matrix: {stages.train.optimizer.lr: [0.1, 0.2]}\n");
  const Output dry = r.reproduce("--dry-run --seeds 0,1");
  EXPECT_EQ(dry.status, 0) << dry.text;
  EXPECT_FALSE(fs::exists(r.out));
  EXPECT_LT(dry.text.find("first-seed1"), dry.text.find("another-seed1"));
  EXPECT_THAT(dry.text, HasSubstr("In all about "));

  const Output o = r.reproduce("--seeds 0,1 --jobs 2");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("8 of 8 runs are there"));
  // Each began with the weights of its own seed, in this folder and not where the recipe says.
  for (const char* seed : {"0", "1"}) {
    const Value recipe = read_yaml(r.out / (std::string("another-seed") + seed) / "recipe.yaml");
    EXPECT_EQ(recipe.at("network").at("from").as_string(), (r.out / (std::string("first-seed") + seed)).string());
    EXPECT_EQ(recipe.at("seed").as_int(), seed[0] - '0');
  }
  // A sweep as `run` makes it.
  const Value sweep = from_json(read_file(r.out / "matrix" / "sweep.json"));
  EXPECT_EQ(sweep.at("status").as_string(), "finished");
  EXPECT_EQ(sweep.at("runs").size(), 2U);
  EXPECT_TRUE(fs::exists(r.out / "matrix-seed1" / "lr=0.2" / "summary.json"));

  const auto time = fs::last_write_time(r.out / "another-seed0" / "model.safetensors");
  const Output again = r.reproduce("--seeds 0,1");
  EXPECT_EQ(again.status, 0) << again.text;
  EXPECT_THAT(again.text, HasSubstr("8 runs, 8 there already"));
  EXPECT_EQ(fs::last_write_time(r.out / "another-seed0" / "model.safetensors"), time);
}

TEST(Reproduce, MakesAgainWhatAnotherRecipeMadeAndAllThatReadsIt) {
  Recipes r;
  r.add("second", "needs: [first.yaml]\nnetwork: {use: mlp, hidden: [8], from: ../runs/first-seed0}\n");
  ASSERT_EQ(r.reproduce().status, 0);
  r.add("first", "scales: {smoke: {stages.train.epochs: 1}}\n", "{use: sgd, lr: 0.3}");
  const Output o = r.reproduce();
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("0 there already"));
  EXPECT_TRUE(fs::exists(r.out / "first-seed0.before-1" / "summary.json")) << "nothing is lost";
  EXPECT_TRUE(fs::exists(r.out / "second-seed0.before-1" / "summary.json"));
  EXPECT_THAT(read_file(r.out / "first-seed0" / "recipe.yaml"), HasSubstr("0.3"));
}

TEST(Reproduce, KeepsOthersRunningWhereSomeFailAndSaysWhatEachWaitsFor) {
  Recipes r;
  r.add("broken", "", "{use: sgdd, lr: 0.1}");
  r.add("diverges", "", "{use: sgd, lr: 1.0e+30}");
  r.add("waits", "needs: [diverges.yaml]\nnetwork: {from: ../runs/diverges-seed0}\n");
  r.add("astray", "needs: [first.yaml]\nnetwork: {from: ../runs/first-of-old-seed0}\n");
  const Output o = r.reproduce();
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("1 of 5 runs are there, 1 failed, 2 blocked, 1 refused"));
  EXPECT_THAT(o.text, HasSubstr("no optimizer is called 'sgdd' (did you mean 'sgd'?)"));
  EXPECT_EQ(r.status("first-seed0"), "finished");
  EXPECT_EQ(r.status("broken-seed0"), "refused");
  EXPECT_EQ(r.status("diverges-seed0"), "failed");
  EXPECT_EQ(r.status("waits-seed0"), "blocked");
  EXPECT_EQ(r.status("astray-seed0"), "blocked");
  // Mended, only what is left is made, though the failed run's folder is there.
  r.add("diverges", "", "{use: sgd, lr: 0.1}");
  fs::remove(r.folder / "recipes" / "broken.yaml");
  fs::remove(r.folder / "recipes" / "astray.yaml");
  const Output mended = r.reproduce();
  EXPECT_EQ(mended.status, 0) << mended.text;
  EXPECT_THAT(mended.text, HasSubstr("3 runs, 1 there already"));
}

TEST(Reproduce, GoesOnAfterItWasStopped) {
  Recipes r;
  fs::remove(r.folder / "recipes" / "first.yaml");
  r.folder.write("recipes/long.yaml", R"(extends: common/base.yaml
name: long
data: {count: 4000}
stages: [{name: train, epochs: 40, optimizer: {use: sgd, lr: 0.001}}]
matrix: {seed: [0, 1]}
)");
  const fs::path pid = r.folder / "pid";
  std::thread stopper([&] {
    const fs::path begun = r.out / "long" / "seed=0" / "metrics.jsonl";
    const auto has_an_epoch = [&] { return fs::exists(begun) && fs::file_size(begun) > 0; };
    for (int i = 0; i < 600 && !has_an_epoch(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ::kill(std::stoi(read_file(pid)), SIGTERM);
  });
  const Output o =
      shell("ESPALIER_STORE=none sh -c 'echo $$ >" + at(pid) + "; exec \"" ESPALIER_PROGRAM "\" reproduce " +
            at(r.folder / "recipes") + " --out " + at(r.out) + "'");
  stopper.join();
  EXPECT_EQ(o.status, 128 + SIGTERM) << o.text;
  EXPECT_EQ(r.status("long/seed=0"), "interrupted");
  EXPECT_EQ(r.status("long/seed=1"), "waiting");
  const auto lines = [&] {
    const std::string text = read_file(r.out / "long" / "seed=0" / "metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto before = lines();
  ASSERT_GT(before, 0);
  const Output on = r.reproduce();
  EXPECT_EQ(on.status, 0) << on.text;
  EXPECT_EQ(lines(), 40);
  EXPECT_TRUE(from_json(read_file(r.out / "long" / "seed=0" / "environment.json")).find("resumed"));
}

TEST(Reproduce, TakesAScaleFiltersAndABudget) {
  Recipes r;
  r.add("second", "");
  const Output smoke = r.reproduce("--scale smoke");
  EXPECT_EQ(smoke.status, 0) << smoke.text;
  EXPECT_THAT(smoke.text, HasSubstr("second.yaml is passed over: it has no scale 'smoke'"));
  EXPECT_TRUE(fs::exists(r.out / "first-smoke-seed0" / "summary.json"));
  EXPECT_EQ(r.status("first-smoke-seed0", "reproduce-smoke"), "finished");

  const Output one = r.reproduce("--filter name=sec* --dry-run");
  EXPECT_THAT(one.text, HasSubstr("second-seed0"));
  EXPECT_THAT(one.text, Not(HasSubstr("first-seed0")));
  EXPECT_THAT(r.reproduce("--filter name=third").text, HasSubstr("no run is left to reproduce"));

  const Output late = r.reproduce("--budget 0.0001");  // a third of a second
  EXPECT_EQ(late.status, 1) << late.text;
  EXPECT_THAT(late.text, HasSubstr("for which no time was left"));
  EXPECT_EQ(r.status("second-seed0"), "waiting");
}

TEST(Reproduce, StartsRunsByACommand) {
  const Recipes r;
  r.folder.write("all/first-seed0/notes.txt", "no run, and not to be lost");
  const fs::path said = r.folder / "said";
  const Output o = r.reproduce("--launcher 'command: echo begins >>" + said.string() + "; {command}'");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(read_file(said), "begins\n");
  EXPECT_TRUE(fs::exists(r.out / "first-seed0.before-1" / "notes.txt"));
  EXPECT_EQ(r.status("first-seed0"), "finished");
}

// Commands of Slurm that write down what they are asked, and say what a file holds.
struct MadeUpSlurm {
  TempFolder folder;

  MadeUpSlurm() {
    command("sbatch", "n=$(($(cat n 2>/dev/null || echo 100) + 1)); echo $n >n; cp \"$2\" $n.sh; echo \"$n;cluster\"");
    command("sacct", "cat states 2>/dev/null");
    command("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
  }
  void command(const std::string& name, const std::string& script) const {
    const fs::path file = folder.write(name, "#!/bin/sh\ncd " + at(folder.path()) + "\n" + script + "\n");
    fs::permissions(file, fs::perms::owner_all);
  }
  std::string script(int number) const { return read_file(folder / (std::to_string(number) + ".sh")); }
  int submitted() const { return fs::exists(folder / "n") ? std::stoi(read_file(folder / "n")) - 100 : 0; }
};

TEST(Reproduce, SubmitsArraysThatWaitForEachOther) {
  Recipes r;
  r.add("second", "needs: [first.yaml]\nnetwork: {use: mlp, hidden: [8], from: ../runs/first-seed0}\n");
  r.add("matrix", "matrix: {stages.train.optimizer.lr: [0.1, 0.2]}\n");
  const MadeUpSlurm slurm;
  const fs::path cluster = r.folder.write("cluster.yaml", "{partition: gpu, gres: 'gpu:1', setup: [module load x]}\n");
  const auto reproduce = [&] {
    return shell("PATH=" + at(slurm.folder.path()) + ":$PATH ESPALIER_STORE=none " + program_word() + " reproduce " +
                 at(r.folder / "recipes") + " --out " + at(r.out) + " --launcher slurm --slurm " + at(cluster));
  };
  const Output o = reproduce();
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("4 runs submitted now, 4 in the cluster"));
  ASSERT_EQ(slurm.submitted(), 2);
  EXPECT_THAT(slurm.script(101), HasSubstr("#SBATCH --array=0-2\n"));
  EXPECT_THAT(slurm.script(101), HasSubstr("#SBATCH --partition=gpu\n"));
  EXPECT_THAT(slurm.script(101), HasSubstr("#SBATCH --gres=gpu:1\n"));
  EXPECT_THAT(slurm.script(101), HasSubstr("\nmodule load x\n"));
  EXPECT_THAT(slurm.script(101), Not(HasSubstr("--dependency")));
  EXPECT_THAT(slurm.script(102), HasSubstr("#SBATCH --dependency=afterany:101\n"));
  EXPECT_EQ(r.status("second-seed0"), "submitted");

  // What a task does: all of the first array as Slurm would do it, one of them twice, as if it was requeued.
  for (const char* task : {"0", "1", "2", "2"}) {
    const Output ran =
        shell(std::string("SLURM_ARRAY_TASK_ID=") + task + " ESPALIER_STORE=none bash " + at(slurm.folder / "101.sh"));
    EXPECT_EQ(ran.status, 0) << ran.text;
  }
  slurm.folder.write("states", "101_0|COMPLETED\n101_1|COMPLETED\n101_2|COMPLETED\n102_0|PENDING\n");
  const Output waits = reproduce();
  EXPECT_THAT(waits.text, HasSubstr("0 runs submitted now, 1 in the cluster, 3 there"));
  EXPECT_EQ(slurm.submitted(), 2);
  EXPECT_EQ(from_json(read_file(r.out / "matrix" / "sweep.json")).at("status").as_string(), "finished");

  slurm.folder.write("states", "102_0|CANCELLED by 0\n");
  const Output again = reproduce();
  EXPECT_THAT(again.text, HasSubstr("1 run submitted now, 1 in the cluster, 3 there"));
  EXPECT_EQ(slurm.submitted(), 3);
  EXPECT_EQ(shell("SLURM_ARRAY_TASK_ID=0 ESPALIER_STORE=none bash " + at(slurm.folder / "103.sh")).status, 0);
  EXPECT_THAT(reproduce().text, HasSubstr("0 runs submitted now, 4 there"));
}

TEST(Reproduce, LetsSlurmTrainEachRunBySeveralProcesses) {
  const Recipes r;
  const MadeUpSlurm slurm;
  const fs::path cluster = r.folder.write("cluster.yaml", "{processes: 2, cpus: 3}\n");
  const Output o =
      shell("PATH=" + at(slurm.folder.path()) + ":$PATH ESPALIER_STORE=none " + program_word() + " reproduce " +
            at(r.folder / "recipes") + " --out " + at(r.out) + " --launcher slurm --slurm " + at(cluster));
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(slurm.script(101), HasSubstr("#SBATCH --ntasks=2\n"));
  EXPECT_THAT(slurm.script(101), HasSubstr("#SBATCH --cpus-per-task=3\n"));
  // As srun starts them: with what follows its own options.
  slurm.command("srun", R"(echo "srun $1"; shift; exec "$@")");
  const Output ran = shell("PATH=" + at(slurm.folder.path()) +
                           ":$PATH SLURM_ARRAY_TASK_ID=0 ESPALIER_STORE=none bash " + at(slurm.folder / "101.sh"));
  EXPECT_EQ(ran.status, 0) << ran.text;
  EXPECT_THAT(ran.text, HasSubstr("srun --cpus-per-task=3\n"));
  EXPECT_EQ(from_json(read_file(r.out / "first-seed0" / "summary.json")).at("status").as_string(), "finished");
}

TEST(Reproduce, SaysWhatAClusterSays) {
  const Recipes r;
  const MadeUpSlurm slurm;
  slurm.command("sbatch", "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1");
  const auto message = [&](const std::string& more) {
    const Output o = shell("PATH=" + at(slurm.folder.path()) + ":$PATH ESPALIER_STORE=none " + program_word() +
                           " reproduce " + at(r.folder / "recipes") + " --out " + at(r.out) + " " + more);
    EXPECT_NE(o.status, 0) << more;
    return o.text;
  };
  EXPECT_THAT(message("--launcher slurm"), HasSubstr("invalid partition specified: gpuu"));
  const fs::path wrong = r.folder.write("wrong.yaml", "{partion: gpu}\n");
  EXPECT_THAT(message("--launcher slurm --slurm " + at(wrong)), HasSubstr("did you mean 'partition'?"));
  EXPECT_THAT(message("--launcher slurm --slurm " + at(r.folder / "none.yaml")), HasSubstr("none.yaml"));
  EXPECT_THAT(message("--slurm " + at(wrong)), HasSubstr("is for `--launcher slurm`"));
  EXPECT_THAT(message("--launcher slrum"), HasSubstr("did you mean 'slurm'?"));
  EXPECT_THAT(message("--launcher 'command: ssh node'"), HasSubstr("has no {command}"));
  slurm.command("sbatch", "exit 127");
  EXPECT_THAT(message("--launcher slurm"), HasSubstr("is not installed here"));
}

TEST(Reproduce, SaysWhatIsWrongBeforeAnythingIsMade) {
  Recipes r;
  const auto message = [&](const std::string& arguments) {
    const Output o = espalier_command("reproduce " + arguments + " --out " + at(r.out));
    EXPECT_NE(o.status, 0) << arguments;
    EXPECT_FALSE(fs::exists(r.out)) << arguments;
    return o.text;
  };
  EXPECT_THAT(message(at(r.folder / "recipe")), HasSubstr("there is no such recipe"));
  fs::create_directories(r.folder / "empty");
  EXPECT_THAT(message(at(r.folder / "empty")), HasSubstr("holds no recipe"));
  EXPECT_THAT(message(at(r.folder / "recipes") + " --scale smok"), HasSubstr("it has no scale 'smok'"));
  EXPECT_THAT(message(at(r.folder / "recipes") + " --filter name"), HasSubstr("expected KEY=VALUE"));
  EXPECT_THAT(message(at(r.folder / "recipes") + " --seeds a"), HasSubstr("--seeds"));
  EXPECT_THAT(message(at(r.folder / "recipes") + " --budget 0"), HasSubstr("--budget"));
  EXPECT_THAT(message(at(r.folder / "recipes") + " --jobs 0"), HasSubstr("--jobs"));
  setenv("WORLD_SIZE", "2", 1);
  for (const char* name : {"RANK", "MASTER_ADDR", "MASTER_PORT"}) setenv(name, "1", 1);
  EXPECT_THAT(message(at(r.folder / "recipes")), HasSubstr("one of 2 processes of one run"));
  for (const char* name : {"WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
  r.folder.write("recipes/twin.yaml",
                 "extends: common/base.yaml\nname: first\nstages: [{name: train, epochs: 1, "
                 "optimizer: {use: sgd, lr: 0.1}}]\n");
  EXPECT_THAT(message(at(r.folder / "recipes")), HasSubstr("would make the run first-seed0, and so would"));
  fs::remove(r.folder / "recipes" / "twin.yaml");
  r.add("one", "needs: [other.yaml]\nnetwork: {from: ../runs/other-seed0}\n");
  r.add("other", "needs: [one.yaml]\nnetwork: {from: ../runs/one-seed0}\n");
  EXPECT_THAT(message(at(r.folder / "recipes")), HasSubstr("its own run"));
}

}  // namespace
}  // namespace espalier
