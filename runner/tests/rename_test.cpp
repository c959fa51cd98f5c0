#include "recipe/rename.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/within_a_second.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

std::string renamed(const std::string& pattern, const std::string& replacement, std::string name) {
  RenameRule(pattern, replacement).apply(name);
  return name;
}

TEST(Rename, ReplacesEveryMatchAndKnowsGroups) {
  EXPECT_EQ(renamed("^module\\.", "", "module.conv1.weight"), "conv1.weight");
  EXPECT_EQ(renamed("^l(\\d)", "fc$1", "l2.bias"), "fc2.bias");
  EXPECT_EQ(renamed("^", "x.", "fc"), "x.fc");
  EXPECT_EQ(renamed("(\\w+)\\.(\\d+)", "$2.$1", "layer.3.w"), "3.layer.w");
  EXPECT_EQ(renamed("b", "[$&]", "abab"), "a[b]a[b]");
  EXPECT_EQ(renamed("a", "$$\\1", "a"), "$\\1");
  std::string name = "conv1.weight";
  EXPECT_FALSE(RenameRule("bias", "x").apply(name));
  EXPECT_EQ(name, "conv1.weight");
}

std::string error_of(const std::string& pattern, const std::string& replacement) {
  try {
    const RenameRule rule(pattern, replacement);
    return "none";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Rename, RefusesWhatTheDialectDoesNotHave) {
  EXPECT_THAT(error_of("(", ""), HasSubstr("'(' is no regular expression"));
  EXPECT_THAT(error_of("(?=x)", ""), HasSubstr("no lookahead and no back-references"));
  EXPECT_THAT(error_of("(a)\\1", ""), HasSubstr("no lookahead and no back-references"));
  EXPECT_THAT(error_of("(a)", "$2"), HasSubstr("'$2' refers to a group that '(a)' does not have; it has 1"));
}

// An engine that backtracks would need longer than the universe is old.
TEST(Rename, NestedRepetitionTakesTimeInProportionToTheName) {
  std::string name(5000, 'a');
  name += 'b';
  EXPECT_EQ(within_a_second([&] { return renamed("^(a*)*$", "x", name); }), name);
}

}  // namespace
}  // namespace espalier
