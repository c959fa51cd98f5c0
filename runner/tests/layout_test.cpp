#include "recipe/layout.h"

#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string through(const char* from, const char* to, const std::string& name) {
  const NameTemplate a(from), b(to);
  const auto filling = a.match(name);
  return filling ? b.fill(*filling) : "none";
}

TEST(NameTemplate, ReadsPairsInBothDirections) {
  const auto both = [](const char* a, const char* b, const char* x, const char* y) {
    EXPECT_EQ(through(a, b, x), y);
    EXPECT_EQ(through(b, a, y), x);
  };
  both("fc.{*}", "head.{*}", "fc.weight", "head.weight");
  both("features.{2i+1}.{j}.{*}", "layers.{i}.blocks.{j}.{*}", "features.5.11.mlp.0.bias",
       "layers.2.blocks.11.mlp.0.bias");
  both("denselayer{n+1}.norm{k}.{*}", "{n}.norm{k}.{*}", "denselayer10.norm2.weight", "9.norm2.weight");
  both("a.{n-1}", "b{n}c", "a.0", "b1c");
  both("in_proj_{*}", "q.{*}", "in_proj_weight", "q.weight");
}

TEST(NameTemplate, MatchesNothingElse) {
  EXPECT_EQ(through("features.{2i+1}.w", "{i}", "features.4.w"), "none") << "2i + 1 is odd";
  EXPECT_EQ(through("l{n+1}", "{n}", "l0"), "none");
  EXPECT_EQ(through("l{n}", "{n}", "l01"), "none") << "it would come back as l1";
  EXPECT_EQ(through("l{n}", "{n}", "l-1"), "none");
  EXPECT_EQ(through("l{n}", "{n}", "l9999999"), "none");
  EXPECT_EQ(through("l{n}.{n}", "{n}", "l1.2"), "none");
  EXPECT_EQ(through("l{n<3}", "{n}", "l3"), "none");
  EXPECT_EQ(through("l{n<3}", "{n}", "l2"), "2");
  EXPECT_EQ(through("a.{*}", "{*}", "a."), "none");
  EXPECT_EQ(through("a.b", "x", "aXb"), "none") << "a dot is a dot";
}

std::string refusal(const std::string& text) {
  try {
    const NameTemplate name(text);
    return "none";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(NameTemplate, SaysWhatIsWrong) {
  EXPECT_THAT(refusal("a{n"), HasSubstr("has a '{' without a '}'"));
  EXPECT_THAT(refusal("a}n"), HasSubstr("has a '}' without a '{'"));
  EXPECT_THAT(refusal("a{nn}"), HasSubstr("'{nn}' in 'a{nn}' is no place"));
  EXPECT_THAT(refusal("{*}.{*}"), HasSubstr("has {*} twice"));
  EXPECT_THAT(refusal("{0n+1}"), HasSubstr("always the same number"));
  EXPECT_THAT(refusal(""), HasSubstr("empty"));
}

std::shared_ptr<const Layout> layout(const TempFolder& folder, const std::string& yaml) {
  return read_layout(folder.write("mine.yaml", yaml));
}

// Of a tensor that counts its elements the parts are known by hand.
TEST(Layout, ArrangesTensorsAndPutsThemBack) {
  const TempFolder folder;
  const auto table = layout(folder, R"(of: a program
options: {norm_eps: 1e-3}
rows:
  qkv.{*}: ['q.{*}', 'k.{*}', 'v.{*}']
  merge: {to: merge, blocks: [0, 2, 1, 3], blocks_along: 1}
  kernel: {to: kernel, permute: [1, 0]}
  wide: {to: ['a', 'b'], along: 1}
  turned: {to: ['c', 'd'], permute: [1, 0]}
  token: {to: token, ones: 2}
  b.{*}: b.{*}
computed:
  index: {to: index, flat: true}
ignore: ['mask{n}']
)");
  EXPECT_EQ(table->name, "mine");
  const auto read = [&](const char* name, const at::Tensor& t) { return from_file(*table->of_file(name)->row, t); };
  const at::Tensor t = at::arange(24, at::kFloat).view({6, 4});
  const auto qkv = read("qkv.weight", t);
  ASSERT_EQ(qkv.size(), 3U);
  EXPECT_TRUE(qkv[1].equal(t.slice(0, 2, 4)));
  EXPECT_THAT(table->of_file("qkv.bias")->own, ElementsAre("q.bias", "k.bias", "v.bias"));
  // Columns 0, 2, 1, 3.
  EXPECT_TRUE(read("merge", t)[0].equal(t.index_select(1, at::tensor({0, 2, 1, 3}, at::kLong))));
  EXPECT_TRUE(read("kernel", t)[0].equal(t.t()));
  EXPECT_TRUE(read("wide", t)[1].equal(t.slice(1, 2, 4)));
  EXPECT_TRUE(read("turned", t)[1].equal(t.t().slice(0, 2, 4)));
  EXPECT_EQ(read("token", t.view({1, 1, 24}))[0].sizes().vec(), std::vector<int64_t>{24});
  for (const char* name : {"qkv.weight", "merge", "kernel", "wide", "turned"}) {
    const LayoutRow& row = *table->of_file(name)->row;
    EXPECT_TRUE(to_file(row, from_file(row, t)).equal(t)) << name;
  }
  const LayoutRow& token = *table->of_file("token")->row;
  EXPECT_TRUE(to_file(token, from_file(token, t.view({1, 1, 24}))).equal(t.view({1, 1, 24})));
  EXPECT_EQ(to_file(*table->of_file("index")->row, {t}).sizes().vec(), std::vector<int64_t>{24});
  EXPECT_TRUE(table->of_file("mask3")->own.empty());

  const auto written = table->of_network("k.weight");
  EXPECT_EQ(written->file, "qkv.weight");
  EXPECT_EQ(written->part, 1U);
  EXPECT_FALSE(table->of_network("mask3"));
  EXPECT_FALSE(table->of_file("other"));

  // Shapes that a row cannot have.
  const auto fits = [&](const char* name, std::vector<int64_t> sizes) {
    return can_be(*table->of_file(name)->row, sizes);
  };
  EXPECT_FALSE(fits("qkv.weight", {7, 4}));
  EXPECT_FALSE(fits("qkv.weight", {}));
  EXPECT_FALSE(fits("merge", {6, 3}));
  EXPECT_FALSE(fits("kernel", {6}));
  EXPECT_FALSE(fits("token", {2, 1, 24}));
  EXPECT_FALSE(fits("turned", {6, 3})) << "the columns are split";
  EXPECT_TRUE(fits("turned", {5, 4}));
  EXPECT_THROW(read("qkv.weight", t.view({4, 6}).slice(0, 0, 1)), Error);
}

std::string refusal_of(const std::string& yaml) {
  const TempFolder folder;
  try {
    layout(folder, yaml);
    return "none";
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), HasSubstr("mine.yaml"));
    return e.what();
  }
}

TEST(Layout, SaysWhatIsWrongWithATableAndWhere) {
  EXPECT_THAT(refusal_of("of: x\n"), HasSubstr("a layout needs 'rows'"));
  EXPECT_THAT(refusal_of("rows: [a]\n"), HasSubstr("'rows' must be a map"));
  EXPECT_THAT(refusal_of("row: {a: b}\n"), HasSubstr("did you mean 'rows'"));
  EXPECT_THAT(refusal_of("rows:\n  a{n}: b\n"), HasSubstr(":2:3: 'a{n}' and 'b' must have the same places"));
  EXPECT_THAT(refusal_of("rows:\n  a: b{q\n"), HasSubstr("mine.yaml:2:6: 'b{q' has a '{'"));
  EXPECT_THAT(refusal_of("rows:\n  a: 3\n"), HasSubstr("expected a name"));
  EXPECT_THAT(refusal_of("rows:\n  a: []\n"), HasSubstr("the list of the parts is empty"));
  EXPECT_THAT(refusal_of("rows:\n  a: {split: 0}\n"), HasSubstr("needs 'to'"));
  EXPECT_THAT(refusal_of("rows:\n  a: {to: b, spilt: 0}\n"), HasSubstr("spilt"));
  EXPECT_THAT(refusal_of("rows:\n  a: {to: b, permute: [0, 2]}\n"), HasSubstr("each number from 0 on once"));
  EXPECT_THAT(refusal_of("options: 3\nrows: {a: b}\n"), HasSubstr("'options' must be a map"));
}

}  // namespace
}  // namespace espalier
