#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <espalier/backbone.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph of_cell(const std::string& cell) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
  return testkit::build(R"({"use": "nasbench201", "cell": ")" + cell + R"("})", {3, 32, 32}, {10});
}

std::string cell(const std::vector<std::string>& ops) {
  return "|" + ops[0] + "~0|+|" + ops[1] + "~0|" + ops[2] + "~1|+|" + ops[3] + "~0|" + ops[4] + "~1|" + ops[5] + "~2|";
}

TEST(NasBench201, HasThePublishedCounts) {
  struct Known {
    std::vector<std::string> ops;
    int64_t parameters, macs;
  };
  const std::string c3 = "nor_conv_3x3", c1 = "nor_conv_1x1", skip = "skip_connect", none = "none";
  for (const Known& k : {Known{std::vector<std::string>(6, skip), 73'306, 7'783'040},
                         Known{std::vector<std::string>(6, none), 73'306, 7'783'040},
                         Known{std::vector<std::string>(6, "avg_pool_3x3"), 73'306, 7'783'040},
                         Known{std::vector<std::string>(6, c3), 1'531'546, 220'119'680},
                         Known{std::vector<std::string>(6, c1), 241'306, 31'376'000},
                         Known{{c3, c3, c1, skip, c3, c3}, 1'073'466, 153'272'960},
                         Known{{c3, none, c3, skip, none, none}, 559'386, 78'561'920}}) {
    const Graph g = of_cell(cell(k.ops));
    EXPECT_EQ(g.parameter_count(), k.parameters) << cell(k.ops);
    EXPECT_EQ(g.macs(), k.macs) << cell(k.ops);
  }
}

TEST(NasBench201, DerivesTheCellOfTheLargestCoefficients) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
  const auto backbone =
      Registry::instance().create<Backbone>(from_json(R"({"use": "nasbench201_search", "channels": 4, "cells": 1})"));
  const Graph graph = backbone->build({3, 16, 16}, {10});
  Weights weights(graph, at::kFloat, at::kCPU);
  const std::vector<std::string> operations = {"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"};
  const int64_t best[] = {3, 0, 1, 4, 2, 3};
  std::vector<std::string> ops;
  for (int64_t edge = 0; edge < 6; ++edge) {
    weights[graph.parameter("alpha.value")].detach()[edge][best[edge]] = 0.1;
    ops.push_back(operations[static_cast<size_t>(best[edge])]);
  }
  const Value derived = backbone->derive(graph, weights);
  EXPECT_EQ(derived.at("cell").as_string(), cell(ops));
  EXPECT_EQ(derived.at("channels").as_int(), 4);
}

TEST(NasBench201, RefusesWhatIsNoCell) {
  for (const char* wrong :
       {"", "|none~0|", "|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|",
        "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|",
        "|~0|+|~0|~1|+|~0|~1|~2|", "|none~0|+|~0|none~1|+|none~0|none~1|none~2|",
        "none|~0|+|none~0|none~1|+|none~0|none~1|none~2|", "|none~0|+|none~0|none~1|+|none~0|none~1|none~2"})
    EXPECT_THROW(of_cell(wrong), Error) << wrong;
}

TEST(NasBench201, SearchesWithTheStatisticsOfTheBatch) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
  const auto buffers = [](const std::string& options) {
    const Graph g = testkit::build(R"({"use": "nasbench201_search", "cells": 1)" + options + "}", {3, 16, 16}, {10});
    int64_t in_cells = 0, outside = 0;
    for (const Parameter& p : g.parameters()) {
      if (p.role == Role::buffer) ++(p.name.starts_with("cells.") ? in_cells : outside);
    }
    return std::pair(in_cells, outside);
  };
  // The stem, two residual blocks of two each, and the end keep theirs.
  EXPECT_EQ(buffers(""), std::pair(int64_t{0}, int64_t{2 * (1 + 4 + 1)}));
  // Three cells of six edges with two convolutions each.
  EXPECT_EQ(buffers(R"(, "track_running_stats": true)"), std::pair(int64_t{2 * 3 * 6 * 2}, int64_t{2 * (1 + 4 + 1)}));
}

// The columns of fewer operations are in the order of the whole search space, whatever the order of the list.
TEST(NasBench201, SearchesFewerOperations) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
  const auto derived = [](const std::string& options, int64_t operations) {
    const auto backbone = Registry::instance().create<Backbone>(
        from_json(R"({"use": "nasbench201_search", "channels": 4, "cells": 1)" + options + "}"));
    const Graph graph = backbone->build({3, 16, 16}, {10});
    Weights weights(graph, at::kFloat, at::kCPU);
    at::Tensor alpha = weights[graph.parameter("alpha.value")].detach();
    EXPECT_EQ(alpha.sizes(), (at::IntArrayRef{6, operations})) << options;
    for (int64_t edge = 0; edge < 6; ++edge) {
      alpha[edge][edge % operations] = 3;
      alpha[edge][(edge + 1) % operations] = 2;
    }
    return backbone->derive(graph, weights).at("cell").as_string();
  };
  const std::string none = "none", skip = "skip_connect", c3 = "nor_conv_3x3";
  const std::string three = R"(, "operations": ["nor_conv_3x3", "none", "skip_connect"])";
  EXPECT_EQ(derived(three, 3), cell({none, skip, c3, none, skip, c3}));
  EXPECT_EQ(derived(three + R"(, "derive_none": false)", 3), cell({skip, skip, c3, skip, skip, c3}));
  const std::string two = R"(, "operations": ["nor_conv_3x3", "skip_connect"])";
  for (const char* none_or_not : {"true", "false"}) {
    EXPECT_EQ(derived(two + R"(, "derive_none": )" + none_or_not, 2), cell({skip, c3, skip, c3, skip, c3}));
  }
}

TEST(NasBench201, RefusesOperationsThatItDoesNotHave) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
  for (const char* wrong :
       {R"(["none", "sep_conv_3x3"])", R"(["none", "none"])", R"(["skip_connect"])", R"(["skip_connect", ""])"}) {
    EXPECT_THROW(
        testkit::build(R"({"use": "nasbench201_search", "operations": )" + std::string(wrong) + "}", {3, 16, 16}, {10}),
        Error)
        << wrong;
  }
}

}  // namespace
}  // namespace espalier
