#include "recipe/overrides.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "recipe/yaml.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

const char recipe[] = R"(
name: a
network: lenet5
data: {use: mnist, augment: [crop, {rotate: 15}]}
stages:
  - name: shrink
    epochs: 3
    optimizers: [{use: sgd, on: weights}, {use: adam}]
    controller: {use: threshold, tau: {conv1.weight: 0.1}}
  - {name: finetune, epochs: 1}
)";

Value after(const std::string& set) {
  Value v = parse_yaml(recipe, "r.yaml");
  apply_override(v, set);
  return v;
}

TEST(Overrides, FindValuesByKeyNameUseAndNumber) {
  EXPECT_EQ(after("stages.shrink.epochs=2").at("stages").as_list()[0].at("epochs").as_int(), 2);
  EXPECT_EQ(after("stages.1.epochs=7").at("stages").as_list()[1].at("epochs").as_int(), 7);
  EXPECT_EQ(to_json(after("stages.shrink.optimizers.adam.lr=1e-3").at("stages").as_list()[0].at("optimizers")),
            R"([{"use":"sgd","on":"weights"},{"use":"adam","lr":0.001}])");
  EXPECT_EQ(to_json(after("data.augment.rotate.rotate=20").at("data").at("augment")), R"(["crop",{"rotate":20}])");
  EXPECT_EQ(to_json(after("data.augment.crop={crop: 8}").at("data").at("augment")), R"([{"crop":8},{"rotate":15}])");
  EXPECT_EQ(to_json(after(R"(stages.shrink.controller.tau."conv1.weight"=0.5)")
                        .at("stages")
                        .as_list()[0]
                        .at("controller")
                        .at("tau")),
            R"({"conv1.weight":0.5})");
}

TEST(Overrides, ReadAnyYamlValue) {
  EXPECT_EQ(to_json(after("data.augment=[flip]").at("data").at("augment")), R"(["flip"])");
  EXPECT_EQ(to_json(after("network={use: mlp, hidden: [1, 2]}").at("network")), R"({"use":"mlp","hidden":[1,2]})");
  EXPECT_EQ(after("name=b=c").at("name").as_string(), "b=c");
  EXPECT_TRUE(after("name=").at("name").is_null());
  EXPECT_TRUE(after("name=\"10\"").at("name").is_string());
}

TEST(Overrides, MayGiveOptionsToAComponentWrittenAsItsName) {
  EXPECT_EQ(to_json(after("network.width=2").at("network")), R"({"use":"lenet5","width":2})");
}

TEST(Overrides, RememberWhereTheyWereWritten) {
  const Value v = after("network.width={a: [1]}");
  const Value::Entry& e = v.at("network").as_map()[1];
  EXPECT_EQ(e.key_location.str(), "--set network.width");
  EXPECT_EQ(e.value.at("a").as_list()[0].location.str(), "--set network.width");
}

TEST(Overrides, SayWhatIsWrong) {
  const auto error = [](const char* set) { return [set] { after(set); }; };
  EXPECT_THAT(error("stages.shrnk.epochs=2"), ThrowsMessage<InputError>(AllOf(StartsWith("--set stages.shrnk.epochs: "),
                                                                              HasSubstr("did you mean 'shrink'?"))));
  EXPECT_THAT(error("stage.shrink.epochs=2"),
              ThrowsMessage<InputError>(HasSubstr("the recipe has no 'stage' (did you mean 'stages'?)")));
  EXPECT_THAT(error("stages.5.epochs=2"), ThrowsMessage<InputError>(HasSubstr("'stages' has no '5'")));
  EXPECT_THAT(error("stages.shrink.epochs.x=2"),
              ThrowsMessage<InputError>(HasSubstr("'stages.shrink.epochs' has no 'x'")));
  EXPECT_THAT(error("stages.finetune.optimizer.lr=1"),
              ThrowsMessage<InputError>(HasSubstr("'stages.finetune' has no 'optimizer'")));
  EXPECT_THAT(error("name"), ThrowsMessage<InputError>(HasSubstr("KEY.KEY=VALUE")));
  EXPECT_THAT(error("=1"), ThrowsMessage<InputError>(HasSubstr("KEY.KEY=VALUE")));
  EXPECT_THAT(error("a..b=1"), ThrowsMessage<InputError>(HasSubstr("KEY.KEY=VALUE")));
  EXPECT_THAT(error("\"name=1"), ThrowsMessage<InputError>(HasSubstr("KEY.KEY=VALUE")));
  EXPECT_THAT(error("name=yes"), ThrowsMessage<InputError>(StartsWith("--set name: 'yes'")));
  EXPECT_THAT(error("name=010"), ThrowsMessage<InputError>(StartsWith("--set name: '010'")));
}

TEST(Overrides, OfTwoItemsOfOneNameAskForTheNumber) {
  Value v = parse_yaml("r: [{use: l1}, {use: l1}]", "r.yaml");
  EXPECT_THAT([&] { apply_override(v, "r.l1.weight=1"); }, ThrowsMessage<InputError>(HasSubstr("use their number")));
  apply_override(v, "r.1.weight=1");
  EXPECT_EQ(to_json(v), R"({"r":[{"use":"l1"},{"use":"l1","weight":1}]})");
}

TEST(Merge, MapsKeyByKeyEverythingElseIsReplaced) {
  const auto merged = [](const char* base, const char* over) {
    return to_json(merge(parse_yaml(base, "b"), parse_yaml(over, "o")));
  };
  EXPECT_EQ(merged("{a: 1, b: {c: 2, d: 3}, e: [1, 2]}", "{b: {d: 4}, e: [3], f: 5}"),
            R"({"a":1,"b":{"c":2,"d":4},"e":[3],"f":5})");
  EXPECT_EQ(merged("{o: {use: sgd, lr: 1, m: 2}}", "{o: {use: sgd, lr: 3}}"), R"({"o":{"use":"sgd","lr":3,"m":2}})");
  EXPECT_EQ(merged("{o: {use: sgd, lr: 1, m: 2}}", "{o: {lr: 3}}"), R"({"o":{"use":"sgd","lr":3,"m":2}})");
  EXPECT_EQ(merged("{o: {use: sgd, lr: 1, m: 2}}", "{o: {use: adam, lr: 3}}"), R"({"o":{"use":"adam","lr":3}})");
  EXPECT_EQ(merged("{o: {use: sgd}}", "{o: adam}"), R"({"o":"adam"})");
  EXPECT_EQ(merged("{o: {use: sgd}}", "{o: }"), R"({"o":null})");
}

}  // namespace
}  // namespace espalier
