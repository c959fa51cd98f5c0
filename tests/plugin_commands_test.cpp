#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "subprocess.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string fixtures = ESPALIER_FIXTURE_DIR;

const Value* item(const Value& list, const std::string& key, const std::string& value) {
  for (const Value& v : list.as_list()) {
    if (v.at(key).as_string() == value) return &v;
  }
  return nullptr;
}

TEST(Program, SaysWhichCommandMayBeMeant) {
  const Output o = espalier_command("runn recipe.yaml");
  EXPECT_EQ(o.status, 2);
  EXPECT_THAT(o.text, AllOf(HasSubstr("there is no command 'runn'"), HasSubstr("did you mean 'run'?")));
}

TEST(PluginsCommand, ListsComponentsPluginsAndProblems) {
  const Output o = espalier_command("plugins --plugins '" + fixtures + "'");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, AllOf(HasSubstr("kind"), HasSubstr("fixture_fine"), HasSubstr("libgood.so"), HasSubstr("1.2.3")));
  EXPECT_THAT(o.text, AllOf(HasSubstr("Problems:"),
                            HasSubstr("libthrowing_entry.so: espalier_plugin() threw: no component today")));
  EXPECT_THAT(o.text, HasSubstr("cosine"));
}

TEST(PluginsCommand, PrintsJson) {
  const Output o = espalier_command("plugins --json --plugins '" + fixtures + "'");
  EXPECT_EQ(o.status, 0);
  const Value v = from_json(o.text);
  const Value* fine = item(v.at("components"), "name", "fixture_fine");
  ASSERT_NE(fine, nullptr);
  EXPECT_EQ(fine->at("kind").as_string(), "regularizer");
  EXPECT_EQ(fine->at("plugin").as_string(), "good");
  EXPECT_EQ(fine->at("path").as_string(), fixtures + "/libgood.so");
  ASSERT_NE(item(v.at("plugins"), "name", "good"), nullptr);
  EXPECT_EQ(item(v.at("plugins"), "name", "good")->at("components").size(), 2u);
  EXPECT_NE(item(v.at("problems"), "path", fixtures + "/libno_entry.so"), nullptr);
  EXPECT_EQ(v.at("searched").as_list()[0].as_string(), fixtures);
}

TEST(PluginsCommand, SearchesTheVariableToo) {
  const Output o = shell("ESPALIER_PLUGINS='" + fixtures + "/libgood.so' '" ESPALIER_PROGRAM "' plugins");
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.text, AllOf(HasSubstr("fixture_fine"), Not(HasSubstr("Problems:"))));
}

// A copy of a plugin of the program's own stands in for it: whoever uses it is told so.
TEST(PluginsCommand, WhatHidesAPluginIsSaidByEveryCommandAndRecorded) {
  const TempFolder folder;
  const auto copy = folder / "libsgd.so";
  std::filesystem::copy_file(ESPALIER_PLUGIN_DIR "/libsgd.so", copy);
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
threads: 1
data: {use: synthetic, count: 40, batch: 20}
network: {use: mlp, hidden: [4]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.1}}]
)");
  const std::string run = (folder / "run").string(), with = " --plugins " + folder.path().string();
  for (const std::string& command : {std::string("validate "), std::string("plan "), "run --out " + run + " "}) {
    const Output o = espalier_command(command + recipe.string() + with);
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_THAT(o.text, AllOf(HasSubstr("libsgd.so: not loaded: " + copy.string()), HasSubstr("takes its place")));
  }
  const std::string environment = (folder / "run" / "environment.json").string();
  const Value libraries = from_json(shell("cat " + environment).text).at("libraries");
  const Value* sgd = item(libraries, "name", "plugin sgd");
  ASSERT_NE(sgd, nullptr);
  EXPECT_EQ(sgd->at("path").as_string(), copy.string());
  EXPECT_EQ(sgd->at("version").as_string(), "1.0.0");
  EXPECT_EQ(shell("sha256sum " + copy.string()).text.substr(0, 64), sgd->at("sha256").as_string());
  const Value* library = item(libraries, "name", "espalier (library)");
  ASSERT_NE(library, nullptr);
  EXPECT_THAT(library->at("path").as_string(), HasSubstr("libespalier.so"));
  EXPECT_EQ(item(libraries, "name", "plugin adam"), nullptr) << "it is not used";

  // Gone: the program's own would do in its place, another plugin's would not.
  shell("sed -i 's/plugin sgd/plugin of-mine/' " + environment);
  EXPECT_THAT(espalier_command("export " + run + " --to safetensors").text,
              AllOf(HasSubstr("the run used the plugin of-mine 1.0.0, " + copy.string()), HasSubstr("--plugins")));
  shell("sed -i 's/plugin of-mine/plugin sgd/' " + environment);

  // Another file in its place.
  shell("printf more >> " + copy.string());
  const Output o = espalier_command("resume " + run + " --set stages.train.epochs=2");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("plugin sgd: another file than before, of the same version (" + copy.string() + ")"));
}

TEST(PluginsCommand, AMissingFolderIsAnError) {
  const Output o = espalier_command("plugins --plugins /no/such/folder");
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.text, "espalier: error: there is no plugin folder /no/such/folder\n");
}

TEST(DescribeCommand, ShowsParametersNeedsAndOrigin) {
  const std::string good = " --plugins '" + fixtures + "/libgood.so'";
  Output o = espalier_command("describe fixture_fine" + good);
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.text,
              StartsWith("regularizer fixture_fine: does nothing\nplugin good 1.2.3 (" + fixtures + "/libgood.so)\n"));
  EXPECT_THAT(o.text, ::testing::ContainsRegex("weight +number >= 0 +0.5 +Factor of the penalty\\."));
  o = espalier_command("describe fixture_also_fine" + good);
  EXPECT_THAT(o.text, AllOf(HasSubstr("needs state:gamma: it is read"), HasSubstr("no parameters")));
}

TEST(DescribeCommand, ShowsSectionsOfARecipeAndSchedules) {
  Output o = espalier_command("describe stage");
  EXPECT_THAT(o.text, AllOf(::testing::ContainsRegex("epochs +integer >= 0 .epochs. +required +Length of the stage."),
                            HasSubstr("clip_norm")));
  o = espalier_command("describe step");
  EXPECT_THAT(o.text, AllOf(StartsWith("schedule step"), HasSubstr("part of Espalier"), HasSubstr("factor")));
  EXPECT_THAT(espalier_command("describe data").text, AllOf(HasSubstr("eval_batch"), HasSubstr("augment")));
  EXPECT_THAT(espalier_command("describe network").text, AllOf(HasSubstr("partial"), HasSubstr("rename")));
}

TEST(DescribeCommand, PrintsJson) {
  const Output o = espalier_command("describe fixture_fine --json --plugins '" + fixtures + "/libgood.so'");
  const Value v = from_json(o.text);
  ASSERT_EQ(v.size(), 1u);
  const Value& weight = v.as_list()[0].at("parameters").as_list()[0];
  EXPECT_EQ(to_json(weight),
            R"({"name":"weight","type":"number","required":false,"default":0.5,"expected":"a number >= 0",)"
            R"("least":0.0,"doc":"Factor of the penalty."})");
}

TEST(DescribeCommand, SuggestsTheNearestName) {
  Output o = espalier_command("describe cosin");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("no component is called 'cosin' (did you mean 'cosine'?)"));
  o = espalier_command("describe cosine --kind schedul");
  EXPECT_THAT(o.text, HasSubstr("did you mean 'schedule'?"));
  o = espalier_command("describe cosine --kind optimizer");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("no optimizer is called 'cosine'"));
}

TEST(SchemaCommand, PrintsASchemaWithThePluginsComponents) {
  const Output o = espalier_command("schema --plugins '" + fixtures + "/libgood.so'");
  EXPECT_EQ(o.status, 0);
  const Value v = from_json(o.text);
  EXPECT_EQ(v.at("title").as_string(), "Espalier recipe");
  EXPECT_THAT(to_json(v.at("definitions").at("regularizer")),
              AllOf(HasSubstr("fixture_fine"), HasSubstr("of the penalty")));
}

TEST(Describe, ListsAllNamesWhereNoneIsGiven) {
  const Output all = espalier_command("describe");
  EXPECT_EQ(all.status, 0) << all.text;
  EXPECT_THAT(all.text,
              AllOf(::testing::ContainsRegex("optimizer +sgd "), ::testing::ContainsRegex("schedule +cosine "),
                    ::testing::ContainsRegex("section +stage ")));
  const Value schedules = from_json(espalier_command("describe --kind schedule --json").text);
  EXPECT_EQ(schedules.size(), 4U);
  const Value constant = from_json(espalier_command("describe constant --kind schedule --json").text);
  EXPECT_EQ(to_json(schedules.as_list()[0]), to_json(constant.as_list()[0])) << "each is described as by itself";
  const Output unknown = espalier_command("describe --kind optimiser");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.text, HasSubstr("did you mean 'optimizer'?"));
}

TEST(Program, UsageErrorsExitWithTwo) {
  EXPECT_EQ(espalier_command("").status, 2);
  EXPECT_EQ(espalier_command("nonsense").status, 2);
  EXPECT_EQ(espalier_command("export").status, 2);
  EXPECT_EQ(espalier_command("--help").status, 0);
  EXPECT_EQ(espalier_command("--version").status, 0);
}

TEST(Program, SaysWhereItsOutputCannotBeWritten) {
  const Output o = shell("('" ESPALIER_PROGRAM "' describe lenet5 2>&1 >/dev/full)");
  EXPECT_EQ(o.status, 1);
  EXPECT_NE(o.text.find("could not be written: No space left on device"), std::string::npos) << o.text;
}

}  // namespace
}  // namespace espalier
