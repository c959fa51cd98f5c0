#include "recipe/needed_version.h"

#include <gtest/gtest.h>

#include "espalier/error.h"

namespace espalier {
namespace {

TEST(NeededVersion, ComparesNumberByNumber) {
  EXPECT_TRUE(fits_version("1.2.0", ">= 1.2"));
  EXPECT_TRUE(fits_version("1.10.0", ">= 1.9"));  // ten is more than nine
  EXPECT_FALSE(fits_version("1.1.9", ">= 1.2"));
  EXPECT_FALSE(fits_version("1.2.0", "> 1.2"));
  EXPECT_TRUE(fits_version("1.2.1", "> 1.2"));
  EXPECT_TRUE(fits_version("1.2.0", "== 1.2"));
  EXPECT_FALSE(fits_version("1.2.1", "== 1.2"));
  EXPECT_TRUE(fits_version("2.0.0", "<=2"));
  EXPECT_FALSE(fits_version("2.0.1", "<= 2"));
}

TEST(NeededVersion, TakesSeveralConditionsThatMustAllHold) {
  EXPECT_TRUE(fits_version("1.5.0", ">= 1.2, < 2"));
  EXPECT_FALSE(fits_version("2.0.0", ">= 1.2, < 2"));
  EXPECT_FALSE(fits_version("1.1.0", ">= 1.2,< 2"));
}

TEST(NeededVersion, RefusesWhatIsNoCondition) {
  for (const char* text : {"", "1.2", ">=", ">= x", ">= 1.2.3.4", "=> 1", ">= 1.2,", ">= 1.", ">= -1", "~= 1.2"})
    EXPECT_THROW(fits_version("1.0.0", text), Error) << text;
}

}  // namespace
}  // namespace espalier
