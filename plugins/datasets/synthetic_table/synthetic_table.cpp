#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>

#include <espalier/dataset.h>
#include <espalier/error.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>

namespace espalier {

// Rows of independent normal features, and what a linear teacher says of them: something to train on where there is no
// data, and whose best solution is known.
class SyntheticTable final : public Dataset {
 public:
  struct Options {
    std::string task = task::regression;
    int64_t features = 20;
    int64_t outputs = 1;
    int64_t count = 2000;
    double noise = 0.1;
    int64_t seed = 0;

    static void declare(Declare<Options>& p) {
      p("task", &Options::task, one_of({task::regression, task::classification, task::multilabel}),
        "What is learned of a row; regression: the outputs of the teacher; classification: which is the largest; "
        "multilabel: which are above 0.");
      p("features", &Options::features, at_least(1), at_most(100'000), "Number of features.");
      p("outputs", &Options::outputs, at_least(1), at_most(100'000),
        "Number of outputs of the teacher: values, classes or labels.");
      p("count", &Options::count, at_least(10), at_most(1e7),
        "Number of training rows. There are a quarter as many test rows.");
      p("noise", &Options::noise, at_least(0), at_most(100),
        "Standard deviation of the noise on each output of the teacher, which itself has 1.");
      p("seed", &Options::seed, "Seed of the rows and of the teacher.");
    }
  };

  explicit SyntheticTable(const Options& options) : o_(options) {
    if (o_.task == task::classification && o_.outputs < 2)
      throw Error("outputs: classification needs at least two classes, got " + std::to_string(o_.outputs));
  }

  DatasetInfo info() const override {
    return {.input = {.channels = o_.features},
            .target = {.outputs = o_.outputs, .task = o_.task},
            .classes = {},
            .mean = {},
            .deviation = {},
            .samples = o_.count};
  }

  Split load(const std::string& part, const DataPaths&) const override {
    if (part != "train" && part != "test")
      throw InputError("", "synthetic_table has no part '" + part + "'; expected train or test");
    const int64_t n = part == "train" ? o_.count : std::max<int64_t>(o_.count / 4, 2);
    const RandomKey key = RandomKey(static_cast<uint64_t>(o_.seed)).with("synthetic_table");
    // So that each output has the variance 1, whatever the number of features.
    at::Tensor teacher = normal({o_.features, o_.outputs}, 1, key.with("teacher"));
    teacher = teacher / teacher.square().sum(at::IntArrayRef{0}, /*keepdim=*/true).sqrt();
    const at::Tensor input = normal({n, o_.features}, 1, key.with(part).with("input"));
    const at::Tensor values =
        at::matmul(input, teacher) + normal({n, o_.outputs}, 1, key.with(part).with("noise")) * o_.noise;
    at::Tensor target = o_.task == task::regression       ? values.to(at::kFloat)
                        : o_.task == task::classification ? values.argmax(1)
                                                          : values.gt(0).to(at::kFloat);
    return {.inputs = {{"input", input.to(at::kFloat)}}, .targets = {{"target", target}}};
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("synthetic_table", "1.0.0",
                component<SyntheticTable>("synthetic_table",
                                          "generated rows with a linear teacher, which need no files"));

}  // namespace espalier
