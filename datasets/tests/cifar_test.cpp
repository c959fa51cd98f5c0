#include "espalier/datasets/cifar.h"

#include "sample_files.h"

namespace espalier {
namespace {

using samples::Bytes;
using testing::HasSubstr;

const CifarFormat one_label{.classes = {10}};
const CifarFormat two_labels{.classes = {20, 100}};

struct Records {
  Bytes images;
  Bytes labels;
};

Records read(const std::filesystem::path& file, const CifarFormat& format, int64_t records) {
  Records r{Bytes(static_cast<size_t>(records * format.pixels)),
            Bytes(static_cast<size_t>(records) * format.classes.size())};
  read_cifar(file, format, records, r.images, r.labels);
  return r;
}

TEST(Cifar, TakesRecordsApart) {
  const samples::Folder folder;
  // More records than are read at a time, and not a multiple of them.
  for (const CifarFormat& format : {one_label, two_labels}) {
    const int64_t n = 150;
    const Records r = read(samples::write(folder / "file", samples::cifar(n, format.classes)), format, n);
    for (int64_t i = 0; i < n; ++i) {
      for (size_t l = 0; l < format.classes.size(); ++l) {
        ASSERT_EQ(r.labels[static_cast<size_t>(i) * format.classes.size() + l], i % format.classes[l]);
      }
      for (int64_t p = 0; p < format.pixels; ++p) ASSERT_EQ(r.images[static_cast<size_t>(i * 3072 + p)], (i + p) % 251);
    }
  }
}

TEST(Cifar, SaysHowManyRecordsThereShouldBe) {
  const samples::Folder folder;
  const std::filesystem::path file = samples::write(folder / "file", samples::cifar(3, {10}));
  EXPECT_EQ(samples::input_error([&] { read(file, one_label, 4); }),
            file.string() + ": holds 3 records (9,219 bytes); expected 4 records of 3,073 bytes, 12,292");
  EXPECT_THAT(samples::input_error([&] { read(file, one_label, 2); }), HasSubstr("holds 3 records"));
  Bytes bytes = samples::cifar(3, {10});
  bytes.pop_back();
  samples::write(file, bytes);
  EXPECT_THAT(
      samples::input_error([&] { read(file, one_label, 3); }),
      HasSubstr("holds 9,218 bytes, which is no whole number of records; expected 3 records of 3,073 bytes, 9,219"));
  samples::write(file, {});
  EXPECT_THAT(samples::input_error([&] { read(file, one_label, 3); }), HasSubstr("is empty"));
  EXPECT_THAT(samples::input_error([&] { read(folder.path(), one_label, 3); }), HasSubstr("is a folder"));
}

TEST(Cifar, NamesTheRecordWithAWrongLabel) {
  const samples::Folder folder;
  Bytes bytes = samples::cifar(80, {10});
  bytes[70 * 3073] = 10;
  std::filesystem::path file = samples::write(folder / "file", bytes);
  EXPECT_EQ(samples::input_error([&] { read(file, one_label, 80); }),
            file.string() + ": record 70 (counted from 0) has the label 10; expected 0 to 9");
  bytes = samples::cifar(80, {20, 100});
  bytes[7 * 3074 + 1] = 100;
  samples::write(file, bytes);
  EXPECT_THAT(samples::input_error([&] { read(file, two_labels, 80); }),
              HasSubstr("label 100 in byte 1; expected 0 to 99"));
  bytes[7 * 3074 + 1] = 99;
  bytes[7 * 3074] = 20;
  samples::write(file, bytes);
  EXPECT_THAT(samples::input_error([&] { read(file, two_labels, 80); }),
              HasSubstr("label 20 in byte 0; expected 0 to 19"));
}

}  // namespace
}  // namespace espalier
