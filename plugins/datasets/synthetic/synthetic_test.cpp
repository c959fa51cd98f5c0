#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <c10/core/GradMode.h>

#include <espalier/dataset.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

#include "sample_files.h"

namespace espalier {
namespace {

using testing::HasSubstr;

std::unique_ptr<Dataset> synthetic(const std::string& options = "") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsynthetic.so");
  return Registry::instance().create<Dataset>(
      from_json(R"({"use": "synthetic")" + (options.empty() ? "" : ", " + options) + "}"));
}

uint64_t fingerprint(const at::Tensor& t) {
  uint64_t h = 0xcbf29ce484222325ULL;
  const auto* bytes = static_cast<const uint8_t*>(t.const_data_ptr());
  for (size_t i = 0; i < t.nbytes(); ++i) h = (h ^ bytes[i]) * 0x100000001b3ULL;
  return h;
}

TEST(Synthetic, HasTheSizesAskedFor) {
  const auto data = synthetic(R"("size": 12, "channels": 3, "classes": 7, "count": 100)");
  const DatasetInfo info = data->info();
  EXPECT_EQ(info.input.channels, 3);
  EXPECT_EQ(info.input.height, 12);
  EXPECT_EQ(info.input.width, 12);
  EXPECT_EQ(info.target.outputs, 7);
  EXPECT_EQ(info.classes.size(), 7U);
  EXPECT_EQ(info.mean.size(), 3U);
  EXPECT_EQ(data->load("train", {}).input().sizes(), (std::vector<int64_t>{100, 3, 12, 12}));
  EXPECT_EQ(data->load("test", {}).input().sizes(), (std::vector<int64_t>{25, 3, 12, 12}));
  EXPECT_EQ(synthetic(R"("classes": 10, "count": 12)")->load("test", {}).input().size(0), 10);
  EXPECT_THAT(samples::input_error([&] { data->load("rest", {}); }), HasSubstr("no part 'rest'"));
  EXPECT_THROW(synthetic(R"("size": 7)"), InputError);
  EXPECT_THROW(synthetic(R"("classes": 11)"), InputError);
}

TEST(Synthetic, IsBalancedWhereverItIsCut) {
  const Split train = synthetic(R"("classes": 10, "count": 1000)")->load("train", {});
  std::vector<int64_t> counts(10), of_even(10);
  for (int64_t i = 0; i < 1000; ++i) {
    const auto c = static_cast<size_t>(train.target().const_data_ptr<int64_t>()[i]);
    ++counts[c];
    of_even[c] += i % 2 == 0;
    if (i % 10 == 9) {
      ASSERT_THAT(counts, testing::Each(i / 10 + 1));
    }
  }
  // And an image's number tells nothing: every class is among the even and among the odd ones.
  for (const int64_t n : of_even) EXPECT_NEAR(static_cast<double>(n), 50, 25);
}

// Changes of these numbers change everybody's results.
TEST(Synthetic, IsTheSameOnEveryMachine) {
  const Split train = synthetic()->load("train", {}), test = synthetic()->load("test", {});
  EXPECT_EQ(fingerprint(train.input()), 16652453455347300288ULL);
  EXPECT_EQ(fingerprint(train.target()), 8663872240058842213ULL);
  EXPECT_EQ(fingerprint(test.input()), 3713754040356138668ULL);
  EXPECT_EQ(
      fingerprint(synthetic(R"("size": 9, "channels": 3, "classes": 10, "noise": 0.37)")->load("test", {}).input()),
      12546499430648401018ULL);
}

TEST(Synthetic, DependsOnTheSeedAndNotOnThreads) {
  const at::Tensor x = synthetic()->load("train", {}).input();
  EXPECT_FALSE(x.equal(synthetic(R"("seed": 1)")->load("train", {}).input()));
  EXPECT_FALSE(x.slice(0, 0, 500).equal(synthetic()->load("test", {}).input()));
  // A larger set begins like a smaller one.
  EXPECT_TRUE(x.slice(0, 0, 100).equal(synthetic(R"("count": 100)")->load("train", {}).input()));
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  EXPECT_TRUE(x.equal(synthetic()->load("train", {}).input()));
  at::set_num_threads(threads);
}

// How much of its bounding box each shape fills, against what geometry says.
TEST(Synthetic, DrawsTheShapesThatItNames) {
  const auto data = synthetic(R"("size": 64, "classes": 10, "count": 400, "noise": 0)");
  const std::map<std::string, double> expected = {{"disc", 0.785},          {"square", 1},
                                                  {"triangle", 0.5},        {"cross", 0.51},
                                                  {"ring", 0.785 * 0.64},   {"horizontal bars", 0.6},
                                                  {"vertical bars", 0.6},   {"diagonal bars", 0.52},
                                                  {"checkerboard", 5. / 9}, {"frame", 1 - 0.65 * 0.65}};
  const Split train = data->load("train", {});
  const auto* pixels = train.input().const_data_ptr<uint8_t>();
  std::map<std::string, double> filled;
  for (int64_t i = 0; i < 400; ++i) {
    const uint8_t* image = pixels + i * 64 * 64;
    const auto [low, high] = std::minmax_element(image, image + 64 * 64);
    EXPECT_GE(*high - *low, 70);
    int64_t left = 64, right = -1, top = 64, bottom = -1, bright = 0;
    for (int64_t p = 0; p < 64 * 64; ++p) {
      if (2 * image[p] <= *low + *high) continue;
      ++bright;
      left = std::min(left, p % 64), right = std::max(right, p % 64), top = std::min(top, p / 64),
      bottom = std::max(bottom, p / 64);
    }
    const auto box = static_cast<double>((right - left + 1) * (bottom - top + 1));
    filled[data->info().classes[static_cast<size_t>(train.target()[i].item<int64_t>())]] +=
        static_cast<double>(bright) / box / 40;
  }
  ASSERT_EQ(filled.size(), expected.size());
  for (const auto& [name, share] : filled) EXPECT_NEAR(share, expected.at(name), 0.02) << name;
}

TEST(Synthetic, HasAboutTheMomentsThatItSays) {
  for (const char* options : {"", R"("size": 32, "channels": 3, "classes": 10)"}) {
    const auto data = synthetic(options);
    const at::Tensor x = data->load("train", {}).input().to(at::kDouble) / 255;
    EXPECT_NEAR(x.mean().item<double>(), data->info().mean[0], 0.03) << options;
    EXPECT_NEAR(x.std().item<double>(), data->info().deviation[0], 0.03) << options;
  }
}

// Accuracy on the test images after training the parameters by SGD with momentum.
double accuracy(const std::string& options, std::vector<at::Tensor> parameters, int epochs, double lr,
                const std::function<at::Tensor(const at::Tensor&, const std::vector<at::Tensor>&)>& network) {
  // A second thread costs more than it gives in a network of this size.
  at::set_num_threads(1);
  const auto data = synthetic(options);
  const DatasetInfo info = data->info();
  const auto normalised = [&](const Split& s) {
    return (s.input().to(at::kFloat) / 255 - info.mean[0]) / info.deviation[0];
  };
  const Split train = data->load("train", {}), test = data->load("test", {});
  const at::Tensor x = normalised(train);
  std::vector<at::Tensor> momentum;
  for (at::Tensor& p : parameters) {
    momentum.push_back(p * 0);
    p.requires_grad_(true);
  }
  const int64_t batch = 50, steps = x.size(0) / batch;
  for (int64_t step = 0; step < steps * epochs; ++step) {
    const int64_t begin = step % steps * batch;
    const at::Tensor y = network(x.slice(0, begin, begin + batch), parameters);
    at::cross_entropy_loss(y, train.target().slice(0, begin, begin + batch)).backward();
    const c10::NoGradGuard no_grad;
    const double rate = lr * (1 - static_cast<double>(step) / static_cast<double>(steps * epochs));
    for (size_t i = 0; i < parameters.size(); ++i) {
      momentum[i].mul_(0.9).add_(parameters[i].grad());
      parameters[i].sub_(momentum[i], rate);
      parameters[i].mutable_grad().zero_();
    }
  }
  const c10::NoGradGuard no_grad;
  return (network(normalised(test), parameters).argmax(1) == test.target()).to(at::kDouble).mean().item<double>();
}

at::Tensor weights(const std::vector<int64_t>& sizes, int64_t fan_in, uint64_t seed) {
  return normal(sizes, std::sqrt(2.0 / static_cast<double>(fan_in)), RandomKey(seed)).to(at::kFloat);
}

double convolutional(const std::string& options, int64_t channels, int64_t size, int64_t classes) {
  const int64_t features = 24 * (size / 4) * (size / 4);
  return accuracy(
      options,
      {weights({12, channels, 3, 3}, 9 * channels, 1), weights({12}, 1, 2) * 0, weights({24, 12, 3, 3}, 108, 3),
       weights({24}, 1, 4) * 0, weights({classes, features}, features, 5), weights({classes}, 1, 6) * 0},
      16, 0.05, [](const at::Tensor& x, const std::vector<at::Tensor>& p) {
        at::Tensor h = at::max_pool2d(at::relu(at::conv2d(x, p[0], p[1], 1, 1)), 2, 2);
        h = at::max_pool2d(at::relu(at::conv2d(h, p[2], p[3], 1, 1)), 2, 2);
        return at::linear(h.flatten(1), p[4], p[5]);
      });
}

double linear(const std::string& options, int64_t inputs, int64_t classes) {
  return accuracy(
      options, {weights({classes, inputs}, 100 * inputs, 1), weights({classes}, 1, 2) * 0}, 30, 0.01,
      [](const at::Tensor& x, const std::vector<at::Tensor>& p) { return at::linear(x.flatten(1), p[0], p[1]); });
}

TEST(Synthetic, WantsMoreThanALinearModel) {
  const double shapes4 = linear("", 256, 4), shapes10 = linear(R"("classes": 10)", 256, 10);
  EXPECT_GT(shapes4, 0.4);
  EXPECT_LT(shapes4, 0.9);
  EXPECT_LT(shapes10, 0.9);
}

TEST(Synthetic, IsLearntByASmallConvolutionalNetwork) {
  EXPECT_GT(convolutional("", 1, 16, 4), 0.95);
  EXPECT_GT(convolutional(R"("classes": 10, "count": 4000)", 1, 16, 10), 0.95);
  EXPECT_GT(convolutional(R"("channels": 3, "classes": 10)", 3, 16, 10), 0.95);
}

}  // namespace
}  // namespace espalier
