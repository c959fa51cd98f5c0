#include "formats/tensor_files.h"

#include <string>

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

std::string said_of(const std::filesystem::path& file) {
  try {
    load_tensors(file);
    return "nothing";
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), HasSubstr(file.filename().string()));
    return e.what();
  }
}

TEST(TensorFiles, SayWhatAFileIsInstead) {
  const TempFolder folder;
  EXPECT_THAT(said_of(folder.write("a.pt", "")), HasSubstr("is empty"));
  EXPECT_THAT(said_of(folder.write("b.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")),
              HasSubstr("`git lfs pull`"));
  EXPECT_THAT(said_of(folder.write("c.pt", "\n <!DOCTYPE html><html><body>Sign in</body></html>")),
              HasSubstr("is a web page"));
  EXPECT_THAT(said_of(folder.write("d.safetensors", "<HTML>404</HTML>")), HasSubstr("is a web page"));
  EXPECT_THAT(said_of(folder.write("e.index.json", "{}")), HasSubstr("has no 'weight_map'"));
  EXPECT_THAT(said_of(folder.write("f.index.json", R"({"weight_map": {"w": "../x.safetensors"}})")),
              HasSubstr("is not a file beside it"));
  EXPECT_THAT(said_of(folder.write("g.index.json", R"({"weight_map": {"w": "part.safetensors"}})")),
              HasSubstr("'part.safetensors' is not beside it"));
}

TEST(TensorFiles, PartsAndFoldersAreReadAsOne) {
  const TempFolder folder;
  save_safetensors(folder / "model-1.safetensors", {{{"a", at::full({2}, 1.5)}}, {}});
  save_safetensors(folder / "model-2.safetensors", {{{"b", at::full({3}, 2.5)}}, {}});
  folder.write(
      "model.safetensors.index.json",
      R"({"metadata": {"total_size": 20}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  for (const auto& path : {folder / "model.safetensors.index.json", folder.path()}) {
    const NamedTensors tensors = load_tensors(path).tensors;
    ASSERT_EQ(tensors.size(), 2U) << path;
    EXPECT_TRUE(tensors[1].second.equal(at::full({3}, 2.5)));
  }
}

TEST(TensorFiles, AKeyIsForCheckpointsAlone) {
  const TempFolder folder;
  save_safetensors(folder / "a.safetensors", {{{"a", at::full({2}, 1.5)}}, {}});
  try {
    load_tensors(folder / "a.safetensors", "ema");
    ADD_FAILURE();
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), HasSubstr("`key: ema` chooses among the dictionaries of a PyTorch checkpoint"));
  }
}

}  // namespace
}  // namespace espalier
