// Data sets that are read on demand: the same batches as if they lay in memory, whoever reads them and when.
#include "data/read_ahead.h"

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/data_pipeline.h"
#include "data/split.h"
#include "espalier/error.h"
#include "espalier/random_fill.h"

namespace espalier {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr InputSpec image{.channels = 2, .height = 4, .width = 5};
constexpr int64_t bytes = 2 * 4 * 5;

// Images whose bytes follow from their number and, in training, from the key. Takes times that differ from image to
// image; counts what it reads.
class Numbered final : public Samples {
 public:
  Numbered(int64_t size, bool random) : size_(size), random_(random) {}
  int64_t size() const override { return size_; }
  void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const override {
    std::this_thread::sleep_for(std::chrono::microseconds(philox(static_cast<uint64_t>(sample), 0).v[0] % 300));
    {
      const std::lock_guard lock(mutex_);
      ++times_[sample];
    }
    ++begun;
    if (sample >= bad) throw InputError("image " + std::to_string(sample), "is damaged");
    const uint64_t draw = training && random_ ? key.value() : 0;
    for (int64_t i = 0; i < bytes; ++i) out[i] = static_cast<uint8_t>(sample * 7 + i * 3 + static_cast<int64_t>(draw));
  }
  std::map<int64_t, int> times() const {
    const std::lock_guard lock(mutex_);
    return times_;
  }
  // Waits until n were begun, at most some seconds, and as long again as it takes to see that no more are.
  int settled(int n) const {
    for (int i = 0; i < 5000 && begun < n; ++i) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(50ms);
    return begun;
  }
  int64_t bad = 1 << 30;  // from which number on they are damaged
  mutable std::atomic<int> begun = 0;

 private:
  int64_t size_;
  bool random_;
  mutable std::mutex mutex_;
  mutable std::map<int64_t, int> times_;
};

Normalization plain() {
  Normalization n{};
  for (float& s : n.scale) s = 0.5F;
  return n;
}

at::Tensor targets(int64_t n) {
  return at::arange(n, at::kLong).remainder(3);
}

Split on_demand(const std::shared_ptr<const Samples>& samples) {
  return {.inputs = {}, .targets = {{"target", targets(samples->size())}}, .samples = samples};
}

std::unique_ptr<DataPipeline> pipeline(const Split& split, int64_t threads) {
  const OnDemand reading{.image = image, .threads = threads};
  return std::make_unique<DataPipeline>(split, plain(), at::kCPU, at::kFloat, reading);
}

const ImageTransform augmentation{.crop = 1, .flip = 0.5F, .rotate = 0.3F, .cutout = 2};

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_TRUE(a.input().equal(b.input()));
  EXPECT_TRUE(a.target().equal(b.target()));
}

// The batches of an epoch, from one on.
std::vector<Batch> epoch(DataPipeline& p, int64_t batch, int64_t first = 0) {
  p.set_order(permutation(p.size(), RandomKey(3)));
  std::vector<Batch> batches;
  for (int64_t begin = first * batch; begin < p.size(); begin += batch)
    batches.push_back(p.batch(begin, std::min(p.size(), begin + batch), augmentation, RandomKey(8)));
  return batches;
}

TEST(OnDemand, GivesTheBatchesThatADataSetInMemoryGives) {
  const auto samples = std::make_shared<Numbered>(50, false);
  const at::Tensor all = at::empty({50, 2, 4, 5}, at::kByte);
  for (int64_t i = 0; i < 50; ++i) samples->read(i, false, RandomKey(), all.mutable_data_ptr<uint8_t>() + i * bytes);
  DataPipeline held({.inputs = {{"input", all}}, .targets = {{"target", targets(50)}}}, plain(), at::kCPU, at::kFloat);
  const auto read = pipeline(on_demand(samples), 3);
  EXPECT_TRUE(read->inputs().empty());
  EXPECT_EQ(read->size(), 50);
  const std::vector<Batch> a = epoch(held, 8), b = epoch(*read, 8);
  ASSERT_EQ(b.size(), 7U);
  for (size_t i = 0; i < a.size(); ++i) expect_equal(a[i], b[i]);
  for (const auto& [begin, end] : {std::pair{0, 20}, {20, 40}, {40, 50}, {7, 9}})
    expect_equal(held.plain_batch(begin, end), read->plain_batch(begin, end));
  const std::vector<int64_t> order{4, 40, 2, 9, 33};
  for (const int64_t stream : {0, 1}) {
    expect_equal(held.samples(stream, order, 1, 3, augmentation, RandomKey(2)),
                 read->samples(stream, order, 1, 3, augmentation, RandomKey(2)));
  }
}

TEST(OnDemand, IsTheSameForAnyNumberOfThreadsAndWhereverItIsTakenUp) {
  const auto samples = std::make_shared<Numbered>(61, true);
  const std::vector<Batch> one = epoch(*pipeline(on_demand(samples), 1), 6);
  for (const int64_t threads : {2, 7}) {
    const std::vector<Batch> more = epoch(*pipeline(on_demand(samples), threads), 6);
    for (size_t i = 0; i < one.size(); ++i) expect_equal(one[i], more[i]);
  }
  const std::vector<Batch> rest = epoch(*pipeline(on_demand(samples), 2), 6, 4);
  ASSERT_EQ(rest.size(), one.size() - 4);
  for (size_t i = 0; i < rest.size(); ++i) expect_equal(one[i + 4], rest[i]);
  // A sample draws from its number in the split, whatever batch it is in; another key is another draw.
  const auto p = pipeline(on_demand(samples), 2);
  const at::Tensor whole = p->batch(0, 61, {}, RandomKey(8)).input();
  EXPECT_TRUE(p->batch(10, 20, {}, RandomKey(8)).input().equal(whole.slice(0, 10, 20)));
  EXPECT_FALSE(p->batch(0, 61, {}, RandomKey(9)).input().equal(whole));
  // None at all in an evaluation.
  expect_equal(p->plain_batch(0, 61),
               pipeline(on_demand(std::make_shared<Numbered>(61, false)), 1)->plain_batch(0, 61));
}

TEST(OnDemand, ReadsAFewBatchesAheadAndNoImageTwice) {
  const auto samples = std::make_shared<Numbered>(60, true);
  const auto p = pipeline(on_demand(samples), 4);
  p->set_order(permutation(60, RandomKey(3)));
  EXPECT_EQ(samples->settled(0), 0) << "nothing is read before it is asked for";
  p->batch(0, 5, {}, RandomKey(1));
  const int ahead = 5 * (1 + ReadAhead::batches_ahead);
  EXPECT_EQ(samples->settled(ahead), ahead);
  for (int64_t begin = 5; begin < 60; begin += 5) p->batch(begin, begin + 5, {}, RandomKey(1));
  EXPECT_EQ(samples->times().size(), 60U);
  for (const auto& [sample, times] : samples->times()) EXPECT_EQ(times, 1) << sample;
}

TEST(OnDemand, ReadsSeveralSequencesAheadAtOnce) {
  const auto samples = std::make_shared<Numbered>(60, true);
  const auto p = pipeline(on_demand(samples), 4);
  p->set_order(permutation(60, RandomKey(3)));
  const std::vector<int64_t> other = permutation(60, RandomKey(4));
  std::vector<Batch> mixed;
  for (int64_t begin = 0; begin < 60; begin += 10) {
    mixed.push_back(p->batch(begin, begin + 10, {}, RandomKey(1)));
    mixed.push_back(p->samples(0, other, begin, begin + 10, {}, RandomKey(2)));
  }
  for (const auto& [sample, times] : samples->times()) EXPECT_EQ(times, 2) << sample;
  const auto q = pipeline(on_demand(samples), 1);
  q->set_order(permutation(60, RandomKey(3)));
  for (size_t i = 0; i < 6; ++i) {
    const auto begin = static_cast<int64_t>(10 * i);
    expect_equal(mixed[2 * i], q->batch(begin, begin + 10, {}, RandomKey(1)));
  }
  for (size_t i = 0; i < 6; ++i) {
    const auto begin = static_cast<int64_t>(10 * i);
    expect_equal(mixed[2 * i + 1], q->samples(5, other, begin, begin + 10, {}, RandomKey(2)));
  }
}

TEST(OnDemand, ForgetsWhatItReadForAnotherOrder) {
  const auto samples = std::make_shared<Numbered>(30, true);
  const auto p = pipeline(on_demand(samples), 3);
  const std::vector<int64_t> first = permutation(30, RandomKey(1)), second = permutation(30, RandomKey(2));
  p->set_order(first);
  p->batch(0, 5, {}, RandomKey(1));
  samples->settled(15);
  p->set_order(second);
  // The batches that were read ahead are those of the first order.
  const at::Tensor got = p->batch(5, 10, {}, RandomKey(1)).input();
  EXPECT_TRUE(got.equal(pipeline(on_demand(samples), 1)->samples(0, second, 5, 10, {}, RandomKey(1)).input()));
}

TEST(OnDemand, ReportsADamagedImageWhenItsBatchIsAskedFor) {
  for (const int64_t threads : {1, 4}) {
    const auto samples = std::make_shared<Numbered>(40, true);
    samples->bad = 13;
    const auto p = pipeline(on_demand(samples), threads);
    p->batch(0, 10, {}, RandomKey(1));  // the next one is being read meanwhile
    try {
      p->batch(10, 20, {}, RandomKey(1));
      ADD_FAILURE() << "no error";
    } catch (const InputError& e) {
      EXPECT_STREQ(e.what(), "image 13: is damaged") << "the first one, whichever was met first";
    }
    p->batch(0, 10, {}, RandomKey(1));  // what is whole can still be read
  }
}

TEST(OnDemand, StopsAtOnceInTheMiddleOfReading) {
  const auto samples = std::make_shared<Numbered>(1000, true);
  {
    const auto p = pipeline(on_demand(samples), 2);
    p->batch(0, 1, {}, RandomKey(1));
    p->plain_batch(0, 300);  // 600 more are to be read
  }
  const int read = samples->begun;
  EXPECT_LT(read, 600);
  EXPECT_EQ(samples->settled(0), read) << "nothing is read any more";
}

TEST(OnDemand, ASubsetHasItsOwnNumbers) {
  const auto samples = std::make_shared<Numbered>(20, false);
  const Split some = subset(on_demand(samples), {19, 3, 8});
  ASSERT_EQ(some.samples->size(), 3);
  const auto all = pipeline(on_demand(samples), 2), p = pipeline(some, 2);
  const Batch expected = all->samples(0, std::vector<int64_t>{19, 3, 8}, 0, 3, {}, RandomKey(1));
  expect_equal(p->batch(0, 3, {}, RandomKey(1)), expected);
  expect_equal(p->plain_batch(0, 3), expected);
}

TEST(OnDemand, WhatIsThrownNamesTheComponent) {
  class Broken final : public Samples {
    int64_t size() const override { return 1; }
    void read(int64_t, bool, RandomKey, uint8_t*) const override { throw std::out_of_range("oh"); }
  };
  Registered component;
  component.component.kind = "dataset";
  component.component.name = "broken";
  const auto p = pipeline(labelled_split(on_demand(std::make_shared<Broken>()), component, {}), 1);
  try {
    p->plain_batch(0, 1);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::AllOf(HasSubstr("dataset 'broken'"), HasSubstr("oh")));
  }
}

// Images of 1 + number x 2 + number pixels that all hold their number, with as many rows of a target.
class Unequal final : public Samples {
 public:
  int64_t size() const override { return 6; }
  Sample sample(int64_t number, bool training, RandomKey key) const override {
    const double drawn = training ? unit_float(philox(key.value(), 0).v[0]) : 0;
    return {.inputs = {{"input", at::full({2, 1 + number, 2 + number}, number, at::kByte)},
                       {"sizes", at::tensor({1.0 + static_cast<double>(number), 2.0 + static_cast<double>(number)})}},
            .targets = {{"image", at::tensor({number, number * number}, at::kLong)}},
            .rows = {{"boxes", at::full({number, 4}, drawn, at::kDouble)}}};
  }
};

std::unique_ptr<DataPipeline> unequal_pipeline(const Split& split, int64_t threads = 2) {
  const OnDemand reading{.image = image, .threads = threads, .size_multiple = 4};
  Normalization normalization = plain();
  for (float& shift : normalization.shift) shift = 10;
  return std::make_unique<DataPipeline>(split, normalization, at::kCPU, at::kFloat, reading);
}

TEST(OnDemand, PadsImagesThatDifferInSize) {
  const Split all{.inputs = {}, .targets = {}, .samples = std::make_shared<Unequal>()};
  const auto pipeline = unequal_pipeline(all);
  const Batch batch = pipeline->plain_batch(1, 5);
  // Of the largest image, 5 x 6, the next multiples of 4.
  ASSERT_EQ(batch.input().sizes(), (std::vector<int64_t>{4, 2, 8, 8}));
  for (int64_t i = 0; i < 4; ++i) {
    const int64_t number = i + 1;
    const at::Tensor x = batch.input()[i];
    const at::Tensor inside = x.slice(1, 0, 1 + number).slice(2, 0, 2 + number);
    EXPECT_TRUE(inside.eq(0.5 * static_cast<double>(number) + 10).all().item<bool>());
    // Zeros after the normalisation, wherever else.
    EXPECT_EQ(x.ne(0).sum().item<int64_t>(), inside.numel());
  }
  EXPECT_EQ(batch.input("sizes").scalar_type(), at::kFloat);
  EXPECT_TRUE(batch.input("sizes")[2].equal(at::tensor({4.0F, 5.0F})));
  EXPECT_TRUE(batch.target("image")[3].equal(at::tensor({4, 16}, at::kLong)));
  EXPECT_EQ(batch.target("boxes").sizes(), (std::vector<int64_t>{1 + 2 + 3 + 4, 4}));
  EXPECT_EQ(batch.target("boxes").scalar_type(), at::kDouble);
  EXPECT_TRUE(batch.target("boxes.offsets").equal(at::tensor({0, 1, 3, 6, 10}, at::kLong)));
  EXPECT_EQ(batch.size(), 4);
  // A batch of images without rows.
  EXPECT_EQ(pipeline->plain_batch(0, 1).target("boxes").sizes(), (std::vector<int64_t>{0, 4}));
  EXPECT_THROW(unequal_pipeline({.inputs = {{"input", at::zeros({3, 2})}}, .targets = {}}), Error);
}

TEST(OnDemand, DrawsFromTheKeyOfEachImageThatDiffersInSize) {
  const Split all{.inputs = {}, .targets = {}, .samples = std::make_shared<Unequal>()};
  const auto rows = [&](const Split& split, int64_t threads, int64_t batch) {
    const auto pipeline = unequal_pipeline(split, threads);
    std::vector<at::Tensor> boxes;
    for (int64_t begin = 0; begin < pipeline->size(); begin += batch) {
      boxes.push_back(
          pipeline->batch(begin, std::min(begin + batch, pipeline->size()), {}, RandomKey(3)).target("boxes"));
    }
    return at::cat(boxes);
  };
  const at::Tensor one = rows(all, 1, 2);
  EXPECT_TRUE(one.equal(rows(all, 3, 2)));
  EXPECT_TRUE(one.equal(rows(all, 2, 5)));
  // A part of the data set is numbered by itself, and reads the samples of the whole.
  const Batch part = unequal_pipeline(subset(all, {1, 4}))->plain_batch(0, 2);
  EXPECT_TRUE(part.target("image")[1].equal(at::tensor({4, 16}, at::kLong)));
}

TEST(OnDemand, RefusesTargetsThatDoNotFit) {
  Split split = on_demand(std::make_shared<Numbered>(20, false));
  split.targets = {{"target", targets(19)}};
  EXPECT_THROW(pipeline(split, 1), Error);
}

}  // namespace
}  // namespace espalier
