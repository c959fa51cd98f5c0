#include "espalier/latency.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/made_up_latencies.h"
#include "../../tests/temp_folder.h"
#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/pruning.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Graph chain() {
  GraphBuilder g({2, 8, 8});
  Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 20, .padding = 1, .bias = false})));
  x = g.relu(g.conv("conv2", x, {.filters = 24, .padding = 1}));
  return g.output(g.linear("fc2", g.relu(g.linear("fc1", g.flatten(x), {.features = 16})), {.features = 3}));
}

std::string refusal(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(LatencyKey, IsTheSameForNodesOfOneKindWhateverTheirWidths) {
  GraphBuilder b({3, 8, 8});
  Edge x = b.conv("c1", b.input(), {.filters = 8, .padding = 1});
  x = b.conv("c2", x, {.filters = 12, .padding = 1});
  x = b.conv("c3", x, {.filters = 4, .padding = 1});
  x = b.conv("c4", x, {.filters = 4, .stride = 2, .padding = 1});
  x = b.conv("c5", x, {.filters = 6, .padding = 1});
  const Graph g = b.output(b.linear("fc", b.flatten(x), {.features = 3}));
  const auto form = [&](const char* name) { return to_json(latency_key(g, g.node(name)).form); };
  EXPECT_EQ(form("c2"), form("c3"));
  EXPECT_NE(form("c1"), form("c2")) << "the three channels of the input never change";
  EXPECT_NE(form("c3"), form("c4")) << "another stride";
  EXPECT_NE(form("c3"), form("c5")) << "another size of the image";
  EXPECT_EQ(latency_key(g, g.node("c2")).form.at("inputs").as_list()[0].as_string(), "a, 8, 8");
  EXPECT_EQ(latency_key(g, g.node("c2")).form.at("outputs").as_list()[0].as_string(), "b, 8, 8");
  EXPECT_EQ(latency_key(g, g.node("fc")).form.at("inputs").as_list()[0].as_string(), "a*16");
}

TEST(LatencyKey, CountsWidthsThatChangeByThemselves) {
  GraphBuilder b({4, 8, 8});
  const Edge stem = b.conv("stem", b.input(), {.filters = 8, .padding = 1});
  const Edge other = b.conv("other", stem, {.filters = 6, .padding = 1});
  const Edge both = b.concat({stem, other});
  const Edge norm = b.batch_norm("norm", both);
  const Edge end = b.conv("end", norm, {.filters = 5});
  const Graph g = b.output(b.linear("fc", b.flatten(b.global_avg_pool(end)), {.features = 3}));
  const auto sizes = [&](const char* name) {
    std::vector<int64_t> result;
    for (const Dim& d : latency_key(g, g.node(name)).widths) result.push_back(g.size(d));
    return result;
  };
  EXPECT_THAT(sizes("stem"), ElementsAre(8));
  EXPECT_THAT(sizes("other"), ElementsAre(8, 6));
  EXPECT_THAT(sizes(g[both].name.c_str()), ElementsAre(14)) << "what stands side by side is one width";
  EXPECT_THAT(sizes("norm"), ElementsAre(14));
  EXPECT_THAT(sizes("end"), ElementsAre(14, 5));
}

TEST(LatencyKey, LeavesOutWhatIsHeldByPosition) {
  GraphBuilder b({4, 8, 8});
  const Edge stem = b.conv("stem", b.input(), {.filters = 6, .padding = 1});
  const Edge branch = b.conv("branch", stem, {.filters = 9, .padding = 1});
  Graph g = b.output(b.linear("fc", b.flatten(branch), {.features = 3}));
  apply(g, {}, Edit{SplitOff{"branch", 0, ""}});
  const std::string before = to_json(latency_key(g, g.node("branch.view")).form);
  apply(g, {}, shrink(g, g.axis("branch.view"), {0, 2, 5}));
  EXPECT_EQ(to_json(latency_key(g, g.node("branch.view")).form), before);
  EXPECT_THAT(before, HasSubstr(R"("by_position":["index"])"));
}

TEST(LatencyTable, AddsUpTheNodesAndInterpolatesEachWidth) {
  Graph g = chain();
  const LatencyTable table = made_up_table(g);
  const LatencyCounter counter(table, g);
  // conv1 (2 -> a), its norm and ReLU, conv2 (a -> b), its ReLU, the flattening of b, fc1 (64 b -> c), a ReLU, fc2.
  const auto by_hand = [](double a, double b, double c) {
    return 0.001 * a + 0.02 * a + 0.001 * a * b + 0.02 * b + 0.001 * b * c + 0.01 * c + 0.001 * c;
  };
  EXPECT_NEAR(table.ms(g), by_hand(20, 24, 16), 1e-12);
  for (const auto& [a, b, c] :
       {std::tuple(1, 1, 1), std::tuple(13, 24, 7), std::tuple(6, 8, 5), std::tuple(2, 23, 16)}) {
    g.resize(g.axis("conv1"), a);
    g.resize(g.axis("conv2"), b);
    g.resize(g.axis("fc1"), c);
    EXPECT_NEAR(counter.ms(g), by_hand(a, b, c), 1e-12) << a << " " << b << " " << c;
    EXPECT_NEAR(table.ms(g), counter.ms(g), 1e-12) << "a node that is looked up anew is the same";
  }
}

TEST(LatencyTable, InterpolatesLinearlyBetweenWhatWasMeasured) {
  const Graph g = chain();
  // Squares: between 6 and 20 the line from 36 to 400, not the square of 13.
  const LatencyTable table =
      made_up_table(g, [](const std::string&, const std::vector<double>& w) { return w.empty() ? 0 : w[0] * w[0]; });
  Graph sized = g;
  sized.resize(g.axis("conv1"), 13);
  EXPECT_NEAR(table.ms(sized, sized.node("bn1")), 36 + (400 - 36) * 7.0 / 14, 1e-12);
}

TEST(LatencyTable, IsReadAsItWasWritten) {
  const Graph g = chain();
  const LatencyTable table = made_up_table(g);
  const TempFolder folder;
  folder.write("t.json", to_json(table.to_value(), 1));
  const LatencyTable read = LatencyTable::read((folder / "t.json").string());
  EXPECT_EQ(read.ms(g), table.ms(g));
  EXPECT_EQ(read.checksum(), table.checksum());
  EXPECT_EQ(to_json(read.to_value()), to_json(table.to_value()));
  EXPECT_THAT(read.str(), HasSubstr(", 1 thread, float32, batch 1, 2026-01-02"));
  EXPECT_NE(made_up_table(g, [](const std::string& t, const std::vector<double>& w) { return 2 * simple_time(t, w); })
                .checksum(),
            table.checksum());
}

TEST(LatencyTable, IsForOneDevice) {
  const Graph g = chain();
  made_up_table(g).require_device();
  EXPECT_THAT(refusal([&] { made_up_table(g, simple_time, "Abacus 3000").require_device(); }),
              HasSubstr("was measured on 'Abacus 3000', and this machine has '" + device_model("cpu") + "'"));
}

TEST(LatencyTable, SaysWhatItDoesNotKnow) {
  Graph g = chain();
  const LatencyTable table = made_up_table(g);
  GraphBuilder b({2, 8, 8});
  const Graph other =
      b.output(b.linear("fc", b.flatten(b.conv("wide", b.input(), {.filters = 4, .kernel = 5})), {.features = 3}));
  EXPECT_THAT(refusal([&] { table.ms(other); }), HasSubstr("does not know 'wide': conv2d [2, 8, 8] -> [a, 4, 4]"));
  g.resize(g.axis("conv1"), 21);
  EXPECT_THAT(refusal([&] { table.ms(g); }), HasSubstr("up to a width of 20, and it has 21"));
}

TEST(LatencyTable, RefusesFilesThatAreNone) {
  const TempFolder folder;
  const auto says = [&](const std::function<void(Value&)>& damage, const char* text) {
    Value v = made_up_table(chain()).to_value();
    damage(v);
    folder.write("t.json", to_json(v));
    const std::string said = refusal([&] { LatencyTable::read((folder / "t.json").string()); });
    EXPECT_THAT(said, HasSubstr(text));
    EXPECT_THAT(said, HasSubstr("t.json"));
  };
  EXPECT_THAT(refusal([&] { LatencyTable::read((folder / "none.json").string()); }), HasSubstr("no such table"));
  says([](Value& v) { v.erase("latency_table"); }, "no table of latencies");
  says([](Value& v) { v["latency_table"] = 2; }, "version 2");
  says([](Value& v) { v.erase("model"); }, "model");
  says([](Value& v) { v["entries"].as_list()[0]["ms"].push_back(1.0); }, "times for");
  says([](Value& v) { v["entries"].as_list()[0]["ms"].as_list()[0] = -1.0; }, "at least 0");
  says(
      [](Value& v) {
        v["entries"].as_list()[0]["widths"].as_list()[0] = Value(std::vector<int64_t>{3, 2, 20});
      },
      "must be positive and rise");
  says([](Value& v) { v["entries"].push_back(v["entries"].as_list()[0]); }, "two entries of");
}

TEST(MeetCost, MeetsATimeByATable) {
  const Graph g = chain();
  const LatencyTable table = made_up_table(g);
  const CostCounter counter(g, &table);
  std::vector<AxisScores> scores;
  for (const char* name : {"conv1", "conv2", "fc1"}) {
    scores.push_back({g.axis(name), {}});
    for (int64_t k = 0; k < g[g.axis(name)].size; ++k) scores.back().scores.push_back(static_cast<double>(k * 7 % 11));
  }
  const RemovalOrder order(g, scores, {1, 1, 1}, {});
  for (const double share : {0.75, 0.5, 0.25}) {
    const double wanted = wanted_cost({"latency", share}, counter.now());
    EXPECT_DOUBLE_EQ(wanted, share * table.ms(g));
    EXPECT_DOUBLE_EQ(wanted_cost({"latency_ms", wanted}, counter.now()), wanted) << "also below 1 the number itself";
    const Selection s = meet_cost(order, counter, "latency", wanted);
    Graph pruned = g;
    apply(pruned, {}, removal_of(g, order.gone(s.left)));
    EXPECT_NEAR(table.ms(pruned), s.cost.ms, 1e-12);
    EXPECT_NEAR(s.cost.ms, wanted, 0.01 * wanted) << "a position of so few is up to a percent";
  }
}

}  // namespace
}  // namespace espalier
