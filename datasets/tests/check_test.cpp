#include "espalier/datasets/check.h"

#include "espalier/datasets/find.h"
#include "sample_sets.h"

namespace espalier {
namespace {

using samples::Bytes;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Checksum, AgreesWithPublishedOnes) {
  // RFC 1321 and FIPS 180-2.
  EXPECT_EQ(samples::sum_of({'a', 'b', 'c'}, "md5"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(samples::sum_of({'a', 'b', 'c'}, "sha256"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_THROW(Checksum("sha257"), Error);
  const samples::Folder folder;
  const std::filesystem::path packed = samples::write(folder / "packed", samples::gzip({'a', 'b', 'c'}));
  EXPECT_EQ(content_checksum(packed, "md5"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(file_checksum(packed, "md5"), samples::sum_of(samples::read(packed), "md5"));
}

TEST(CheckDataset, FindsNothingWrongWithAWholeSet) {
  const samples::TinyIdx tiny;
  for (const bool packed : {false, true}) {
    const samples::Folder folder;
    if (packed)
      tiny.write_downloads(folder / "tiny");
    else
      tiny.write(folder / "tiny");
    const DatasetCheck check = check_dataset(tiny.entry, {folder.path()});
    EXPECT_THAT(check.faults, IsEmpty());
    EXPECT_THAT(check.notes, IsEmpty());
    EXPECT_THAT(check.checksums, SizeIs(4));
    ASSERT_THAT(check.parts, SizeIs(2));
    EXPECT_EQ(check.folder, folder / "tiny");
    EXPECT_EQ(check.parts[0].records, 20);
    EXPECT_THAT(check.parts[0].counts.at("kind"), ElementsAre(5, 5, 5, 5));
    EXPECT_EQ(check.parts[1].records, 8);
    EXPECT_NEAR(check.mean[0], tiny.entry.mean[0], 1e-12);
    EXPECT_NEAR(check.deviation[0], tiny.entry.deviation[0], 1e-12);
  }
}

TEST(CheckDataset, ThrowsWhereThereIsNothing) {
  const samples::Folder folder;
  EXPECT_THAT(samples::input_error([&] { check_dataset(samples::TinyIdx().entry, {folder.path()}); }),
              HasSubstr("was not found"));
}

TEST(CheckDataset, ReportsEveryDamagedFile) {
  samples::TinyIdx tiny;
  const samples::Folder folder;
  tiny.files["train-images"].pop_back();
  tiny.files["test-labels"].back() = 4;
  tiny.write(folder / "tiny");
  const DatasetCheck check = check_dataset(tiny.entry, {folder.path()});
  EXPECT_THAT(check.faults, Contains(HasSubstr("train-images: is cut short: it holds 135 of 136 bytes")));
  EXPECT_THAT(check.faults,
              Contains(HasSubstr("test-labels: record 7 (counted from 0) has the label 4; expected 0 to 3")));
  EXPECT_THAT(check.parts, IsEmpty());
}

TEST(CheckDataset, ReportsWrongNumbersOfImages) {
  samples::TinyIdx tiny;
  const samples::Folder folder;
  tiny.files["test-images"] = samples::idx({7, 2, 3});
  tiny.write(folder / "tiny");
  const DatasetCheck check = check_dataset(tiny.entry, {folder.path()});
  EXPECT_THAT(check.faults, Contains(HasSubstr("holds 7 x 2 x 3; the images of tiny are 8 x 2 x 3")));
}

TEST(CheckDataset, ReportsOtherClassesPixelsAndChecksums) {
  samples::TinyIdx tiny;
  const samples::Folder folder;
  tiny.files["train-labels"].back() = 0;  // was 3
  for (size_t i = 16; i < 76; ++i) tiny.files["train-images"][i] ^= 64;
  tiny.files["test-images"].back() ^= 1;
  tiny.write(folder / "tiny");
  const std::vector<std::string> faults = check_dataset(tiny.entry, {folder.path()}).faults;
  EXPECT_THAT(faults, Contains("train: class 0 (a) has 6 images; expected 5"));
  EXPECT_THAT(faults, Contains("train: class 3 (d) has 4 images; expected 5"));
  EXPECT_THAT(faults, Contains(HasSubstr("the training images have the mean")));
  EXPECT_THAT(faults, Contains(HasSubstr("the training images have the standard deviation")));
  EXPECT_THAT(faults, Contains(HasSubstr("test-images: the content's SHA-256 is " +
                                         samples::sum_of(tiny.files["test-images"], "sha256") + "; expected " +
                                         tiny.entry.files[2].sha256)));
}

TEST(CheckDataset, TakesAnotherOrderOfRecordsForANote) {
  samples::TinyCifar little;
  const samples::Folder folder;
  little.write(folder / "little-binary");
  DatasetCheck check = check_dataset(little.entry, {folder.path()});
  EXPECT_THAT(check.faults, IsEmpty());
  EXPECT_THAT(check.notes, IsEmpty());
  EXPECT_THAT(check.checksums, ElementsAre("train.bin: SHA-256 of the original", "test.bin: SHA-256 of the original"));
  EXPECT_THAT(check.parts[0].counts.at("coarse"), ElementsAre(6, 6));
  EXPECT_THAT(check.parts[1].counts.at("fine"), ElementsAre(1, 1, 1, 1, 1, 1));

  Bytes& train = little.files["train.bin"];
  std::rotate(train.begin(), train.begin() + 14, train.end());
  little.write(folder / "little-binary");
  check = check_dataset(little.entry, {folder.path()});
  EXPECT_THAT(check.faults, IsEmpty());
  EXPECT_THAT(check.notes, ElementsAre(HasSubstr("train.bin: not the original file")));

  // Two coarse labels change places: the counts stay, and two fine classes have two coarse ones.
  std::swap(train[0], train[14]);
  little.write(folder / "little-binary");
  EXPECT_THAT(check_dataset(little.entry, {folder.path()}).faults,
              ElementsAre("train: fine classes appear with more than one coarse class"));
}

class RealData : public testing::TestWithParam<const char*> {};

TEST_P(RealData, IsWhole) {
  const CatalogueEntry& entry = catalogue_entry(GetParam());
  const DataPaths paths = default_data_paths({});
  if (!search_dataset(entry, paths)) GTEST_SKIP() << entry.name << " is not on this machine (ESPALIER_DATA)";
  const DatasetCheck check = check_dataset(entry, paths);
  EXPECT_THAT(check.faults, IsEmpty());
  EXPECT_EQ(check.parts.size(), 2U);
}

INSTANTIATE_TEST_SUITE_P(Catalogue, RealData, testing::Values("mnist", "fashion_mnist", "cifar10", "cifar100"),
                         [](const auto& name) { return std::string(name.param); });

}  // namespace
}  // namespace espalier
