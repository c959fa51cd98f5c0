#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <espalier/backbone.h>
#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph darts(const std::string& spec, int64_t size = 32, int64_t classes = 10) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libdarts.so");
  return testkit::build(spec, {3, size, size}, {classes});
}

TEST(Darts, HasThePublishedCounts) {
  EXPECT_EQ(darts(R"({"use": "darts_v1"})").parameter_count(), 3'169'414);
  EXPECT_EQ(darts(R"({"use": "darts_v2"})").parameter_count(), 3'349'342);
  // Liu et al. 2019, table 3.
  const Graph imagenet = darts(R"({"use": "darts_v2", "layers": 14, "channels": 48, "stem": "imagenet"})", 224, 1000);
  EXPECT_NEAR(static_cast<double>(imagenet.parameter_count()), 4.7e6, 0.05e6);
}

// The head of the authors' program on C channels, by its layers: 1x1 to 128, 2x2 to 768, batch norms, a linear layer.
TEST(Darts, HasAClassifierWithinTheNetwork) {
  const auto added = [](const std::string& options, int64_t size, int64_t classes) {
    const std::string without = R"({"use": "darts_v2", )" + options;
    const Graph with = darts(without + R"(, "auxiliary": true})", size, classes);
    EXPECT_EQ(with.sizes(with[with.output("auxiliary")].shape), (Indices{classes}));
    return with.parameter_count() - darts(without + "}", size, classes).parameter_count();
  };
  const auto head = [](int64_t channels, int64_t classes) {
    return channels * 128 + 2 * 128 + 128 * 768 * 4 + 768 * classes + classes;
  };
  // Behind the second reduction each of the four nodes has 36 * 4 channels.
  EXPECT_EQ(added(R"("layers": 20)", 32, 10), head(4 * 36 * 4, 10) + 2 * 768);
  EXPECT_EQ(added(R"("layers": 14, "channels": 48, "stem": "imagenet")", 224, 1000), head(4 * 48 * 4, 1000));
}

TEST(Darts, TakesAnyGenotype) {
  const std::string all = R"(["none<-0", "max_pool_3x3<-1", "avg_pool_3x3<-0", "skip_connect<-1", "sep_conv_3x3<-2",
                              "sep_conv_5x5<-0", "dil_conv_3x3<-4", "dil_conv_5x5<-1"])";
  const Graph g = darts(R"({"use": "darts", "layers": 3, "channels": 4, "drop_path": 0.2, "normal": )" + all +
                        R"(, "reduce": )" + all + "}");
  EXPECT_EQ(g.sizes(g[g.node("global_avg_pool1").inputs[0]].shape), (Indices{4 * 16, 8, 8}));
  // The identity is not dropped; in the first, normal cell it is the only operation that is not.
  int dropped = 0;
  for (const Node& n : g.nodes()) dropped += n.op->type() == "drop_path" && n.name.starts_with("cells.0.");
  EXPECT_EQ(dropped, 6);
}

// Liu et al. 2019: of each node's inputs the two whose best operation has the largest coefficient, none not counted.
// Their second-order genotype comes back from coefficients in which its operations are the largest, in this order.
TEST(Darts, DerivesThePublishedGenotypeFromItsCoefficients) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libdarts.so");
  const auto backbone =
      Registry::instance().create<Backbone>(from_json(R"({"use": "darts_search", "layers": 3, "channels": 4})"));
  const Graph graph = backbone->build({3, 16, 16}, {10});
  const std::vector<std::string> operations = {"none",         "max_pool_3x3", "avg_pool_3x3", "skip_connect",
                                               "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"};
  const std::vector<std::string> normal = {"sep_conv_3x3<-0", "sep_conv_3x3<-1", "sep_conv_3x3<-0", "sep_conv_3x3<-1",
                                           "sep_conv_3x3<-1", "skip_connect<-0", "skip_connect<-0", "dil_conv_3x3<-2"};
  const std::vector<std::string> reduce = {"max_pool_3x3<-0", "max_pool_3x3<-1", "skip_connect<-2", "max_pool_3x3<-1",
                                           "max_pool_3x3<-0", "skip_connect<-2", "skip_connect<-2", "max_pool_3x3<-1"};
  Weights weights(graph, at::kFloat, at::kCPU);
  for (const auto& [name, cell] : {std::pair("alpha_normal.value", normal), std::pair("alpha_reduce.value", reduce)}) {
    at::Tensor alpha = weights[graph.parameter(name)].detach();
    alpha.select(1, 0).fill_(9);  // "none" wins everywhere and is not taken
    for (int64_t node = 0, row = 0; node < 4; row += node + 2, ++node) {
      for (int64_t k = 0; k < 2; ++k) {
        const std::string& operation = cell[static_cast<size_t>(2 * node + k)];
        const auto at = std::ranges::find(operations, operation.substr(0, operation.find("<-"))) - operations.begin();
        // Also against another operation of the same input that is nearly as large.
        alpha[row + (operation.back() - '0')][at] = 4.0 - static_cast<double>(k);
        alpha[row + (operation.back() - '0')][(at + 1) % 8 == 0 ? 1 : (at + 1) % 8] = 2.5;
      }
    }
  }
  const Value genotype = backbone->derive(graph, weights);
  EXPECT_EQ(to_json(genotype.at("normal")), to_json(Value(normal)));
  EXPECT_EQ(to_json(genotype.at("reduce")), to_json(Value(reduce)));
  Value spec = genotype;
  spec["use"] = "darts";
  EXPECT_EQ(Registry::instance().create<Backbone>(spec)->build({3, 32, 32}, {10}).parameter_count(), 3'349'342);
}

TEST(Darts, RefusesWhatIsNoGenotype) {
  EXPECT_THROW(darts(R"({"use": "darts", "normal": ["sep_conv_3x3<-0"]})"), Error);
  for (const char* wrong : {"conv_3x3<-0", "max_pool_3x3<-2", "max_pool_3x3", "max_pool_3x3<-x"}) {
    std::string cell = std::string("[\"") + wrong + "\"";
    for (int i = 1; i < 8; ++i) cell += ", \"skip_connect<-1\"";
    EXPECT_THROW(darts(R"({"use": "darts", "normal": )" + cell + "]}"), Error) << wrong;
  }
}

// A search space of fewer operations: its columns are in the order of the whole one, whatever the order of the list.
TEST(Darts, SearchesFewerOperations) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libdarts.so");
  const auto cell = [](const std::string& options, const std::function<void(at::Tensor&)>& set) {
    const auto backbone = Registry::instance().create<Backbone>(
        from_json(R"({"use": "darts_search", "layers": 3, "channels": 4)" + options + "}"));
    const Graph graph = backbone->build({3, 16, 16}, {10});
    Weights weights(graph, at::kFloat, at::kCPU);
    at::Tensor alpha = weights[graph.parameter("alpha_normal.value")].detach();
    set(alpha);
    std::vector<std::string> normal;
    const Value derived = backbone->derive(graph, weights);
    for (const Value& v : derived.at("normal").as_list()) normal.push_back(v.as_string());
    return normal;
  };
  // The columns are max_pool_3x3, skip_connect, sep_conv_5x5. On each edge another one is the largest; of the edges of
  // a node, those of its last two inputs.
  const std::vector<std::string> names = {"max_pool_3x3", "skip_connect", "sep_conv_5x5"};
  const auto normal =
      cell(R"(, "operations": ["sep_conv_5x5", "max_pool_3x3", "skip_connect"])", [](at::Tensor& alpha) {
        ASSERT_EQ(alpha.sizes(), (at::IntArrayRef{14, 3}));
        for (int64_t node = 0, row = 0; node < 4; ++node) {
          for (int64_t from = 0; from < node + 2; ++from, ++row) alpha[row][row % 3] = static_cast<double>(1 + from);
        }
      });
  std::vector<std::string> expected;
  for (size_t node = 0, row = 0; node < 4; row += node + 2, ++node) {
    for (const size_t from : {node + 1, node})
      expected.push_back(names[(row + from) % 3] + "<-" + std::to_string(from));
  }
  EXPECT_EQ(normal, expected);

  // With none among them, it is left out of the cells, or not.
  const auto none_wins = [](at::Tensor& alpha) { alpha.select(1, 0).fill_(5), alpha.select(1, 1).fill_(1); };
  const std::string two = R"(, "operations": ["sep_conv_3x3", "none"])";
  for (const std::string& edge : cell(two, none_wins)) EXPECT_TRUE(edge.starts_with("sep_conv_3x3<-")) << edge;
  for (const std::string& edge : cell(two + R"(, "derive_none": true)", none_wins))
    EXPECT_TRUE(edge.starts_with("none<-")) << edge;
}

TEST(Darts, RefusesOperationsThatItDoesNotHave) {
  for (const char* wrong :
       {R"(["none", "conv_3x3"])", R"(["none", "none"])", R"(["skip_connect"])", R"(["None", "none"])"})
    EXPECT_THROW(darts(R"({"use": "darts_search", "operations": )" + std::string(wrong) + "}"), Error) << wrong;
}

}  // namespace
}  // namespace espalier
