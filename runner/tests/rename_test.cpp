#include "recipe/rename.h"

#include <string>

#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/within_a_second.h"
#include "espalier/error.h"
#include "recipe/recipe.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

std::string renamed(const std::string& pattern, const std::string& replacement, const std::string& name) {
  const auto names = RenameRule(pattern, {replacement}).apply(name);
  return names.empty() ? name : names.at(0);
}

TEST(Rename, ReplacesEveryMatchAndKnowsGroups) {
  EXPECT_EQ(renamed("^module\\.", "", "module.conv1.weight"), "conv1.weight");
  EXPECT_EQ(renamed("^l(\\d)", "fc$1", "l2.bias"), "fc2.bias");
  EXPECT_EQ(renamed("^", "x.", "fc"), "x.fc");
  EXPECT_EQ(renamed("(\\w+)\\.(\\d+)", "$2.$1", "layer.3.w"), "3.layer.w");
  EXPECT_EQ(renamed("b", "[$&]", "abab"), "a[b]a[b]");
  EXPECT_EQ(renamed("a", "$$\\1", "a"), "$\\1");
  EXPECT_TRUE(RenameRule("bias", {"x"}).apply("conv1.weight").empty());
}

std::string error_of(const std::string& pattern, const std::string& replacement) {
  try {
    const RenameRule rule(pattern, {replacement});
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

TEST(Rename, CountsAndSplits) {
  EXPECT_EQ(renamed("dense(\\d)\\.(\\d+)", "denseblock$1.denselayer{$2+1}", "dense2.11.conv"),
            "denseblock2.denselayer12.conv");
  EXPECT_EQ(renamed("l(\\d+)", "f{2$1+1}", "l3.l4"), "f7.f9");
  EXPECT_EQ(renamed("l(\\d+)", "f{$1-1}", "l3"), "f2");
  EXPECT_EQ(renamed("l(\\d+)", "{n+1}{$1}", "l07"), "{n+1}7") << "other braces are text";
  EXPECT_THAT(RenameRule("qkv\\.(\\w+)", {"q.$1", "k.$1"}).apply("a.qkv.bias"),
              ::testing::ElementsAre("a.q.bias", "a.k.bias"));
  EXPECT_THROW(renamed("l(\\w)", "f{$1+1}", "lx"), Error);
  EXPECT_THROW(renamed("l(\\d)", "f{$1-1}", "l0"), Error);
  EXPECT_THAT(error_of("(a)", "{$2+1}"), HasSubstr("refers to a group"));
}

WarmStart start_of(const std::string& pattern, std::vector<std::string> names, std::vector<std::string> ignore = {}) {
  WarmStart start;
  if (!pattern.empty()) start.rename.emplace_back(pattern, std::move(names));
  start.ignore = std::move(ignore);
  return start;
}

TEST(Rename, OfAFileSplitsPassesOverAndUnwraps) {
  const at::Tensor t = at::arange(12, at::kFloat).view({6, 2});
  std::vector<std::string> unused;
  const NamedTensors file{{"module._orig_mod.qkv", t}, {"module._orig_mod.mask", t}, {"x.num_batches_tracked", t}};
  const NamedTensors split = renamed(start_of("qkv", {"q", "k", "v"}, {"mask$", "nothing"}), file, unused);
  ASSERT_EQ(split.size(), 3U);
  EXPECT_EQ(split[2].first, "v");
  EXPECT_TRUE(split[2].second.equal(t.slice(0, 4, 6)));
  EXPECT_THAT(unused, ::testing::ElementsAre("ignore: 'nothing' is in no name of the file"));
  // A prefix of some names is part of them.
  EXPECT_EQ(renamed(start_of("", {}), {{"module.a", t}, {"b", t}}, unused)[0].first, "module.a");
  const auto said = [&](const WarmStart& start) -> std::string {
    try {
      renamed(start, {{"a", t}, {"b", t}}, unused);
      return "none";
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_THAT(said(start_of("^a", {"w", "x", "y", "z"})),
              HasSubstr("splits 'a' into 4 parts, and its sizes are [6, 2]"));
  EXPECT_THAT(said(start_of("a|b", {"c"})), HasSubstr("makes 'c' of both"));
}

// An engine that backtracks would need longer than the universe is old.
TEST(Rename, NestedRepetitionTakesTimeInProportionToTheName) {
  std::string name(5000, 'a');
  name += 'b';
  EXPECT_EQ(within_a_second([&] { return renamed("^(a*)*$", "x", name); }), name);
}

}  // namespace
}  // namespace espalier
