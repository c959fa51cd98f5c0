// What `plan` says of axes, and its drawing.
#include <filesystem>

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/value.h"
#include "export/drawing.h"
#include "formats/safetensors.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* recipe = R"(
espalier: 1
name: small
data: {use: synthetic, count: 100}
network: {use: lenet5}
stages: [{name: learn, epochs: 1, optimizer: {use: sgd, lr: 0.01}}]
)";

TEST(Plan, ShowsAxesAndWhatSharesThem) {
  const TempFolder folder;
  const std::string file = folder.write("r.yaml", recipe).string();
  const std::string text = espalier_command("plan " + file).text;
  EXPECT_THAT(text, AllOf(ContainsRegex("axis +size +made by +read by"), ContainsRegex("conv1 +20 +conv1 +conv2"),
                          ContainsRegex("fixed +fc2")));
  const Value axes = from_json(espalier_command("plan --json " + file).text).at("network").at("axes");
  size_t conv1 = 0;
  for (const Value& a : axes.as_list()) {
    if (a.at("name").as_string() != "conv1") continue;
    ++conv1;
    EXPECT_EQ(to_json(a), R"({"name":"conv1","size":20,"fixed":false,"made_by":["conv1"],"read_by":["conv2"]})");
  }
  EXPECT_EQ(conv1, 1U);
}

TEST(Plan, ShowsTheFirstOfManyAxesUnlessToldOtherwise) {
  const TempFolder folder;
  std::string hidden;
  for (int i = 0; i < 60; ++i) hidden += (i ? ", " : "") + std::to_string(3 + i);
  const std::string file =
      folder
          .write("r.yaml",
                 "espalier: 1\nname: deep\ndata: {use: synthetic, count: 100}\nnetwork: {use: mlp, hidden: [" + hidden +
                     "]}\nstages: [{name: a, epochs: 0}]\n")
          .string();
  EXPECT_THAT(espalier_command("plan " + file).text,
              AllOf(HasSubstr("more axes: --axes shows all"), Not(ContainsRegex("fc50 +52 "))));
  EXPECT_THAT(espalier_command("plan --axes " + file).text,
              AllOf(Not(HasSubstr("more axes")), ContainsRegex("fc50 +52 ")));
}

TEST(Plan, DrawsTheNetworkWithItsWidthsAndBlocks) {
  GraphBuilder g({3, 8, 8});
  const Edge x = g.relu(g.conv("layer1.0.conv\"1\"", g.input(), {.filters = 5, .kernel = 3}));
  const std::string dot = network_dot(g.output(g.linear("fc", g.flatten(x), {.features = 7})), "two");
  EXPECT_THAT(dot, AllOf(HasSubstr("subgraph \"cluster_layer1.0\" {"), HasSubstr("label = \"5 × 6 × 6\""),
                         HasSubstr("label = \"conv\\\"1\\\"\\nconv2d\\n140 params\""), HasSubstr("label = \"7\"")));

  const TempFolder folder;
  const std::string file = folder.write("r.yaml", recipe).string();
  const Output written = espalier_command("plan " + file + " --draw " + (folder / "net.dot").string());
  EXPECT_EQ(written.status, 0) << written.text;
  EXPECT_THAT(read_file(folder / "net.dot"), HasSubstr("digraph \"small\" {"));
  const Output ending = espalier_command("plan " + file + " --draw " + (folder / "net.pdf").string());
  EXPECT_EQ(ending.status, 1);
  EXPECT_THAT(ending.text, HasSubstr("must end in .svg, .png or .dot"));
  const Output missing =
      shell("PATH=/nowhere '" ESPALIER_PROGRAM "' plan " + file + " --draw " + (folder / "net.svg").string());
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.text, AllOf(HasSubstr("apt-get install graphviz"), HasSubstr(".dot file needs nothing")));
  EXPECT_FALSE(std::filesystem::exists(folder / "net.svg"));
}

TEST(Plan, DrawsByGraphviz) {
  if (shell("command -v dot").status != 0) GTEST_SKIP() << "Graphviz is not installed (Debian package graphviz)";
  const TempFolder folder;
  const std::string file = folder.write("r.yaml", recipe).string();
  const Output o = espalier_command("plan " + file + " --draw " + (folder / "net.svg").string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(read_file(folder / "net.svg"), AllOf(HasSubstr("<svg"), HasSubstr("conv1"), HasSubstr("20 × 12 × 12")));
}

// What a controller of a later stage cannot do with the network is said before the first one is trained.
TEST(Plan, TriesEveryStagesControllerOnThePlannedStructure) {
  struct Case {
    const char *network, *stage, *why;
  };
  for (const Case& c : std::vector<Case>{
           {"{use: mobilenet_v2, stem: cifar, width: 0.25}", "{use: l1_prune}", "there is nothing to prune"},
           {"{use: lenet5}", "{use: l1_prune, on: fc2}", "no layer of 'fc2'"},
           {"{use: lenet5}", "{use: soft_filter_prune, ratio: 0.001}", "leave every filter in its place"},
           {"{use: lenet5}", "{use: threshold, on: [\"*.bias\"]}", "`on` names '*.bias'"},
           {"{use: lenet5}", "{use: adenel, params: 1000}", "more than the budget before it grows"},
           {"{use: lenet5}", "{use: autogrow}", "no blocks with names like layer1.0"}}) {
    const TempFolder folder;
    const std::string file = folder
                                 .write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 200, validation: 0.2}
network: )" + std::string(c.network) + R"(
stages:
  - {name: train, epochs: 1, optimizer: {use: sgd, lr: 0.05}}
  - {name: prune, epochs: 2, optimizer: {use: lbi, lr: 0.05}, controller: )" +
                                                      c.stage + "}\n")
                                 .string();
    const std::string run = (folder / "run").string();
    for (const std::string& command : {"validate " + file, "plan " + file, "run " + file + " --out " + run}) {
      const Output o = espalier_command(command);
      EXPECT_EQ(o.status, 1) << o.text;
      EXPECT_THAT(o.text, AllOf(HasSubstr(c.why), HasSubstr("r.yaml:8:")));
    }
    EXPECT_FALSE(std::filesystem::exists(run)) << "nothing is trained";
  }
}

// The second stage finds what the first one leaves: of four filters one, which must stay.
TEST(Plan, KnowsWhatStagesLeaveToTheNext) {
  const TempFolder folder;
  const std::string file = folder
                               .write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 200}
network: {use: lenet5, conv1: 4, conv2: 4}
stages:
  - {name: first, epochs: 0, controller: {use: l1_prune, ratio: 0.75}}
  - {name: second, epochs: 0, controller: {use: l1_prune, ratio: 0.75}}
)")
                               .string();
  const Output o = espalier_command("validate " + file);
  EXPECT_EQ(o.status, 1) << o.text;
  EXPECT_NE(o.text.find("leave every filter in its place"), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("r.yaml:8:"), std::string::npos) << o.text;
}

// Filters of which the norms are known by heart: of eight, one has every weight 0.001, the others 1.
TEST(Plan, SaysWhichNormsAControllerWillMeet) {
  const TempFolder folder;
  at::Tensor weight = at::ones({8, 1, 5, 5});
  weight.select(0, 3).fill_(0.001);
  save_safetensors(folder / "old.safetensors", {{{"conv1.weight", weight}}, {}});
  const auto plan = [&](const std::string& network, const std::string& stages) {
    return espalier_command("plan " + folder
                                          .write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 100}
network: {use: lenet5, conv1: 8, conv2: 4, hidden: 6)" + network +
                                                               "}\nstages:\n" + stages)
                                          .string())
        .text;
  };
  const std::string threshold = "controller: {use: threshold, tau: 0.1, on: conv1}}\n";
  const std::string warm = ", from: old.safetensors, partial: true";
  const std::string now = plan(warm, "  - {name: prune, epochs: 0, " + threshold);
  EXPECT_THAT(now, HasSubstr("threshold would find, of the values of " + (folder / "old.safetensors").string() + ":"));
  // The norms are 5 times the weights.
  EXPECT_THAT(now, ContainsRegex("conv1 +8 +0.005 +5 +5  1\n"));
  EXPECT_THAT(plan(warm, "  - {name: prune, epochs: 2, optimizer: sgd, " + threshold),
              HasSubstr("old.safetensors, before anything is trained:"));
  EXPECT_THAT(plan("", "  - {name: prune, epochs: 0, " + threshold),
              AllOf(HasSubstr("threshold would find, of the initial values:"), ContainsRegex("conv1 +8 +0[.0-9]+ ")));
  // Sums of absolute weights; of all widths together in the last line.
  const std::string l1 = "controller: {use: l1_prune, ratio: 0.5, on: [conv1, conv2]}}\n";
  EXPECT_THAT(plan(warm, "  - {name: prune, epochs: 0, " + l1),
              AllOf(ContainsRegex("conv1 +8 +0.025 +25 +25  4\n"), ContainsRegex("all +12 +0.025 .* 6\n")));
  // What the first one leaves is not known.
  const std::string both =
      plan(warm, "  - {name: prune, epochs: 0, " + l1 + "  - {name: again, epochs: 0, " + threshold);
  EXPECT_THAT(both, AllOf(HasSubstr("l1_prune would find"), Not(HasSubstr("threshold would find"))));
}

}  // namespace
}  // namespace espalier
