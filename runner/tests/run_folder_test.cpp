#include "record/run_folder.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

// A run that goes on must not write behind records that nothing can read any more.
TEST(RunFolder, IsNotTakenUpOverLinesThatAreNoJson) {
  const TempFolder folder;
  const std::string good = "{\"epoch\": 1, \"step\": 5}\n";
  const RunFolder run(folder.path());
  for (const std::string& bad : {std::string("{\"epoch\": 2, \"st#p\" 10}\n"), std::string("[1, 2]\n"),
                                 std::string("{\"epoch\": nan}\n"), std::string("\n")}) {
    for (const char* name : {"metrics.jsonl", "history.jsonl"}) {
      folder.write("metrics.jsonl", good + good);
      folder.write("history.jsonl", good + good);
      folder.write(name, good + bad + good);
      const auto size = static_cast<int64_t>(2 * good.size() + bad.size());
      Value sizes = run.sizes();
      sizes[name] = size;
      try {
        static_cast<void>(run.cut_to(sizes));
        ADD_FAILURE() << name << ": " << bad;
      } catch (const InputError& e) {
        EXPECT_THAT(e.what(), HasSubstr(std::string(name) + ":2: "));
        EXPECT_THAT(e.what(), HasSubstr("move the file away"));
      }
      EXPECT_EQ(std::filesystem::file_size(folder / name), static_cast<uintmax_t>(size)) << "nothing is cut";
      // What is behind the checkpoint's place is cut off and may be anything.
      sizes[name] = static_cast<int64_t>(good.size());
      EXPECT_TRUE(run.cut_to(sizes).empty());
      EXPECT_EQ(read_file(folder / name), good);
    }
  }
}

}  // namespace
}  // namespace espalier
