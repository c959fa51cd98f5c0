#include <ATen/core/Tensor.h>
#include <espalier/dataset.h>
#include <espalier/error.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, GivesWhatItAnnounces) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  const auto dataset = Registry::instance().create<Dataset>(from_json(R"({"use": "@NAME@", "count": 40})"));
  const Split train = dataset->load("train", {});
  const Split test = dataset->load("test", {});
  EXPECT_EQ(train.input().sizes().vec(), (std::vector<int64_t>{40, 1, 16, 16}));
  EXPECT_EQ(test.input().size(0), 10);
  EXPECT_EQ(train.input().scalar_type(), at::kByte);
  EXPECT_EQ(train.target().max().item<int64_t>() + 1, dataset->info().target.outputs);
  const at::Tensor left = train.input()[0].to(at::kDouble).slice(2, 0, 8);
  EXPECT_GT(left.mean().item<double>(), train.input()[0].to(at::kDouble).mean().item<double>())
      << "class 0 is bright on the left";
  EXPECT_EQ(dataset->info().samples, 40);
  EXPECT_THROW(dataset->load("tset", {}), InputError);
}

}  // namespace
}  // namespace espalier
