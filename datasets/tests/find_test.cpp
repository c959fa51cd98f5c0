#include "espalier/datasets/find.h"

#include "sample_files.h"

namespace espalier {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

void write_mnist(const fs::path& folder, const std::string& ending = "") {
  for (const CatalogueFile& f : catalogue_entry("mnist").files) samples::write(folder / (f.name + ending), {1});
}

TEST(DataPaths, AreSearchedFromTheMostToTheLeastParticular) {
  const samples::Folder folder;
  const samples::Variable data("ESPALIER_DATA", "/one::/two"), cache("XDG_CACHE_HOME", "/cache"),
      home("HOME", "/home/me");
  EXPECT_THAT(default_data_paths({folder.path().string()}),
              ElementsAre(folder.path(), "/one", "/two", "/cache/espalier/data", "/usr/share/datasets",
                          "/usr/local/share/datasets"));
  EXPECT_EQ(samples::input_error([&] { default_data_paths({(folder / "none").string()}); }),
            "--data " + (folder / "none").string() + ": no such folder");
}

TEST(DataPaths, FollowTheXdgSpecification) {
  const samples::Variable home("HOME", "/home/me");
  {
    const samples::Variable cache("XDG_CACHE_HOME", std::nullopt);
    EXPECT_EQ(data_cache(), "/home/me/.cache/espalier/data");
  }
  const samples::Variable cache("XDG_CACHE_HOME", "relative");
  EXPECT_EQ(data_cache(), "/home/me/.cache/espalier/data");
  const samples::Variable none("HOME", std::nullopt);
  EXPECT_EQ(data_cache(), "");
}

TEST(FindFile, TakesTheFirstFolderThenTheFirstAlternative) {
  const samples::Folder a, b;
  samples::write(b / "x/data.bin", {1});
  samples::write(b / "data.bin", {1});
  EXPECT_EQ(find_file({a.path(), b.path()}, {"x/data.bin", "data.bin"}, ""), b / "x/data.bin");
  samples::write(a / "data.bin", {1});
  EXPECT_EQ(find_file({a.path(), b.path()}, {"x/data.bin", "data.bin"}, ""), a / "data.bin");
  EXPECT_THAT(samples::input_error([&] {
                find_file({a.path(), "/no/such"}, {"y.bin", "z.bin"}, "ask somebody");
              }),
              AllOf(HasSubstr("y.bin and z.bin: none was found"), HasSubstr(a.path().string()),
                    HasSubstr("/no/such (no such folder)"), HasSubstr("ask somebody")));
}

TEST(FindFolder, TakesTheFirstOneOrTheAbsoluteOne) {
  const samples::Folder a, b;
  samples::write(a / "pictures", {1});  // no folder
  fs::create_directories(b / "pictures/of");
  EXPECT_EQ(find_folder({a.path(), b.path()}, "pictures", ""), b / "pictures");
  EXPECT_EQ(find_folder({a.path(), b.path()}, "pictures/of", ""), b / "pictures/of");
  EXPECT_EQ(find_folder({}, b / "pictures", ""), b / "pictures");
  EXPECT_THAT(samples::input_error([&] {
                find_folder({a.path(), "/no/such"}, "pictures", "ask somebody");
              }),
              AllOf(HasSubstr("the folder pictures was not found"), HasSubstr(a.path().string()),
                    HasSubstr("/no/such (no such folder)"), HasSubstr("ask somebody")));
  EXPECT_THAT(samples::input_error([&] { find_folder({b.path()}, a / "none", ""); }),
              AllOf(HasSubstr((a / "none").string()), Not(HasSubstr(b.path().string()))));
}

TEST(FindDataset, KnowsTheUsualFoldersAndNames) {
  const CatalogueEntry& mnist = catalogue_entry("mnist");
  for (const char* sub : {"mnist", "MNIST/raw", "."}) {
    for (const char* ending : {"", ".gz"}) {
      const samples::Folder folder;
      write_mnist(folder / sub, ending);
      const FoundDataset found = find_dataset(mnist, {folder.path()});
      EXPECT_TRUE(fs::equivalent(found.folder, folder / sub));
      EXPECT_EQ(found.files.size(), 4U);
      EXPECT_EQ(found.files[1].filename(), std::string("train-labels-idx1-ubyte") + ending);
    }
  }
  const samples::Folder dotted;
  for (const CatalogueFile& f : mnist.files) {
    std::string name = f.name;
    name[name.rfind("-idx")] = '.';
    samples::write(dotted / name, {1});
  }
  EXPECT_EQ(find_dataset(mnist, {dotted.path()}).files[0], dotted / "train-images.idx3-ubyte");
  for (const char* sub : {"cifar-10-batches-bin", "cifar10", "."}) {
    const samples::Folder folder;
    for (const CatalogueFile& f : catalogue_entry("cifar10").files) samples::write(folder / sub / f.name, {1});
    EXPECT_TRUE(fs::equivalent(find_dataset(catalogue_entry("cifar10"), {folder.path()}).folder, folder / sub));
  }
  const samples::Folder folder;
  for (const CatalogueFile& f : catalogue_entry("cifar100").files)
    samples::write(folder / "cifar-100-binary" / f.name, {1});
  EXPECT_EQ(find_dataset(catalogue_entry("cifar100"), {folder.path()}).folder, folder / "cifar-100-binary");
}

TEST(FindDataset, NeverMixesTwoCopies) {
  const CatalogueEntry& mnist = catalogue_entry("mnist");
  const samples::Folder half, whole;
  samples::write(half / "mnist/train-images-idx3-ubyte", {1});
  samples::write(half / "mnist/train-labels-idx1-ubyte", {1});
  write_mnist(whole.path());
  EXPECT_EQ(find_dataset(mnist, {half.path(), whole.path()}, "train").folder, whole.path());
  // A part alone is better than nothing.
  EXPECT_EQ(find_dataset(mnist, {half.path()}, "train").folder, half / "mnist");
  EXPECT_FALSE(search_dataset(mnist, {half.path()}, "test"));
  EXPECT_FALSE(search_dataset(mnist, {half.path()}));
}

TEST(FindDataset, IsNotMisledByFoldersOfTheSameName) {
  const samples::Folder folder;
  for (const CatalogueFile& f : catalogue_entry("mnist").files) fs::create_directories(folder / f.name);
  EXPECT_FALSE(search_dataset(catalogue_entry("mnist"), {folder.path()}));
}

TEST(FindDataset, SaysWhereItLookedAndWhatToDo) {
  const samples::Folder empty, half;
  samples::write(half / "fashion_mnist/train-images-idx3-ubyte.gz", {1});
  const std::string message = samples::input_error([&] {
    find_dataset(catalogue_entry("fashion_mnist"), {empty.path(), half.path(), "/no/such", "/dev/null"});
  });
  EXPECT_THAT(message, AllOf(HasSubstr("fashion_mnist was not found"),
                             HasSubstr("fashion-mnist, fashion_mnist, FashionMNIST/raw"),
                             HasSubstr("  " + empty.path().string() + "\n"), HasSubstr("/no/such (no such folder)"),
                             HasSubstr("/dev/null (not a folder)")));
  EXPECT_THAT(
      message,
      HasSubstr((half / "fashion_mnist").string() +
                " is incomplete: train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte missing"));
  EXPECT_THAT(message, AllOf(HasSubstr("apt-get install dataset-fashion-mnist"),
                             HasSubstr("espalier data fetch fashion_mnist")));
  EXPECT_THAT(
      samples::input_error([&] { find_dataset(catalogue_entry("cifar10"), {empty.path()}); }),
      AllOf(HasSubstr("espalier data fetch cifar10"), HasSubstr("cifar-10-binary.tar.gz"), Not(HasSubstr("apt-get"))));
}

TEST(Catalogue, IsComplete) {
  std::vector<std::string> names;
  for (const CatalogueEntry& e : catalogue()) {
    names.push_back(e.name);
    for (const std::string& s : {e.title, e.page, e.licence, e.cite}) EXPECT_FALSE(s.empty()) << e.name;
    EXPECT_EQ(e.mean.size(), static_cast<size_t>(e.channels)) << e.name;
    EXPECT_EQ(e.deviation.size(), static_cast<size_t>(e.channels)) << e.name;
    for (const CatalogueDownload& d : e.downloads) {
      EXPECT_EQ(d.md5.size(), 32U) << d.name;
      EXPECT_FALSE(d.urls.empty()) << d.name;
    }
    // The counts of the classes are those of the records.
    for (const char* part : {"train", "test"}) {
      int64_t records = 0;
      for (const CatalogueFile& f : e.files) records += f.part == part && f.holds != "images" ? f.records : 0;
      for (const CatalogueLabels& l : e.labels) {
        int64_t counted = 0;
        for (size_t c = 0; c < l.classes.size(); ++c) counted += l.count(part, c);
        EXPECT_EQ(counted, records) << e.name << " " << part << " " << l.name;
      }
    }
    // And so are the sizes.
    for (const CatalogueFile& f : e.files) {
      const int64_t pixels = e.channels * e.height * e.width, ways = static_cast<int64_t>(e.labels.size());
      const int64_t size = e.format == "cifar"   ? f.records * (pixels + ways)
                           : f.holds == "images" ? 16 + f.records * pixels
                                                 : 8 + f.records;
      EXPECT_EQ(f.size, size) << e.name << " " << f.name;
    }
  }
  EXPECT_THAT(names, ElementsAre("mnist", "fashion_mnist", "cifar10", "cifar100"));
  EXPECT_EQ(samples::input_error([] { catalogue_entry("cifar-10"); }),
            "unknown data set 'cifar-10' (did you mean 'cifar10'?)");
  EXPECT_THAT(samples::input_error([] { catalogue_entry("cifar100").labelled("fin"); }),
              HasSubstr("did you mean 'fine'?"));
}

}  // namespace
}  // namespace espalier
