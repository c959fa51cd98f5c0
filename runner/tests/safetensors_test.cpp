#include "output/safetensors.h"

#include <filesystem>

#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"
#include "output/files.h"

namespace espalier {
namespace {

TEST(Safetensors, AreReadAsTheyWereWritten) {
  const TempFolder folder;
  const at::Tensor strided = at::randn({3, 4, 5, 2}).contiguous(at::MemoryFormat::ChannelsLast);
  save_safetensors(
      folder / "a.safetensors",
      {{{"w", strided}, {"n", at::arange(7, at::kLong)}, {"d", at::randn({2}).to(at::kDouble)}}, {{"key", "text"}}});
  const TensorFile back = load_safetensors(folder / "a.safetensors");
  ASSERT_EQ(back.tensors.size(), 3U);
  EXPECT_EQ(back.tensors[0].first, "w");
  EXPECT_TRUE(back.tensors[0].second.equal(strided));
  EXPECT_TRUE(back.tensors[1].second.equal(at::arange(7, at::kLong)));
  EXPECT_EQ(back.tensors[2].second.scalar_type(), at::kDouble);
  EXPECT_EQ(back.metadata.at("key"), "text");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.safetensors.part"));
}

TEST(Safetensors, EveryCutIsAnErrorThatNamesTheFile) {
  const TempFolder folder;
  save_safetensors(folder / "a.safetensors", {{{"w", at::randn({3, 4})}, {"v", at::randn({5})}}, {}});
  const std::string whole = read_file(folder / "a.safetensors");
  for (size_t n = 0; n < whole.size(); ++n) {
    write_file(folder / "cut.safetensors", whole.substr(0, n));
    try {
      load_safetensors(folder / "cut.safetensors");
      FAIL() << n << " of " << whole.size() << " bytes were accepted";
    } catch (const InputError& e) {
      EXPECT_NE(std::string(e.what()).find("cut.safetensors"), std::string::npos) << e.what();
    }
  }
}

TEST(Files, AreWrittenWholeOrNotAtAll) {
  const TempFolder folder;
  write_file(folder / "f", "old");
  EXPECT_THROW(write_file(folder / "no-such-folder/f", "new"), Error);
  std::filesystem::create_directory(folder / "f2.part");  // the temporary file cannot be made
  EXPECT_THROW(write_file(folder / "f2", "new"), Error);
  EXPECT_EQ(read_file(folder / "f"), "old");
}

}  // namespace
}  // namespace espalier
