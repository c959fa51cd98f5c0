#include "espalier/datasets/idx.h"

#include <unistd.h>

#include "sample_files.h"

namespace espalier {
namespace {

using samples::Bytes;
using testing::HasSubstr;

class Idx : public testing::Test {
 protected:
  std::string error_of(const Bytes& bytes) {
    const std::filesystem::path file = samples::write(folder_ / "file", bytes);
    const std::string message = samples::input_error([&] { read_idx(file); });
    EXPECT_THAT(message, testing::StartsWith(file.string() + ": "));
    return message;
  }
  samples::Folder folder_;
};

TEST_F(Idx, ReadsPlainAndCompressedFilesWhateverTheirNames) {
  const Bytes bytes = samples::idx({5, 3, 4});
  for (const auto& [name, content] :
       {std::pair("plain", bytes), {"plain.gz", bytes}, {"packed", samples::gzip(bytes)}}) {
    const IdxArray array = read_idx(samples::write(folder_ / name, content));
    EXPECT_EQ(array.sizes, (std::vector<int64_t>{5, 3, 4})) << name;
    EXPECT_EQ(array.bytes, Bytes(bytes.begin() + 16, bytes.end())) << name;
  }
  const IdxArray labels = read_idx(samples::write(folder_ / "labels", samples::idx({7})));
  EXPECT_EQ(labels.sizes, std::vector<int64_t>{7});
  EXPECT_EQ(labels.bytes, (Bytes{0, 1, 2, 3, 4, 5, 6}));
}

TEST_F(Idx, ReadsFilesOfMoreThanOneBufferAndOneGzipMember) {
  const Bytes bytes = samples::idx({700, 28, 28});
  EXPECT_EQ(read_idx(samples::write(folder_ / "a", bytes)).bytes, Bytes(bytes.begin() + 16, bytes.end()));
  Bytes two = samples::gzip({bytes.begin(), bytes.begin() + 1000});
  const Bytes rest = samples::gzip({bytes.begin() + 1000, bytes.end()});
  two.insert(two.end(), rest.begin(), rest.end());
  EXPECT_EQ(read_idx(samples::write(folder_ / "b", two)).bytes, Bytes(bytes.begin() + 16, bytes.end()));
}

TEST_F(Idx, SaysThatItIsAnotherKindOfFile) {
  EXPECT_THAT(error_of({'P', 'K', 3, 4, 0, 0, 0, 0}), HasSubstr("is not an IDX file: it begins with 50 4b 03 04"));
  EXPECT_THAT(error_of({0, 0, 8}), HasSubstr("is not an IDX file: it holds 3 bytes"));
  EXPECT_THAT(error_of({}), HasSubstr("is empty"));
  EXPECT_THAT(error_of(samples::gzip({})), HasSubstr("it holds 0 bytes"));
}

TEST_F(Idx, SaysWhatItDoesNotRead) {
  EXPECT_THAT(error_of(samples::idx_header({4}, 0x0d)),
              HasSubstr("holds 32-bit floats (IDX type 0d); only unsigned bytes"));
  EXPECT_THAT(error_of(samples::idx_header({4}, 0x77)), HasSubstr("an unknown type"));
  EXPECT_THAT(error_of(samples::idx({2, 2})), HasSubstr("has 2 dimensions; expected 1 (labels) or 3 (images)"));
  EXPECT_THAT(error_of({0, 0, 8, 255, 0, 0}), HasSubstr("has 255 dimensions"));
}

TEST_F(Idx, SaysHowMuchIsMissing) {
  Bytes bytes = samples::idx_header({60000, 28, 28});
  EXPECT_THAT(error_of({0, 0, 8, 3, 0, 0}), HasSubstr("is cut short within its header"));
  bytes.resize(1234);
  EXPECT_THAT(error_of(bytes), HasSubstr("holds 1,234 of 47,040,016 bytes"));
  // A whole gzip file of too few bytes; the other cut short is gzip itself.
  bytes = samples::idx({100, 28, 28});
  bytes.resize(1234);
  EXPECT_THAT(error_of(samples::gzip(bytes)), HasSubstr("holds 1,234 of 78,416 bytes"));
  Bytes packed = samples::gzip(samples::idx({100, 28, 28}));
  packed.resize(packed.size() - 9);
  EXPECT_THAT(error_of(packed), HasSubstr("is cut short: its gzip data do not end"));
  packed.resize(5);
  EXPECT_THAT(error_of(packed), HasSubstr("is cut short: its gzip data do not end"));
}

TEST_F(Idx, RejectsTrailingBytes) {
  Bytes bytes = samples::idx({3, 2, 2});
  bytes.push_back(0);
  EXPECT_THAT(error_of(bytes), HasSubstr("holds more than the 28 bytes that its header says"));
  EXPECT_THAT(error_of(samples::gzip(bytes)), HasSubstr("holds more than the 28 bytes that its header says"));
  Bytes packed = samples::gzip(samples::idx({3, 2, 2}));
  packed.insert(packed.end(), {1, 2, 3});
  EXPECT_THAT(error_of(packed), HasSubstr("holds 3 or more bytes after the end of its gzip data"));
}

TEST_F(Idx, ChecksTheChecksumOfGzip) {
  Bytes packed = samples::gzip(samples::idx({100, 28, 28}));
  packed[packed.size() - 6] ^= 1;  // of the CRC-32
  EXPECT_THAT(error_of(packed), HasSubstr("its gzip data are damaged: incorrect data check"));
  packed = samples::gzip(samples::idx({100, 28, 28}));
  for (size_t i = packed.size() / 2; i < packed.size() / 2 + 8; ++i) packed[i] ^= 0xff;
  EXPECT_THAT(error_of(packed), HasSubstr("gzip data"));
}

TEST_F(Idx, TakesNoMemoryOnTheHeadersWord) {
  const int64_t most = 0xffffffff;
  EXPECT_THAT(error_of(samples::idx_header({most, most, most})),
              HasSubstr("4,294,967,295 x 4,294,967,295 x 4,294,967,295 bytes, more than"));
  EXPECT_THAT(error_of(samples::idx_header({most, 28, 28})), HasSubstr("holds 16 of 3,367,254,359,296 bytes"));
  EXPECT_THAT(error_of(samples::gzip(samples::idx_header({most, 28, 28}))), HasSubstr("more than a file of"));
  EXPECT_THAT(error_of(samples::idx_header({0, 28, 28})), HasSubstr("holds nothing: its header says 0 x 28 x 28"));
}

TEST_F(Idx, SaysWhyAFileCannotBeRead) {
  const auto message = [&](const std::filesystem::path& file) { return samples::input_error([&] { read_idx(file); }); };
  EXPECT_THAT(message(folder_.path()), HasSubstr("is a folder, not a file"));
  EXPECT_THAT(message(folder_ / "nothing"), HasSubstr("No such file"));
  EXPECT_THAT(message("/dev/null"), HasSubstr("is not a regular file"));
}

TEST_F(Idx, SaysThatAFileMayNotBeRead) {
  const std::filesystem::path file = samples::write(folder_ / "secret", samples::idx({3}));
  std::filesystem::permissions(file, std::filesystem::perms::none);
  if (access(file.c_str(), R_OK) == 0) GTEST_SKIP() << "the superuser may read everything";
  EXPECT_THAT(samples::input_error([&] { read_idx(file); }), HasSubstr("Permission denied"));
}

}  // namespace
}  // namespace espalier
