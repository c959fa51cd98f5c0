#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

class Recorded : public testing::Test {
 protected:
  Recorded() {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/librecorded.so");
    GraphBuilder g({2, 6, 6});
    Edge x = g.relu(g.conv("conv", g.input(), {.filters = 5}));
    graph = g.output(g.linear("fc", g.flatten(x), {.features = 3}));
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "graph.json") << to_json(graph.to_value());
  }
  ~Recorded() override { std::filesystem::remove_all(folder); }
  Graph read(const std::filesystem::path& from, const InputSpec& input, int64_t classes) const {
    return testkit::build(to_json(Value::map({{"use", "recorded"}, {"graph", from.string()}})), input, {classes});
  }
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("espalier-recorded-" + std::to_string(getpid()));
  Graph graph;
};

TEST_F(Recorded, IsTheStructureOfTheFileOrFolder) {
  const InputSpec input{2, 6, 6};
  EXPECT_EQ(to_json(read(folder, input, 3).to_value()), to_json(graph.to_value()));
  EXPECT_EQ(to_json(read(folder / "graph.json", input, 3).to_value()), to_json(graph.to_value()));
}

TEST_F(Recorded, RefusesOtherDataAndMissingFiles) {
  EXPECT_THROW(read(folder, {2, 6, 7}, 3), Error);
  EXPECT_THROW(read(folder, {2, 6, 6}, 4), Error);
  EXPECT_THROW(read(folder / "none", {2, 6, 6}, 3), Error);
}

}  // namespace
}  // namespace espalier
