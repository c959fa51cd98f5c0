#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "commands/data.h"
#include "espalier/datasets/catalogue.h"
#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "espalier/value.h"

namespace espalier {
namespace {

using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

// With a home of its own, so that what the user has does not count; the system's folders do.
class DataCommand : public testing::Test {
 protected:
  DataCommand() {
    setenv("XDG_CACHE_HOME", folder_.c_str(), 1);
    unsetenv("ESPALIER_DATA");
  }
  ~DataCommand() override { unsetenv("XDG_CACHE_HOME"); }

  // What it prints to standard output.
  std::string run(const std::string& arguments) {
    CLI::App app;
    add_data_command(app);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    try {
      app.parse(arguments);
    } catch (...) {
      out_ = testing::internal::GetCapturedStdout();
      err_ = testing::internal::GetCapturedStderr();
      throw;
    }
    err_ = testing::internal::GetCapturedStderr();
    return out_ = testing::internal::GetCapturedStdout();
  }
  std::string error_of(const std::string& arguments) {
    try {
      run(arguments);
    } catch (const Error& e) {
      return e.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return {};
  }
  // Files of the right names that are no data.
  void write_nonsense(const std::string& dataset, const fs::path& folder) {
    fs::create_directories(folder);
    for (const CatalogueFile& f : catalogue_entry(dataset).files) std::ofstream(folder / f.name) << "nonsense";
  }

  TempFolder temporary_;
  const fs::path folder_ = temporary_.path();
  std::string out_, err_;
};

TEST_F(DataCommand, ListsAllKnownSets) {
  write_nonsense("cifar10", folder_ / "cifar10");
  const std::string text = run("data list --data " + folder_.string());
  for (const CatalogueEntry& entry : catalogue())
    EXPECT_THAT(text, AllOf(HasSubstr(entry.name), HasSubstr(entry.title), HasSubstr(entry.licence)));
  EXPECT_THAT(text, AllOf(HasSubstr((folder_ / "cifar10").string()), HasSubstr("not found"), HasSubstr("184.4 MB")));

  const Value json = from_json(run("data list --json --data " + folder_.string()));
  ASSERT_EQ(json.size(), catalogue().size());
  for (const Value& entry : json.as_list()) {
    if (entry.at("name").as_string() == "cifar10") {
      EXPECT_EQ(entry.at("found").as_string(), (folder_ / "cifar10").string());
      EXPECT_EQ(entry.at("bytes").as_int(), 60000 * 3073);
    }
    if (entry.at("name").as_string() == "cifar100") {
      EXPECT_TRUE(entry.at("found").is_null());
    }
  }
}

TEST_F(DataCommand, CheckFailsWhereSomethingIsWrong) {
  write_nonsense("cifar10", folder_ / "cifar10");
  EXPECT_THAT(error_of("data check cifar10 --data " + folder_.string()), HasSubstr("cifar10 has 2 faults"));
  EXPECT_THAT(out_, AllOf(HasSubstr("cifar10 in " + (folder_ / "cifar10").string()), HasSubstr("fault: "),
                          HasSubstr("no whole number of records")));
  error_of("data check cifar10 --json --data " + folder_.string());
  const Value json = from_json(out_);
  EXPECT_FALSE(json.at("whole").as_bool());
  EXPECT_EQ(json.at("faults").size(), 2U);
  EXPECT_THAT(error_of("data check cifar100"), HasSubstr("cifar100 was not found"));
  EXPECT_THAT(error_of("data check cifar"), HasSubstr("unknown data set 'cifar'"));
}

TEST_F(DataCommand, FindsTheInstalledFashionMnistWhole) {
  if (!fs::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  EXPECT_THAT(run("data check fashion_mnist"),
              AllOf(HasSubstr("fashion_mnist in /usr/share/datasets/fashion-mnist"),
                    HasSubstr("train: 60,000 images; article: 6,000 of each of 10 classes"),
                    HasSubstr("mean 0.2860; standard deviation 0.3530"), HasSubstr("whole")));
  const Value json = from_json(run("data check fashion_mnist --json"));
  EXPECT_TRUE(json.at("whole").as_bool());
  EXPECT_EQ(json.at("parts").at("test").at("images").as_int(), 10000);
  // Nothing to fetch.
  EXPECT_THAT(run("data fetch fashion_mnist"),
              HasSubstr("from the Debian package dataset-fashion-mnist: nothing to do"));
  EXPECT_TRUE(fs::is_empty(folder_));
  // A copy of it, where one is asked for.
  const fs::path copy = folder_ / "copy";
  EXPECT_EQ(run("data fetch fashion_mnist --from /usr/share/datasets/fashion-mnist --to " + copy.string()),
            "fashion_mnist is in " + (copy / "fashion-mnist").string() + "\n");
  EXPECT_THAT(run("data check fashion_mnist --data " + copy.string()), HasSubstr("fashion_mnist in " + copy.string()));
}

TEST_F(DataCommand, FetchSaysWhatIsMissing) {
  EXPECT_THAT(error_of("data fetch cifar10 --from " + folder_.string()),
              HasSubstr("there is no cifar-10-binary.tar.gz"));
  EXPECT_THAT(error_of("data fetch cifar10 --from /no/such"), HasSubstr("/no/such: no such file or folder"));
}

}  // namespace
}  // namespace espalier
