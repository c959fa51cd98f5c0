#include "report/report.h"

#include <cmath>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"
#include "system/files.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

// A run of a recipe of a paper, whose `expect` wants an accuracy of 91.5 to within 1.
void make_run(const fs::path& folder, const fs::path& source, const std::string& name, int64_t seed, double accuracy) {
  fs::create_directories(folder);
  write_file(folder / "recipe.yaml", "name: " + name + "\nseed: " + std::to_string(seed) +
                                         "\ndescription: ends no </script> and begins no <!-- comment\nstages: []\n");
  write_file(
      folder / "environment.json",
      to_json(Value::map(
          {{"id", name + std::to_string(seed)}, {"began", seed}, {"scale", "short"}, {"recipe", source.string()}})));
  write_file(folder / "metrics.jsonl", R"({"stage": "a", "epoch": 1, "loss": 2.0}
{"stage": "a", "epoch": 2, "loss": 1.0, "test_accuracy": 50.0}
)");
  Summary s;
  s.name = name;
  s.seed = seed;
  s.status = "finished";
  RunResult& r = s.result.emplace();
  r.leading = {"accuracy", "%", true};
  r.metrics = {{"accuracy", accuracy}};
  r.best = accuracy;
  r.base = {2000, 200};
  r.final = {1000, 100};
  s.expect =
      Value::map({{"accuracy", Value::map({{"value", 91.5}, {"within", 1.0}, {"found", accuracy}, {"met", false}})}});
  s.write(folder);
}

struct Made {
  TempFolder folder;
  fs::path runs = folder / "runs";
  Store store{":memory:"};

  Made() {
    const fs::path recipes = folder / "recipes" / "paper" / "003";
    folder.write("recipes/paper/003/t4-quoted.json",
                 R"({"source": "table 4", "others": [{"macs": 248, "accuracy": 95.78}]})");
    folder.write("recipes/paper/003/t5-quoted.json", R"({"source": "table 5", "none": []})");
    make_run(runs / "x-seed0", recipes / "t4-x.yaml", "x", 0, 90);
    make_run(runs / "x-seed1", recipes / "t4-x.yaml", "x", 1, 92);
    make_run(runs / "wide" / "seed=0,weight=2", recipes / "f1-wide.yaml", "wide", 0, 80);
    make_run(runs / "wide" / "seed=1,weight=2", recipes / "f1-wide.yaml", "wide", 1, 80);
    make_run(runs / "wide" / "seed=0,weight=3", recipes / "f1-wide.yaml", "wide", 2, 70);
    write_file(runs / "wide" / "sweep.json", "{}");
    make_run(runs / "x-seed0.before-1", recipes / "t4-x.yaml", "old", 0, 10);
  }
  Value report(const std::vector<fs::path>& paths) {
    const std::vector<StoredRun> all = runs_at(store, paths);
    return report_of(all, store);
  }
};

TEST(Report, GivesMeansOverSeedsBesideWhatIsPrinted) {
  Made made;
  const Value report = made.report({made.runs});
  ASSERT_EQ(report.at("runs").size(), 5U) << "what another run took the place of is none";
  ASSERT_EQ(report.at("groups").size(), 3U);
  const Value::List& groups = report.at("groups").as_list();  // by paper and section
  EXPECT_EQ(groups[0].at("group").as_string(), "wide/weight=2");
  EXPECT_EQ(groups[0].at("section").as_string(), "f1");
  EXPECT_EQ(to_json(groups[0].at("seeds")), "[0,1]");
  EXPECT_EQ(groups[0].at("test").at("deviation"), Value(0.0));
  EXPECT_EQ(groups[1].at("group").as_string(), "wide/weight=3");
  EXPECT_TRUE(groups[1].at("test").at("deviation").is_null()) << "of a single run nothing is known";
  const Value& x = groups[2];
  EXPECT_EQ(x.at("paper").as_string(), "003");
  EXPECT_EQ(x.at("section").as_string(), "t4");
  EXPECT_EQ(x.at("scale").as_string(), "short");
  EXPECT_DOUBLE_EQ(x.at("test").at("mean").as_double(), 91);
  EXPECT_DOUBLE_EQ(x.at("test").at("deviation").as_double(), std::sqrt(2));  // ((-1)^2 + 1^2) / (2 - 1)
  const Value& expect = x.at("expect").as_list()[0];
  EXPECT_TRUE(expect.at("met").as_bool()) << "the mean is within 1 of 91.5, though no run alone is said to be";
  // Quoted are the sections that have runs.
  ASSERT_EQ(report.at("quoted").size(), 1U);
  EXPECT_EQ(report.at("quoted").as_list()[0].at("section").as_string(), "t4");
  // A column that begins later stands beside the right epochs.
  EXPECT_EQ(to_json(report.at("runs").as_list()[0].at("epochs").at("test_accuracy")), "[null,50.0]");
}

TEST(Report, OfAReproductionHasItsRunsAlone) {
  Made made;
  const fs::path record = made.runs / "reproduce-short";
  fs::create_directories(record);
  write_file(record / "runs.json",
             R"({"runs": [{"run": "x-seed0"}, {"run": "wide/seed=0,weight=3"}, {"run": "not-yet"}]})");
  EXPECT_EQ(made.report({record}).at("runs").size(), 2U);
  // Moved with all that is in it, and given with a stroke at its end.
  fs::rename(made.runs, made.folder / "moved");
  Made elsewhere;
  EXPECT_EQ(elsewhere.report({(made.folder / "moved" / "reproduce-short").string() + "/"}).at("runs").size(), 2U);
}

TEST(Report, AFolderOfRecipesThatIsNoPaperIsOneComparison) {
  Made made;
  const fs::path recipes = made.folder / "recipes";
  make_run(made.runs / "a-seed0", recipes / "compare" / "a.yaml", "compare-a-short", 0, 50);
  make_run(made.runs / "b-seed0", recipes / "compare" / "b.yaml", "compare-b-short", 0, 60);
  make_run(made.runs / "c-seed0", recipes / "c.yaml", "c", 0, 70);
  const Value report = made.report({made.runs / "a-seed0", made.runs / "b-seed0", made.runs / "c-seed0"});
  std::vector<std::string> places;
  for (const Value& g : report.at("groups").as_list())
    places.push_back(g.at("paper").as_string() + ":" + g.at("section").as_string() + ":" + g.at("recipe").as_string());
  EXPECT_THAT(places, ::testing::ElementsAre("compare::a", "compare::b", "recipes:c:c"));
  EXPECT_THAT(report_markdown(report), HasSubstr("\n## compare\n"));
}

TEST(Report, IsAPageThatHoldsWhateverARunSays) {
  Made made;
  const std::string page = report_page(made.report({made.runs / "x-seed0"}));
  const size_t data = page.find("<script id=\"data\"");
  ASSERT_NE(data, std::string::npos);
  const size_t begin = page.find('>', data) + 1, end = page.find("</script>", begin);
  const Value read = from_json(page.substr(begin, end - begin));
  EXPECT_EQ(read.at("runs").as_list()[0].at("description").as_string(), "ends no </script> and begins no <!-- comment");
  EXPECT_THAT(page.substr(begin, end - begin), Not(HasSubstr("<!--")));
  EXPECT_THAT(page, Not(HasSubstr("/*DATA*/")));
  EXPECT_THAT(page, Not(HasSubstr("src=")));
}

TEST(Report, IsAlsoATable) {
  Made made;
  const Value report = made.report({made.runs});
  const std::string text = report_markdown(report);
  EXPECT_THAT(text, HasSubstr("## 003, t4"));
  EXPECT_THAT(text, HasSubstr("| x | short | 2 | 91.00 % ± 1.414 | 1,000 | 100 |"));
  EXPECT_THAT(text, HasSubstr("| others | macs 248, accuracy 95.78 |"));
  const std::string csv = report_csv(report);
  EXPECT_THAT(csv, HasSubstr("expect.accuracy.found.mean"));
  EXPECT_THAT(csv, HasSubstr("\r\nx,x,"));
}

TEST(Report, HasThePicturesThatWereDrawnOfItsRuns) {
  Made m;
  for (const char* folder : {"figures/003-f4", "figures/001-f7", "reproduce"}) fs::create_directories(m.runs / folder);
  write_file(m.runs / "figures" / "003-f4" / "kept.svg", "<svg>\"\u00e9\"</svg>");
  const std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x06\0\0\0", 29);
  write_file(m.runs / "figures" / "003-f4" / "kept.png", png);
  write_file(m.runs / "figures" / "003-f4" / "other.png", "no picture");
  write_file(m.runs / "figures" / "001-f7" / "kernels.svg", std::string(2'000'001, ' '));  // too large
  write_file(m.runs / "reproduce" / "runs.json", R"({"runs": []})");
  for (const fs::path& path : {m.runs, m.runs / "reproduce"}) {
    const Value pictures = pictures_at({path});
    ASSERT_EQ(pictures.size(), 1U) << path;
    const Value& p = pictures.as_list()[0];
    EXPECT_EQ(p.at("paper").as_string() + " " + p.at("section").as_string() + " " + p.at("name").as_string(),
              "003 f4 kept");
    EXPECT_EQ(p.at("svg").as_string(), "<svg>\"\u00e9\"</svg>");
  }
  EXPECT_EQ(report_of(runs_at(m.store, {m.runs}), m.store, pictures_at({m.runs})).at("pictures").size(), 1U);
  EXPECT_EQ(pictures_at({m.folder / "recipes"}).size(), 0U);
  const std::string events = report_events(m.report({m.runs}), {m.runs});
  EXPECT_THAT(events, HasSubstr("003-f4/kept"));
  EXPECT_THAT(events, HasSubstr(png));
  EXPECT_THAT(events, HasSubstr("| x | short | 2 | 91.00 %")) << "the tables, as a text";
  EXPECT_THAT(events, Not(HasSubstr("003-f4/other")));
}

TEST(Report, SaysWhereThereIsNoRun) {
  Made made;
  EXPECT_THROW(made.report({made.folder / "recipes"}), InputError);
  EXPECT_THROW(made.report({made.folder / "nowhere"}), InputError);
}

}  // namespace
}  // namespace espalier
