#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>
#include <ranges>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <espalier/dataset.h>
#include <espalier/datasets/find.h>
#include <espalier/datasets/npz.h>
#include <espalier/datasets/table_dataset.h>
#include <espalier/error.h>
#include <espalier/log.h>
#include <espalier/plugin.h>

namespace espalier {
namespace {

namespace fs = std::filesystem;

// The class of what does not count.
constexpr int64_t no_class = -100;
constexpr int64_t most_classes = 1'000'000;

std::string sizes_text(const at::Tensor& x) {
  std::string text;
  for (const int64_t size : x.sizes()) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

// "[3, 1]" of an element counted in the order of the memory.
std::string index_text(const at::Tensor& x, int64_t at) {
  std::vector<std::string> parts;
  for (int64_t d = x.dim() - 1; d >= 0; --d) {
    parts.push_back(std::to_string(at % x.size(d)));
    at /= x.size(d);
  }
  std::string text;
  for (const std::string& part : std::views::reverse(parts)) text += (text.empty() ? "" : ", ") + part;
  return "[" + text + "]";
}

// The first place where `flags` is true.
int64_t first_of(const at::Tensor& flags) {
  return flags.flatten().to(at::kByte).argmax().item<int64_t>();
}

bool holds_integers(const at::Tensor& x) {
  return !x.is_floating_point();
}

// What a part of the data is made of.
struct Arrays {
  at::Tensor input, target;
  NamedTensors others;
};

}  // namespace

// Arrays of NumPy.
class Npz final : public Dataset {
 public:
  struct Options {
    std::string file;
    std::string test_file;
    std::string input = "x";
    std::string target = "y";
    std::string test_input;
    std::string test_target;
    std::vector<std::string> inputs;
    std::string layout = "auto";
    std::string task = "auto";
    bool standardize = true;
    bool standardize_target = false;
    std::optional<double> test;
    int64_t seed = 0;

    static void declare(Declare<Options>& p) {
      p("file", &Options::file, path(), required(),
        "File of numpy.savez or numpy.savez_compressed. If there is none at this path, the last parts of the path are "
        "looked for in the data folders.");
      p("test_file", &Options::test_file, path(), "File of the test part, with arrays of the same names.");
      p("input", &Options::input, "Name of the array of inputs, whose first dimension counts the samples.");
      p("target", &Options::target,
        "Name of the array of targets: integers are classes, and floating-point numbers are values.");
      p("test_input", &Options::test_input, "Name of the array of inputs of the test part, in `file`.");
      p("test_target", &Options::test_target, "Name of the array of targets of the test part, in `file`.");
      p("inputs", &Options::inputs, "Names of arrays that networks read besides, by these names, such as adjacency.");
      p("layout", &Options::layout, one_of({"auto", "vector", "grey", "channels_first", "channels_last", "nodes"}),
        "What the dimensions of a sample are; vector: features, whatever their dimensions; grey: rows and columns of "
        "pixels; channels_first, channels_last: an image; nodes: nodes of a graph and their features; auto: what can "
        "be told from the sizes (1, 3 or 4 channels).");
      p("task", &Options::task, one_of({"auto", "classification", "regression", "multilabel"}),
        "What is learned; auto: classification of integers, multilabel of several columns of integers 0 and 1, "
        "regression of floating-point numbers.");
      p("standardize", &Options::standardize,
        "Whether each feature or channel of the input gets the mean 0 and the standard deviation 1.");
      p("standardize_target", &Options::standardize_target,
        "Whether the targets of a regression get the mean 0 and the standard deviation 1.");
      p("test", &Options::test, at_least(0), below(1),
        "Share of the samples that are the test part, of each class in classification; 0: the training part is the "
        "test part, too. Left out: 0.2, unless there are arrays of the test part.");
      p("seed", &Options::seed, "Seed of the samples that are drawn for the test part.");
    }
  };

  explicit Npz(const Options& options) : o_(options) {
    if (o_.test_input.empty() != o_.test_target.empty())
      throw Error("`test_input` and `test_target` are given together");
    const int ways = (o_.test_file.empty() ? 0 : 1) + (o_.test_input.empty() ? 0 : 1) + (o_.test ? 1 : 0);
    if (ways > 1)
      throw Error("`test_file`, `test_input` and `test` each say which samples are the test part: give one of them");
    if (!o_.test_input.empty() && !o_.inputs.empty())
      throw Error(
          "`inputs` names arrays that the test part has, too: give the test part a file of its own (`test_file`)");
    if (o_.standardize_target && o_.task != "auto" && o_.task != task::regression)
      throw Error("`standardize_target` is for regression, and `task` is " + o_.task + ": leave it out");
  }

  DatasetInfo info() const override {
    const std::lock_guard lock(mutex_);
    if (!read_) read(default_data_paths({}));
    return info_;
  }

  Split load(const std::string& part, const DataPaths& paths) const override {
    if (part != "train" && part != "test")
      throw InputError(o_.file, "npz has no part '" + part + "'; expected train or test");
    const std::lock_guard lock(mutex_);
    if (!read_) read(paths);
    return part == "train" ? train_ : test_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw InputError(o_.file, what); }

  void read(const DataPaths& paths) const {
    info_ = DatasetInfo();
    classes_ = 0;
    const NpzFile file(find_data_file(o_.file, paths));
    Arrays train = arrays_of(file, o_.input, o_.target), test;
    if (!o_.test_file.empty()) {
      test = arrays_of(NpzFile(find_data_file(o_.test_file, paths)), o_.input, o_.target);
    } else if (!o_.test_input.empty()) {
      test = arrays_of(file, o_.test_input, o_.test_target);
    }
    const bool two = test.input.defined();
    if (two) expect_same_sizes(train, test);
    train.input = laid_out(train.input);
    if (two) test.input = laid_out(test.input);
    find_task(train.target);
    train.target = learned(train.target, o_.target);
    if (two) test.target = learned(test.target, o_.test_target.empty() ? o_.target : o_.test_target);
    if (two) {
      train_ = split_of(train);
      test_ = split_of(test);
    } else {
      divide(train);
    }
    describe();
    read_ = true;
  }

  Arrays arrays_of(const NpzFile& file, const std::string& input, const std::string& target) const {
    Arrays a;
    a.input = numbers(file, input);
    a.target = numbers(file, target);
    for (const std::string& name : o_.inputs) a.others.emplace_back(name, numbers(file, name).to(at::kFloat));
    const int64_t n = a.input.size(0);
    if (n == 0) throw InputError(file.file().string(), "the array '" + input + "' holds no samples");
    const auto check = [&](const std::string& name, const at::Tensor& x) {
      if (x.size(0) == n) return;
      throw InputError(file.file().string(), "'" + input + "' has " + std::to_string(n) + " samples and '" + name +
                                                 "' has " + std::to_string(x.size(0)));
    };
    check(target, a.target);
    for (const auto& [name, x] : a.others) check(name, x);
    return a;
  }

  static at::Tensor numbers(const NpzFile& file, const std::string& name) {
    at::Tensor x = file.read(name);
    const auto refuse = [&](const std::string& what) {
      throw InputError(file.file().string(), "the array '" + name + "' " + what);
    };
    if (x.dim() == 0) refuse("is a single number; its first dimension counts the samples");
    if (x.is_floating_point()) {
      // float16 and float64, too, as they will be computed with.
      x = x.to(at::kFloat);
      const at::Tensor wrong = x.isfinite().logical_not();
      if (wrong.any().item<bool>())
        refuse("holds what is no finite number of float32 at " + index_text(x, first_of(wrong)));
    }
    return x;
  }

  void expect_same_sizes(const Arrays& train, const Arrays& test) const {
    const auto check = [&](const std::string& name, const at::Tensor& a, const at::Tensor& b) {
      if (a.sizes().slice(1) == b.sizes().slice(1) && a.is_floating_point() == b.is_floating_point()) return;
      fail("'" + name + "' is " + sizes_text(a) + " in the training part and " + sizes_text(b) +
           " in the test part; samples must be alike");
    };
    check(o_.input, train.input, test.input);
    check(o_.target, train.target, test.target);
    for (size_t i = 0; i < train.others.size(); ++i)
      check(train.others[i].first, train.others[i].second, test.others[i].second);
  }

  std::string layout_of(const at::Tensor& x) const {
    const std::string what = "'" + o_.input + "' is " + sizes_text(x) + ": ";
    const auto dimensions = [&](int64_t needed) {
      if (x.dim() != needed) fail(what + "`layout: " + o_.layout + "` needs " + std::to_string(needed) + " dimensions");
    };
    if (o_.layout == "grey" || o_.layout == "nodes") dimensions(3);
    if (o_.layout.starts_with("channels")) dimensions(4);
    if (o_.layout == "vector" && x.dim() < 2) dimensions(2);
    if (o_.layout != "auto") return o_.layout;
    if (x.dim() == 2) return "vector";
    if (x.dim() == 3) {
      if (x.scalar_type() == at::kByte) return "grey";
      fail(what + "say with `layout` whether a sample is a grey image, the nodes of a graph, or a vector");
    }
    if (x.dim() != 4) fail(what + "say `layout: vector`, or save arrays of 2 to 4 dimensions");
    const auto channels = [](int64_t n) { return n == 1 || n == 3 || n == 4; };
    const bool first = channels(x.size(1)), last = channels(x.size(3));
    if (first == last) {
      fail(what +
           (first ? "both the second and the last dimension could be channels"
                  : "neither the second nor the last dimension has 1, 3 or 4 channels") +
           "; say `layout: channels_first` or `channels_last`");
    }
    return first ? "channels_first" : "channels_last";
  }

  // In the order of this project; other integers than bytes become floating point.
  at::Tensor laid_out(const at::Tensor& given) const {
    const std::string layout = layout_of(given);
    at::Tensor x = given;
    if (layout == "vector") x = x.flatten(1);
    if (layout == "grey") x = x.unsqueeze(1);
    if (layout == "channels_last") x = x.permute({0, 3, 1, 2});
    const bool image = layout != "vector" && layout != "nodes";
    if (!image || x.scalar_type() != at::kByte) x = x.to(at::kFloat);
    x = x.contiguous();
    if (x.numel() == 0) fail("'" + o_.input + "' is " + sizes_text(given) + ": samples without a number");
    info_.input = image               ? InputSpec{.channels = x.size(1), .height = x.size(2), .width = x.size(3)}
                  : layout == "nodes" ? InputSpec{.channels = x.size(2), .nodes = x.size(1)}
                                      : InputSpec{.channels = x.size(1)};
    return x;
  }

  void find_task(const at::Tensor& target) const {
    std::string& found = info_.target.task;
    found = o_.task;
    if (found == "auto") {
      const bool one = target.dim() == 1 || (target.dim() == 2 && target.size(1) == 1) || is_of_nodes(target);
      if (!holds_integers(target)) {
        found = task::regression;
      } else if (one) {
        found = task::classification;
      } else if (target.ge(0).logical_and(target.le(1)).all().item<bool>()) {
        found = task::multilabel;
      } else {
        fail("'" + o_.target + "' is " + sizes_text(target) +
             " of integers that are not all 0 or 1; say `task: regression` if they are values");
      }
    }
    if (o_.standardize_target && found != task::regression)
      fail("`standardize_target` is for regression, and this is " + found + "; leave it out");
  }

  bool is_of_nodes(const at::Tensor& target) const {
    return info_.input.nodes > 0 && target.dim() == 2 && target.size(1) == info_.input.nodes;
  }

  // The targets as the task has them.
  at::Tensor learned(at::Tensor target, const std::string& name) const {
    const std::string what = "'" + name + "' is " + sizes_text(target) + ": ";
    const std::string& task = info_.target.task;
    if (target.dim() == 2 && target.size(1) == 1 && task == task::classification) target = target.flatten();
    if (task == task::classification) {
      if (target.dim() != 1 && !is_of_nodes(target)) fail(what + "classification learns one class of each sample");
      const at::Tensor classes = target.to(at::kLong);
      const at::Tensor wrong = classes.lt(0)
                                   .logical_and(classes.ne(no_class))
                                   .logical_or(classes.ge(most_classes))
                                   .logical_or(target.ne(classes));
      if (wrong.any().item<bool>()) {
        const int64_t at = first_of(wrong);
        fail(what + "the value " + std::to_string(target.flatten()[at].item<double>()) + " at " +
             index_text(target, at) + " is no class; classes are 0, 1, 2, ... (and -100 for what does not count)");
      }
      info_.target.outputs = std::max(classes_, classes.max().item<int64_t>() + 1);
      classes_ = info_.target.outputs;
      return classes;
    }
    if (target.dim() == 1) target = target.unsqueeze(1);
    if (target.dim() != 2) fail(what + task + " learns [samples, values]");
    if (task == task::multilabel) {
      const at::Tensor wrong = target.ne(0).logical_and(target.ne(1));
      if (wrong.any().item<bool>())
        fail(what + "what stands at " + index_text(target, first_of(wrong)) + " is no label; labels are 0 and 1");
    }
    info_.target.outputs = target.size(1);
    return target.to(at::kFloat).contiguous();
  }

  static Split split_of(const Arrays& a) {
    Split s{.inputs = {{"input", a.input}}, .targets = {{"target", a.target}}};
    s.inputs.insert(s.inputs.end(), a.others.begin(), a.others.end());
    return s;
  }

  void divide(const Arrays& all) const {
    const double share = o_.test.value_or(0.2);
    train_ = split_of(all);
    if (share == 0) {
      test_ = train_;
      return;
    }
    std::vector<int32_t> classes;
    if (all.target.scalar_type() == at::kLong && all.target.dim() == 1) {
      const at::Tensor target = all.target.to(at::kInt);
      classes.assign(target.const_data_ptr<int32_t>(), target.const_data_ptr<int32_t>() + target.numel());
    }
    const RowParts parts = draw_test_rows(all.input.size(0), classes, share, static_cast<uint64_t>(o_.seed));
    if (parts.test.empty() || parts.train.empty()) {
      fail("has too few samples: " + std::to_string(all.input.size(0)) +
           " leave none for the test part; say a larger `test`, or `test: 0`");
    }
    const auto part = [&](const std::vector<int64_t>& rows) {
      const at::Tensor numbers = at::tensor(rows, at::kLong);
      Split s = train_;
      for (NamedTensors* tensors : {&s.inputs, &s.targets}) {
        for (auto& [name, x] : *tensors) x = x.index_select(0, numbers);
      }
      return s;
    };
    test_ = part(parts.test);
    train_ = part(parts.train);
  }

  void describe() const {
    for (const auto& [name, x] : train_.inputs) {
      if (name != "input") info_.input.others.push_back({name, x.sizes().slice(1).vec()});
    }
    info_.samples = train_.input().size(0);
    if (o_.standardize) info_.standardize.emplace_back("input");
    if (o_.standardize_target) info_.standardize.emplace_back("target");
    if (info_.target.task != task::classification) return;
    const at::Tensor& target = train_.target();
    const at::Tensor counting = target.masked_select(target.ge(0));
    if (counting.numel() == 0 || counting.eq(counting[0]).all().item<bool>())
      fail("'" + o_.target + "' has a single class in the training part; classification needs at least two");
  }

  Options o_;
  mutable std::mutex mutex_;
  mutable bool read_ = false;
  mutable int64_t classes_ = 0;  // of the parts so far
  mutable DatasetInfo info_;
  mutable Split train_, test_;
};

ESPALIER_PLUGIN("npz", "1.0.0", component<Npz>("npz", "arrays of NumPy: vectors, images, graphs"));

}  // namespace espalier
