#include <ATen/TensorOperators.h>

#include "table_samples.h"

namespace espalier {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<Dataset> cora(Value options = Value::map()) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcora.so");
  options["use"] = "cora";
  return samples::table(options);
}

// Files of the real one's sizes: paper i is of class i % 7 and holds the words i % 1433 and (i + 7) % 1433.
void write_files(const samples::Folder& folder) {
  std::string nodes, edges, split = "train 0..139\nval 140..639\ntest";
  for (int i = 0; i < 2708; ++i) {
    nodes += std::to_string(i) + " " + std::to_string(i % 7) + " " + std::to_string(i % 1433) + " " +
             std::to_string((i + 7) % 1433) + "\n";
    if (i >= 1708) split += " " + std::to_string(i);
  }
  // A ring, and chords from paper to paper until there are enough.
  for (int i = 0; i < 2708; ++i) edges += std::to_string(i) + " " + std::to_string((i + 1) % 2708) + "\n";
  for (int i = 0; i < 5278 - 2708; ++i) edges += std::to_string(i) + " " + std::to_string((i + 5) % 2708) + "\n";
  folder.write("cora/cora.nodes.txt", nodes);
  folder.write("cora/cora.edges.txt", edges);
  folder.write("cora/cora.split.txt", split + "\n");
}

TEST(Cora, DescribesItselfWithoutData) {
  const DatasetInfo info = cora()->info();
  EXPECT_EQ(info.input, (InputSpec{.channels = 1433, .nodes = 2708, .others = {{"adjacency", {2708, 2708}}}}));
  EXPECT_EQ(info.target, (TargetSpec{.outputs = 7, .task = task::classification}));
  EXPECT_EQ(info.classes.size(), 7U);
  EXPECT_TRUE(info.has_validation);
}

TEST(Cora, IsOneGraph) {
  const samples::Folder folder;
  write_files(folder);
  const auto data = cora();
  const Split train = data->load("train", {folder.path()});
  EXPECT_EQ(train.size(), 1);
  EXPECT_EQ(train.input().sizes(), (std::vector<int64_t>{1, 2708, 1433}));
  EXPECT_EQ(train.target().sizes(), (std::vector<int64_t>{1, 2708}));
  const at::Tensor adjacency = train.inputs.at(1).second[0];
  EXPECT_EQ(train.inputs.at(1).first, "adjacency");
  // Papers 1000 and 1001 have 4 neighbours each and themselves; paper 2707 of the ring has 2.
  EXPECT_FLOAT_EQ(adjacency[1000][1001].item<float>(), 1.0F / 5);
  EXPECT_FLOAT_EQ(adjacency[1001][1000].item<float>(), 1.0F / 5);
  EXPECT_FLOAT_EQ(adjacency[2707][2707].item<float>(), 1.0F / 3);
  EXPECT_FLOAT_EQ(adjacency[2706][2707].item<float>(), 1.0F / 3);
  EXPECT_EQ(adjacency[1000][1003].item<float>(), 0.0F);
  EXPECT_EQ(train.input()[0][3][3].item<float>(), 0.5F);
  EXPECT_EQ(train.input()[0][3][10].item<float>(), 0.5F);
  EXPECT_EQ(cora(Value::map({{"features", "raw"}}))->load("train", {folder.path()}).input()[0][3][3].item<float>(), 1);
  const at::Tensor target = train.target()[0];
  EXPECT_EQ(target[139].item<int64_t>(), 139 % 7);
  EXPECT_EQ(target[140].item<int64_t>(), -100);
  EXPECT_EQ(data->load("validation", {folder.path()}).target()[0][140].item<int64_t>(), 0);
  EXPECT_EQ(data->load("test", {folder.path()}).target().ge(0).sum().item<int64_t>(), 1000);
}

TEST(Cora, RejectsWrongFiles) {
  const samples::Folder folder;
  const auto error = [&](const std::string& part = "train") {
    return samples::input_error([&] { cora()->load(part, {folder.path()}); });
  };
  EXPECT_THAT(error(), AllOf(HasSubstr("cora/cora.nodes.txt and cora.nodes.txt: none was found"),
                             HasSubstr(folder.path().string()), HasSubstr("cora.split.txt: the lines")));
  EXPECT_THAT(error("all"), HasSubstr("cora has no part 'all'; expected train, validation or test"));
  const auto change = [&](const std::string& name, const std::string& from, const std::string& to) {
    write_files(folder);
    const samples::Bytes bytes = samples::read(folder / name);
    std::string text(bytes.begin(), bytes.end());
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    folder.write(name, text.replace(at, from.size(), to));
  };
  change("cora/cora.nodes.txt", "\n5 5 ", "\n5 7 ");
  EXPECT_THAT(error(), HasSubstr("cora.nodes.txt:6:3: expected a class, 0 to 6, got '7'"));
  change("cora/cora.nodes.txt", "\n5 5 ", "\n6 5 ");
  EXPECT_THAT(error(), HasSubstr("cora.nodes.txt:6:1: expected the paper 5"));
  change("cora/cora.nodes.txt", "\n5 5 5 12\n", "\n5 5 5 5\n");
  EXPECT_THAT(error(), HasSubstr("cora.nodes.txt:6:8: the word 5 stands twice in the line"));
  change("cora/cora.nodes.txt", "\n5 5 5 12\n", "\n5 5 5 1433\n");
  EXPECT_THAT(error(), HasSubstr("cora.nodes.txt:6:7: expected a word, 0 to 1432, got '1433'"));
  change("cora/cora.nodes.txt", "\n2707 5 1274 1281\n", "\n");
  EXPECT_THAT(error(), HasSubstr("cora.nodes.txt: holds 2707 papers; expected 2708"));
  change("cora/cora.edges.txt", "\n1 2\n", "\n1 1\n");
  EXPECT_THAT(error(), HasSubstr("cora.edges.txt:2:4: the papers are the same, or they stand in a line before"));
  change("cora/cora.edges.txt", "\n1 2\n", "\n1\n");
  EXPECT_THAT(error(), HasSubstr("cora.edges.txt:2:2: expected two papers in the line"));
  change("cora/cora.edges.txt", "\n1 2\n", "\n");
  EXPECT_THAT(error(), HasSubstr("cora.edges.txt: holds 5277 pairs; expected 5278"));
  change("cora/cora.split.txt", "0..139", "0..138");
  EXPECT_THAT(error(), HasSubstr("cora.split.txt: has 139 papers in 'train'; expected 140"));
  change("cora/cora.split.txt", "val", "dev");
  EXPECT_THAT(error("validation"), HasSubstr("cora.split.txt: has no line 'val'"));
}

TEST(Cora, ReadsTheRealOne) {
  const std::filesystem::path folder = samples::data_folder_with("cora");
  if (folder.empty()) GTEST_SKIP() << "cora is not on this machine";
  const auto data = cora();
  const Split train = data->load("train", {folder}), validation = data->load("validation", {folder}),
              test = data->load("test", {folder});
  const auto counted = [](const Split& s) { return s.target().ge(0).sum().item<int64_t>(); };
  EXPECT_EQ(counted(train), 140);
  EXPECT_EQ(counted(validation), 500);
  EXPECT_EQ(counted(test), 1000);
  // 20 papers of each class.
  const at::Tensor target = train.target();
  EXPECT_THAT(samples::numbers(target.masked_select(target.ge(0)).bincount()), testing::Each(20));
  // A paper counts in one part only.
  const at::Tensor parts =
      target.ge(0).to(at::kInt) + validation.target().ge(0).to(at::kInt) + test.target().ge(0).to(at::kInt);
  EXPECT_EQ(parts.max().item<int64_t>(), 1);
  const at::Tensor input = train.input()[0], adjacency = train.inputs.at(1).second[0];
  EXPECT_EQ(input.ne(0).sum().item<int64_t>(), 49216);  // published: 0.0127 of all
  EXPECT_LT((input.sum(1) - 1).abs().max().item<float>(), 1e-5);
  EXPECT_EQ(adjacency.ne(0).sum().item<int64_t>(), 2 * 5278 + 2708);
  EXPECT_TRUE(adjacency.equal(adjacency.t()));
  // The square roots of the degrees are an eigenvector of the eigenvalue 1: D^-1/2 (A + I) D^-1/2 D^1/2 1 = D^1/2 1.
  const at::Tensor root = adjacency.ne(0).sum(1).to(at::kFloat).sqrt();
  EXPECT_LT((adjacency.mv(root) - root).abs().max().item<float>(), 1e-4);
}

}  // namespace
}  // namespace espalier
