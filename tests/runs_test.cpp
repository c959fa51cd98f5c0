// The store of runs by the program.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

const std::string tiny = R"(
espalier: 1
name: tiny
data: {use: synthetic, count: 200, batch: 20}
network: {use: mlp, hidden: [8]}
stages: [{name: train, epochs: 2, optimizer: {use: sgd, lr: 0.1}}]
scales: {smoke: {stages.train.epochs: 1}}
)";

std::string at(const fs::path& p) {
  return "'" + p.string() + "'";
}

// The program with a store of its own.
struct Runs {
  TempFolder folder;
  fs::path recipe = folder.write("r.yaml", tiny);

  Output call(const std::string& arguments) const {
    return shell("ESPALIER_STORE=" + at(store()) + " " + program_word() + " " + arguments);
  }
  fs::path store() const { return folder / "store" / "runs.sqlite"; }
  Output run(const std::string& name, const std::string& more = "") const {
    return call("run -q " + at(recipe) + " --out " + at(folder / name) + " " + more);
  }
  Value list(const std::string& more = "") const { return from_json(call("runs list --json " + more).text); }
};

TEST(Runs, AreListedShownComparedExportedAndForgotten) {
  const Runs r;
  const Output none = r.call("runs list");
  EXPECT_EQ(none.status, 1);
  EXPECT_THAT(none.text, HasSubstr("there is no store of runs yet"));
  EXPECT_FALSE(fs::exists(r.store())) << "nothing is made by looking";

  ASSERT_EQ(r.run("one").text, "");
  ASSERT_EQ(r.run("two", "--scale smoke --seed 4").text, "");
  ASSERT_EQ(r.run("sweep", "--set 'matrix={seed: [5]}'").text, "");
  ASSERT_EQ(r.run("bad", "--set stages.train.optimizer.lr=1e30").status, 1);

  const Value list = r.list("--sort seed --up");
  ASSERT_EQ(list.size(), 4U);
  const Value& one =
      list.as_list()[0].at("folder").as_string() == (r.folder / "one").string() ? list.as_list()[0] : list.as_list()[1];
  EXPECT_EQ(one.at("recipe").as_string(), r.recipe.string());
  EXPECT_EQ(one.at("scale").as_string(), "");
  const Value& two = list.as_list()[2];
  EXPECT_EQ(two.at("scale").as_string(), "smoke");
  EXPECT_EQ(two.at("name").as_string(), "tiny-smoke");
  const Value& of_sweep = list.as_list()[3];
  EXPECT_EQ(of_sweep.at("folder").as_string(), (r.folder / "sweep" / "seed=5").string());
  EXPECT_EQ(of_sweep.at("recipe").as_string(), r.recipe.string()) << "the file with the matrix";
  const Value failed = r.list("--filter status=failed");
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_THAT(failed.as_list()[0].at("error").as_string(), HasSubstr("NaN"));

  const Output shown = r.call("runs show " + at(r.folder / "one"));
  EXPECT_EQ(shown.status, 0);
  EXPECT_THAT(shown.text, HasSubstr("test_accuracy"));
  EXPECT_EQ(from_json(r.call("runs show --json " + one.at("id").as_string().substr(0, 6)).text).at("epochs").size(),
            2U);

  const Output compared = r.call("runs compare " + at(r.folder / "one") + " " + two.at("id").as_string());
  EXPECT_THAT(compared.text, HasSubstr("stages.train.epochs"));
  EXPECT_THAT(compared.text, HasSubstr("accuracy"));
  EXPECT_THAT(compared.text, HasSubstr("machine: the same"));

  const std::string csv = r.call("runs export --csv --epochs --filter scale=smoke").text;
  EXPECT_THAT(csv, HasSubstr("id,run,seed,"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 2);

  EXPECT_EQ(r.call("runs rm " + at(r.folder / "one")).status, 0);
  EXPECT_TRUE(fs::exists(r.folder / "one" / "summary.json")) << "only the index forgets it";
  EXPECT_EQ(r.call("runs rm --with-folder --filter status=failed").status, 0);
  EXPECT_FALSE(fs::exists(r.folder / "bad"));
  EXPECT_EQ(r.list().size(), 2U);
  EXPECT_EQ(r.call("runs rebuild " + at(r.folder.path())).status, 0);
  EXPECT_EQ(r.list().size(), 3U);
}

TEST(Runs, GoOnInTheStoreWhenTheyAreResumed) {
  const Runs r;
  ASSERT_EQ(r.run("one").text, "");
  const std::string id = r.list().as_list()[0].at("id").as_string();
  ASSERT_EQ(r.call("resume -q " + at(r.folder / "one") + " --set stages.train.epochs=4").status, 0);
  const Value list = r.list();
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list.as_list()[0].at("id").as_string(), id);
  EXPECT_EQ(from_json(r.call("runs show --json " + id).text).at("epochs").size(), 4U);
}

TEST(Runs, TrainAlsoWhereTheStoreCannotBeWritten) {
  const Runs r;
  fs::create_directories(r.store().parent_path());
  write_file(r.store(), "this is no database, and long enough to be taken for one if its head were right\n");
  const Output o = r.run("one");
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("is damaged. `espalier runs rebuild FOLDER...`"));
  EXPECT_EQ(o.text.find("is damaged"), o.text.rfind("is damaged")) << "said once";
  EXPECT_TRUE(fs::exists(r.folder / "one" / "summary.json"));
  const Output list = r.call("runs list");
  EXPECT_EQ(list.status, 1);
  EXPECT_THAT(list.text, HasSubstr("is damaged"));
  EXPECT_EQ(r.call("runs rebuild " + at(r.folder.path())).status, 0);
  EXPECT_EQ(r.list().size(), 1U);
}

TEST(Runs, SayWhatIsWrongWithWhatIsAskedFor) {
  const Runs r;
  ASSERT_EQ(r.run("one").text, "");
  const auto message = [&](const std::string& arguments) {
    const Output o = r.call("runs " + arguments);
    EXPECT_NE(o.status, 0) << arguments;
    return o.text;
  };
  EXPECT_THAT(message("show tinny"), HasSubstr("no run of the store is called so"));
  EXPECT_THAT(message("show ones"), HasSubstr("did you mean 'one'?"));
  EXPECT_THAT(message("list --sort acuracy"), HasSubstr("did you mean 'accuracy'?"));
  EXPECT_THAT(message("list --limit 0"), HasSubstr("--limit"));
  EXPECT_THAT(message("compare one"), HasSubstr("2 required"));
  EXPECT_THAT(message("rm"), HasSubstr("give the runs to remove"));
  EXPECT_THAT(message("rebuild " + at(r.folder / "nowhere")), HasSubstr("there is no such folder"));
  EXPECT_THAT(message("--store " + at(r.folder.path()) + " list"), HasSubstr("is a folder"));
  EXPECT_THAT(message("lst"), HasSubstr("there is no command 'runs lst' (did you mean 'list'?)"));
}

}  // namespace
}  // namespace espalier
