#include <charconv>
#include <cmath>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <espalier/dataset.h>
#include <espalier/datasets/find.h>
#include <espalier/error.h>
#include <espalier/plugin.h>

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr int64_t nodes = 2708;
constexpr int64_t words = 1433;
constexpr int64_t edges = 5278;
// Of a node that a part does not count.
constexpr int64_t no_class = -100;

// In the order of the numbers that the Planetoid files give them.
const std::vector<std::string>& class_names() {
  static const std::vector<std::string> names = {"Theory",          "Reinforcement_Learning", "Genetic_Algorithms",
                                                 "Neural_Networks", "Probabilistic_Methods",  "Case_Based",
                                                 "Rule_Learning"};
  return names;
}

// The words of a text file, line by line.
class LineReader {
 public:
  explicit LineReader(const fs::path& file) : file_(file), in_(file) {
    if (!in_) throw InputError(file.string(), "cannot be read");
  }

  bool next_line() {
    ++line_;
    at_ = 0;
    return static_cast<bool>(std::getline(in_, text_));
  }
  // The next word, empty at the end of the line.
  std::string_view word() {
    at_ = std::min(text_.find_first_not_of(" \t\r", at_), text_.size());
    begin_ = at_;
    at_ = std::min(text_.find_first_of(" \t\r", at_), text_.size());
    return std::string_view(text_).substr(begin_, at_ - begin_);
  }
  // The next word as a number of 0..n-1, or -1 at the end of the line.
  int64_t number(int64_t n, const std::string& what) {
    const std::string_view text = word();
    return text.empty() ? -1 : number(text, n, what);
  }
  int64_t number(std::string_view text, int64_t n, const std::string& what) const {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 0 || value >= n)
      fail("expected " + what + ", 0 to " + std::to_string(n - 1) + ", got '" + std::string(text) + "'");
    return value;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(file_.string() + ":" + std::to_string(line_) + ":" + std::to_string(begin_ + 1), what);
  }
  [[noreturn]] void fail_whole(const std::string& what) const { throw InputError(file_.string(), what); }

 private:
  fs::path file_;
  std::ifstream in_;
  std::string text_;
  int64_t line_ = 0;
  size_t at_ = 0, begin_ = 0;
};

}  // namespace

// The citation network Cora (McCallum et al. 2000) with the split of Planetoid (Yang et al. 2016): one graph, whose
// nodes are papers.
class Cora final : public Dataset {
 public:
  struct Options {
    std::string features = "row_normalized";

    static void declare(Declare<Options>& p) {
      p("features", &Options::features, one_of({"row_normalized", "raw"}),
        "What stands for the words of a paper; row_normalized: 1 / number of its words for each; raw: 1 for each.");
    }
  };

  explicit Cora(const Options& options) : o_(options) {}

  DatasetInfo info() const override {
    return {.input = {.channels = words, .nodes = nodes, .others = {{"adjacency", {nodes, nodes}}}},
            .target = {.outputs = static_cast<int64_t>(class_names().size())},
            .classes = class_names(),
            .mean = {},
            .deviation = {},
            .samples = 1,
            .has_validation = true};
  }

  Split load(const std::string& part, const DataPaths& paths) const override {
    if (part != "train" && part != "test" && part != "validation")
      throw InputError("", "cora has no part '" + part + "'; expected train, validation or test");
    const std::string how =
        "  cora.nodes.txt: a line for each paper, its number, its class and its words, all counted from 0\n"
        "  cora.edges.txt: a line for each pair of papers of which one cites the other\n"
        "  cora.split.txt: the lines train, val and test, each with its papers (single ones, or FIRST..LAST)\n"
        "  put them into the folder cora of a data folder";
    const fs::path file = find_file(paths, {"cora/cora.nodes.txt", "cora.nodes.txt"}, how);
    const std::lock_guard lock(mutex_);
    if (folder_ != file.parent_path()) {
      read_nodes(file);
      read_edges(file.parent_path() / "cora.edges.txt");
      folder_ = file.parent_path();
    }
    return {.inputs = {{"input", input_}, {"adjacency", adjacency_}},
            .targets = {{"target", targets_of(part, folder_ / "cora.split.txt")}}};
  }

 private:
  void read_nodes(const fs::path& file) const {
    input_ = at::zeros({1, nodes, words}, at::kFloat);
    classes_.assign(static_cast<size_t>(nodes), 0);
    auto* values = input_.mutable_data_ptr<float>();
    LineReader in(file);
    int64_t node = 0;
    for (; in.next_line(); ++node) {
      if (in.number(nodes, "the number of a paper") != node) in.fail("expected the paper " + std::to_string(node));
      const int64_t c = in.number(static_cast<int64_t>(class_names().size()), "a class");
      if (c < 0) in.fail("the paper has no class");
      classes_[static_cast<size_t>(node)] = c;
      std::vector<int64_t> own;
      for (int64_t word; (word = in.number(words, "a word")) >= 0;) own.push_back(word);
      const float value = o_.features == "raw" ? 1.0F : 1.0F / static_cast<float>(own.size());
      for (const int64_t word : own) {
        float& x = values[node * words + word];
        if (x != 0) in.fail("the word " + std::to_string(word) + " stands twice in the line");
        x = value;
      }
    }
    if (node != nodes) in.fail_whole("holds " + std::to_string(node) + " papers; expected " + std::to_string(nodes));
  }

  // D^-1/2 (A + I) D^-1/2 with the degrees D of A + I (Kipf and Welling 2017).
  void read_edges(const fs::path& file) const {
    adjacency_ = at::zeros({1, nodes, nodes}, at::kFloat);
    auto* a = adjacency_.mutable_data_ptr<float>();
    std::vector<int64_t> degree(static_cast<size_t>(nodes), 1);
    for (int64_t i = 0; i < nodes; ++i) a[i * nodes + i] = 1;
    LineReader in(file);
    int64_t count = 0;
    for (; in.next_line(); ++count) {
      const int64_t i = in.number(nodes, "the number of a paper"), j = in.number(nodes, "the number of a paper");
      if (i < 0 || j < 0 || !in.word().empty()) in.fail("expected two papers in the line");
      if (a[i * nodes + j] != 0) in.fail("the papers are the same, or they stand in a line before");
      a[i * nodes + j] = a[j * nodes + i] = 1;
      ++degree[static_cast<size_t>(i)];
      ++degree[static_cast<size_t>(j)];
    }
    if (count != edges) in.fail_whole("holds " + std::to_string(count) + " pairs; expected " + std::to_string(edges));
    std::vector<double> scale;
    for (const int64_t d : degree) scale.push_back(1 / std::sqrt(static_cast<double>(d)));
    for (int64_t i = 0; i < nodes; ++i) {
      for (int64_t j = 0; j < nodes; ++j) {
        if (float& x = a[i * nodes + j]; x != 0)
          x = static_cast<float>(scale[static_cast<size_t>(i)] * scale[static_cast<size_t>(j)]);
      }
    }
  }

  at::Tensor targets_of(const std::string& part, const fs::path& file) const {
    at::Tensor target = at::full({1, nodes}, no_class, at::kLong);
    auto* values = target.mutable_data_ptr<int64_t>();
    const std::string name = part == "validation" ? "val" : part;
    const int64_t expected = part == "train" ? 140 : part == "test" ? 1000 : 500;
    LineReader in(file);
    while (in.next_line()) {
      if (in.word() != name) continue;
      int64_t count = 0;
      for (std::string_view word; !(word = in.word()).empty();) {
        const size_t dots = word.find("..");
        const int64_t first = in.number(word.substr(0, dots), nodes, "a paper");
        const int64_t last =
            dots == std::string_view::npos ? first : in.number(word.substr(dots + 2), nodes, "a paper");
        for (int64_t i = first; i <= last; ++i, ++count) {
          if (values[i] != no_class) in.fail("the paper " + std::to_string(i) + " stands twice in the line");
          values[i] = classes_[static_cast<size_t>(i)];
        }
      }
      if (count != expected) {
        in.fail_whole("has " + std::to_string(count) + " papers in '" + name + "'; expected " +
                      std::to_string(expected));
      }
      return target;
    }
    in.fail_whole("has no line '" + name + "'");
  }

  Options o_;
  mutable std::mutex mutex_;
  // What all parts have in common, once it was read from the folder.
  mutable fs::path folder_;
  mutable at::Tensor input_, adjacency_;
  mutable std::vector<int64_t> classes_;
};

ESPALIER_PLUGIN("cora", "1.0.0",
                component<Cora>("cora", "citation network of 2,708 papers: one graph, a class for each node"));

}  // namespace espalier
