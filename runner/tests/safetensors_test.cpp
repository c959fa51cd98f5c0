#include "formats/safetensors.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"
#include "system/files.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

TEST(Safetensors, AreReadAsTheyWereWritten) {
  const TempFolder folder;
  const at::Tensor strided = at::randn({3, 4, 5, 2}).contiguous(at::MemoryFormat::ChannelsLast);
  save_safetensors(folder / "a.safetensors", {{{"w", strided},
                                               {"none", at::randn({0})},
                                               {"n", at::arange(7, at::kLong)},
                                               {"d", at::randn({2}).to(at::kDouble)}},
                                              {{"key", "text"}}});
  const TensorFile back = load_safetensors(folder / "a.safetensors");
  ASSERT_EQ(back.tensors.size(), 4U);
  EXPECT_EQ(back.tensors[1].second.numel(), 0);
  EXPECT_EQ(back.tensors[0].first, "w");
  EXPECT_TRUE(back.tensors[0].second.equal(strided));
  EXPECT_TRUE(back.tensors[2].second.equal(at::arange(7, at::kLong)));
  EXPECT_EQ(back.tensors[3].second.scalar_type(), at::kDouble);
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

// What load_safetensors() says of a file with this header and so many bytes of values; "fine" where it takes it.
std::string said_of(const std::string& header, size_t bytes) {
  const TempFolder folder;
  const uint64_t size = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &size, 8);
  write_file(folder / "a.safetensors", file + header + std::string(bytes, '\1'));
  try {
    load_safetensors(folder / "a.safetensors");
    return "fine";
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), HasSubstr("a.safetensors: ")) << header;
    return e.what();
  }
}

std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + R"(": {"dtype": ")" + type + R"(", "shape": )" + shape + R"(, "data_offsets": )" + offsets + "}";
}

// As the reference, safetensors' own library, has it: "no holes", every byte belongs to one tensor.
TEST(Safetensors, EveryByteBelongsToOneTensor) {
  const std::string a = entry("a", "F32", "[2]", "[0, 8]");
  EXPECT_EQ(said_of("{" + a + "}", 8), "fine");
  EXPECT_EQ(said_of("{" + a + ", " + entry("b", "F32", "[1]", "[8, 12]") + "}", 12), "fine");
  EXPECT_EQ(said_of("{" + entry("b", "F32", "[1]", "[8, 12]") + ", " + a + "}", 12), "fine") << "in any order";
  EXPECT_THAT(said_of("{" + a + ", " + entry("b", "F32", "[1]", "[4, 8]") + "}", 8), HasSubstr("the same bytes"));
  EXPECT_THAT(said_of("{" + a + ", " + entry("b", "F32", "[2]", "[0, 8]") + "}", 8), HasSubstr("the same bytes"));
  EXPECT_THAT(said_of("{" + a + ", " + entry("b", "F32", "[1]", "[12, 16]") + "}", 16), HasSubstr("from 8 to 12"));
  EXPECT_THAT(said_of("{" + a + "}", 9), HasSubstr("last 1 bytes"));
  EXPECT_THAT(said_of("{" + entry("a", "F32", "[2]", "[4, 12]") + "}", 12), HasSubstr("from 0 to 4"));
}

TEST(Safetensors, SizesThatCannotBeAreNamed) {
  for (const char* shape :
       {"[0, 4611686018427387904, 4611686018427387904]", "[9223372036854775807, 2]", "[4611686018427387904, 0, 8]"}) {
    EXPECT_THAT(said_of("{" + entry("a", "F32", shape, "[0, 0]") + "}", 0),
                HasSubstr("tensor 'a' is larger than any memory"))
        << shape;
  }
  EXPECT_EQ(said_of("{" + entry("a", "F32", "[0, 7]", "[0, 0]") + "}", 0), "fine");
  EXPECT_THAT(said_of("{" + entry("a", "F32", "[-1]", "[0, 4]") + "}", 4), HasSubstr("the size the integer -1"));
  EXPECT_THAT(said_of("{" + entry("a", "F32", "[1.5]", "[0, 4]") + "}", 4), HasSubstr("tensor 'a' has the size"));
  EXPECT_THAT(said_of("{" + entry("a", "F32", "[1]", "[0, 8]") + "}", 8), HasSubstr("8 bytes, and its shape [1]"));
  EXPECT_THAT(said_of("{" + entry("a", "F32", "[1]", "[4, 0]") + "}", 4), HasSubstr("outside the file"));
  EXPECT_THAT(said_of("[]", 0), HasSubstr("its header is no map"));
  EXPECT_THAT(said_of("{\"a\": 3}", 0), HasSubstr("tensor 'a' has no 'dtype'"));
  EXPECT_THAT(said_of("{\"__metadata__\": {\"k\": 3}}", 0), HasSubstr("its metadata 'k' are no text"));
  EXPECT_THAT(said_of("{", 0), HasSubstr("its header is not valid JSON"));
}

// One tensor of a type that networks have no use for leaves the others readable.
TEST(Safetensors, AllTypesOfPyTorchAreReadAndOthersAreLeft) {
  const TempFolder folder;
  const at::Tensor values = at::arange(4).to(at::kFloat);
  for (const at::ScalarType type : {at::kChar, at::kShort, at::kUInt16, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    save_safetensors(folder / "a", {{{"w", values}, {"other", values.to(type)}}, {}});
    const TensorFile file = load_safetensors(folder / "a");
    ASSERT_EQ(file.tensors.size(), 2U) << type;
    EXPECT_EQ(file.tensors[1].second.scalar_type(), type);
    EXPECT_TRUE(file.tensors[1].second.to(at::kFloat).equal(values)) << type;
  }
  const std::string header =
      "{" + entry("w", "F32", "[1]", "[0, 4]") + ", " + entry("packed", "F4", "[2]", "[4, 5]") + "}";
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  write_file(folder / "b", bytes + header + std::string(5, '\0'));
  const TensorFile file = load_safetensors(folder / "b");
  EXPECT_EQ(file.tensors.size(), 1U);
  EXPECT_EQ(file.left, std::vector<std::string>{"packed (F4)"});
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
