// Plugins that are installed for the user, and those that others can write to.
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Install : public ::testing::Test {
 protected:
  Output command(const std::string& arguments) const {
    return shell("XDG_DATA_HOME='" + (folder_ / "data").string() + "' ESPALIER_STORE=none " + program_word() + " " +
                 arguments);
  }
  static fs::path fixture(const std::string& name) { return fs::path(ESPALIER_FIXTURE_DIR) / ("lib" + name + ".so"); }
  fs::path installed(const std::string& name) const {
    return folder_ / "data" / "espalier" / "plugins" / ("lib" + name + ".so");
  }
  TempFolder folder_;
};

TEST_F(Install, PutsALibraryWhereEveryCommandFindsItUntilItIsRemoved) {
  EXPECT_NE(command("describe turns").status, 0);
  const Output o = command("install " + fixture("turns").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Output sum = shell("sha256sum '" + installed("turns").string() + "'");
  EXPECT_THAT(o.text, AllOf(HasSubstr("turns 1.0.0: " + installed("turns").string()),
                            HasSubstr("sha256 " + sum.text.substr(0, 64))));
  EXPECT_EQ(command("describe turns").status, 0);
  EXPECT_THAT(command("install " + fixture("turns").string()).text, HasSubstr("in the place of an older file"));
  EXPECT_THAT(command("uninstall turn").text, HasSubstr("did you mean 'turns'?"));
  EXPECT_EQ(command("uninstall turns").status, 0);
  EXPECT_FALSE(fs::exists(installed("turns")));
  EXPECT_NE(command("describe turns").status, 0);
}

TEST_F(Install, TakesFoldersAndArchives) {
  fs::create_directories(folder_ / "mine/build");
  fs::copy(fixture("turns"), folder_ / "mine/build/libturns.so");
  fs::copy(fixture("sam"), folder_ / "mine/build/libsam.so");
  const Output o = command("install " + (folder_ / "mine").string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_TRUE(fs::exists(installed("turns")) && fs::exists(installed("sam")));
  ASSERT_EQ(command("uninstall turns sam").status, 0);
  ASSERT_EQ(
      shell("tar -C '" + (folder_ / "mine").string() + "' -czf '" + (folder_ / "mine.tar.gz").string() + "' build")
          .status,
      0);
  const Output archive = command("install " + (folder_ / "mine.tar.gz").string());
  EXPECT_EQ(archive.status, 0) << archive.text;
  EXPECT_TRUE(fs::exists(installed("turns")) && fs::exists(installed("sam")));
}

TEST_F(Install, InstallsNothingWhereSomethingIsWrong) {
  const auto refused = [&](const fs::path& source, const std::string& why) {
    const Output o = command("install " + source.string());
    EXPECT_NE(o.status, 0) << source;
    EXPECT_THAT(o.text, HasSubstr(why));
    EXPECT_FALSE(fs::exists(folder_ / "data" / "espalier" / "plugins")) << source;
  };
  refused(folder_ / "nowhere", "there is no such file or folder");
  fs::create_directories(folder_ / "empty");
  refused(folder_ / "empty", "holds no plugin");
  refused(folder_.write("text.so", "no library"), "text.so: ");
  refused(folder_.write("text.tar.gz", "no archive"), "cannot be unpacked");
  fs::create_directories(folder_ / "two");
  fs::copy(fixture("turns"), folder_ / "two/liba.so");
  fs::copy(fixture("turns"), folder_ / "two/libb.so");
  refused(folder_ / "two", "holds two plugins called 'turns': liba.so and libb.so");
}

TEST_F(Install, WhatEverybodyCanWriteToIsNotLoaded) {
  const fs::path own = folder_ / "open", library = own / "libturns.so";
  fs::create_directories(own);
  fs::copy(fixture("turns"), library);
  const auto said = [&] { return command("plugins --plugins " + own.string()).text; };
  EXPECT_THAT(said(), Not(HasSubstr("Problems")));
  ASSERT_EQ(::chmod(library.c_str(), 0666), 0);
  EXPECT_THAT(said(), AllOf(HasSubstr("is not loaded: everybody may write to it"), HasSubstr("chmod o-w")));
  ASSERT_EQ(::chmod(library.c_str(), 0644), 0);
  ASSERT_EQ(::chmod(own.c_str(), 0777), 0);
  EXPECT_THAT(said(), HasSubstr("is not loaded because of its folder"));
  ASSERT_EQ(::chmod(own.c_str(), 01777), 0);  // as /tmp: the files of their owners are safe
  EXPECT_THAT(said(), Not(HasSubstr("Problems")));
}

}  // namespace
}  // namespace espalier
