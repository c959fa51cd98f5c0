#include "recipe/yaml.h"

#include <chrono>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../../tests/within_a_second.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(const std::string& text) {
  try {
    parse_yaml(text, "r.yaml");
    return "no error";
  } catch (const InputError& e) {
    return e.what();
  }
}

struct Wrong {
  const char* name;
  std::string text;
  std::string place;  // "line:column", "" for the file
  std::vector<std::string> words;
};

class WrongYaml : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongYaml, SaysWhereAndWhatToWrite) {
  const Wrong& w = GetParam();
  const std::string said = within_a_second([&] { return error_of(w.text); });
  EXPECT_THAT(said, StartsWith("r.yaml:" + w.place + (w.place.empty() ? " " : ": ")));
  for (const std::string& word : w.words) EXPECT_THAT(said, HasSubstr(word));
}

std::string repeated(const std::string& s, size_t n) {
  std::string all;
  for (size_t i = 0; i < n; ++i) all += s;
  return all;
}

std::string bomb() {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1), n = std::to_string(i);
    text +=
        "a" + n + ": &a" + n + " [" + before + ", " + before + ", " + before + ", " + before + ", " + before + "]\n";
  }
  return text;
}

const std::vector<Wrong> wrong_texts = {
    {"DuplicateKey", "a: 1\nb: 2\na: 3\n", "3:1", {"'a' is written twice", "first in line 1"}},
    {"DuplicateKeyInFlow", "x: {lr: 1, lr: 2}\n", "1:12", {"'lr' is written twice"}},
    {"DuplicateQuotedKey", "a: 1\n\"a\": 3\n", "2:1", {"'a' is written twice"}},
    {"Yes", "a: yes\n", "1:4", {"'yes'", "write true", "\"yes\" for text"}},
    {"No", "a:\n  - NO\n", "2:5", {"'NO'", "write false"}},
    {"On", "a: On\n", "1:4", {"write true"}},
    {"Off", "a: off\n", "1:4", {"write false"}},
    {"Y", "a: y\n", "1:4", {"write true"}},
    {"N", "a: [N]\n", "1:5", {"write false"}},
    {"LeadingZero", "a: 010\n", "1:4", {"octal", "write 10", "\"010\" for text"}},
    {"LeadingZeros", "a: -007\n", "1:4", {"write -7"}},
    {"OnlyZeros", "a: 00\n", "1:4", {"write 0,"}},
    {"Octal", "a: 0o10\n", "1:4", {"write a decimal number"}},
    {"Hexadecimal", "a: 0x1F\n", "1:4", {"write a decimal number"}},
    {"Binary", "a: 0b11\n", "1:4", {"write a decimal number"}},
    {"Underscores", "a: 1_000\n", "1:4", {"write 1000"}},
    {"Commas", "a: 1,000,000.5\n", "1:4", {"write 1000000.5"}},
    {"DecimalComma", "a: 0,05\n", "1:4", {"write 0.05"}},
    {"DecimalCommaOfThreeDigits", "a: 0,001\n", "1:4", {"write 0.001"}},
    {"ThousandsComma", "a: 1,000\n", "1:4", {"write 1000"}},
    {"Infinity", "a: -.inf\n", "1:4", {"finite"}},
    {"NotANumber", "a: .NaN\n", "1:4", {"finite"}},
    {"HugeInteger", "a: 9223372036854775808\n", "1:4", {"64 bits", "9223372036854775807"}},
    {"HugeNumber", "a: 1e999\n", "1:4", {"too large"}},
    {"NumberKey", "a: {10: x}\n", "1:5", {"a key must be text", "write \"10\""}},
    {"DecimalCommaInAMap", "a: {tau: 0,05}\n", "1:12", {"a key must be text", "a point in place of the comma: 0.05"}},
    {"NumberKeyWithZero", "010: x\n", "1:1", {"a key must be text", "write \"010\""}},
    {"BooleanKey", "true: x\n", "1:1", {"a key must be text", "\"true\""}},
    {"NullKey", "~: x\n", "1:1", {"a key must be text"}},
    {"ListKey", "? [a]\n: x\n", "1:3", {"a key must be text"}},
    {"AliasKey", "a: &x name\n*x : 2\n", "2:1", {"a key must be text"}},
    {"MergeKey", "a: &x {b: 1}\nc:\n  <<: *x\n", "3:3", {"extends"}},
    {"Tag", "a: !!python/object:os.system x\n", "1:4", {"tags are not read"}},
    {"TagOfMap", "a: !thing {b: 1}\n", "1:4", {"tags are not read"}},
    {"UnquotedExclusion", "on: [weights, !fc2]\n", "1:15", {"quotes around a text that begins with !"}},
    {"NoSpaceAfterColon", "a: {use: sgd, lr:0.1}\n", "1:15", {"write a space after the colon", "'lr: 0.1'"}},
    {"Tab", "a:\n\tb: 1\n", "2:1", {"a tab in the indentation", "spaces"}},
    {"TabBehindSpaces", "a:\n  b:\n  \tc: 1\n", "3:3", {"a tab in the indentation"}},
    {"TwoDocuments", "a: 1\n---\nb: 2\n", "2:1", {"a second document"}},
    {"UnknownAlias", "a: *nothing\n", "1:4", {"anchor"}},
    {"UnquotedStar", "on: *\n", "1:6", {"put quotes around a text that begins with *"}},
    {"UnquotedStarName", "on: *.weight\n", "1:5", {"put quotes around a text that begins with *"}},
    {"UnquotedPercent", "a: %b\n", "1:4", {"cannot begin with this character", "quotes"}},
    {"UnquotedAt", "a: @b\n", "1:4", {"cannot begin with this character", "quotes"}},
    {"TwoColons", "a: b: c\n", "1:5", {"a second colon", "quotes"}},
    {"UnknownEscape", "a: \"\\q\"\n", "1:7", {"unknown escape", "single quotes"}},
    {"DashWithoutSpace", "a:\n  -b: 1\n", "2:3", {"write a space after the dash", "'- b'"}},
    {"DuplicateNestedKey", "a:\n  b: {c: 1}\n  \"b\": 2\n", "3:3", {"'b' is written twice", "first in line 2"}},
    {"UnclosedMap", "a:\n  {b: 1,\n   c: 2\n", "4:1", {"a map ({) that begins in line 2 is not closed"}},
    {"Cycle", "a: &y [1, *y]\n", "1:11", {"inside what it stands for"}},
    {"CycleInMap", "a: &y\n  b: *y\n", "2:6", {"inside what it stands for"}},
    {"AliasBomb", bomb(), "5:30", {"10000 values"}},
    {"Deep", repeated("[", 200) + repeated("]", 200), "1:65", {"deeper than 64"}},
    {"DeepByAliases",
     "a: &a " + repeated("[", 30) + repeated("]", 30) + "\nb: &b " + repeated("[", 30) + "*a" + repeated("]", 30) +
         "\nc: [[[[*b]]]]\n",
     "3:8",
     {"deeper than 64"}},
    {"Unclosed", "a: [1, 2\nb: 3\n", "2:2", {"not valid YAML"}},
    {"Unclosed2", "[1", "2:1", {"not valid YAML", "a list ([) that begins in line 1 is not closed"}},
    {"UnclosedQuote", "a: \"x\n", "2:1", {"a quote is not closed"}},
    {"UnclosedQuoteInTheMiddle", "a: \"x\nb: 1\nc:\n  d: 2\n", "5:1", {"a quote is not closed"}},
    {"UnclosedSingleQuote", "a: 'x", "2:1", {"a quote is not closed"}},
    {"BadIndentation", "a: 1\n  b: 2\n", "2:4", {"not valid YAML"}},
    {"Latin1", "a: 1\nb: caf\xe9\n", "2:7", {"not UTF-8", "0xE9"}},
    {"Overlong", "a: \xc0\xaf", "1:4", {"not UTF-8"}},
    {"Surrogate", "a: \xed\xa0\x80", "1:4", {"not UTF-8"}},
    {"Utf16",
     std::string("\xff\xfe"
                 "a\0:\0",
                 6),
     "1:1",
     {"not UTF-8"}},
    {"Utf16BigEndian",
     std::string("\xfe\xff"
                 "\0a\0:",
                 6),
     "1:1",
     {"UTF-16", "save the file as UTF-8"}},
    // The parser takes this byte for the end of the file.
    {"EndOfTransmission", "a: 1\n\x04\nb: 2\n", "2:1", {"control character", "0x04"}},
    {"ZeroByte", std::string("a: \0", 4), "1:4", {"control character"}},
    {"TooLarge", "a: " + std::string(1 << 20, 'x'), "", {"larger than 1 MB"}},
    {"LongText", "a: " + std::string(20'000, 'x'), "1:4", {"longer than 10000"}},
};

INSTANTIATE_TEST_SUITE_P(All, WrongYaml, ::testing::ValuesIn(wrong_texts),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Yaml, RefusesTextsThatAreTooLong) {
  EXPECT_THAT(error_of(std::string(20'000, 'x') + ": 1"), StartsWith("r.yaml:1:"));
  EXPECT_THAT(error_of("a: [" + repeated("1, ", 150'000) + "1]"), HasSubstr("more than 100000 values"));
  std::string keys;
  for (int i = 0; i < 10'001; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(error_of(keys), HasSubstr("more than 10000 keys"));
}

TEST(Yaml, ReadsValuesWithTheirPlaces) {
  const Value v = parse_yaml(
      "# a recipe\nname: x\nstages:\n  - name: one\n    lr: 1.0e-3\n  - {name: two, on: weights}\n", "r.yaml");
  EXPECT_EQ(v.at("name").location.str(), "r.yaml:2:7");
  EXPECT_EQ(v.at("stages").location.str(), "r.yaml:4:3");
  const Value& one = v.at("stages").as_list()[0];
  EXPECT_EQ(one.location.str(), "r.yaml:4:5");
  EXPECT_EQ(one.as_map()[1].key_location.str(), "r.yaml:5:5");
  EXPECT_EQ(one.at("lr").location.str(), "r.yaml:5:9");
  EXPECT_DOUBLE_EQ(one.at("lr").as_double(), 1e-3);
  EXPECT_EQ(v.at("stages").as_list()[1].at("on").as_string(), "weights");
}

TEST(Yaml, ReadsScalarsAsYaml12Does) {
  const Value v = parse_yaml(
      "[1, -2, +3, 0, 1.5, .5, 5., 1e3, -1.5E-2, true, False, TRUE, null, ~, '1', \"yes\", 'null', 1.2.3, 1:30, a-b, "
      "conv*, nan, 0x, 1 2]",
      "r");
  const std::string expected =
      "[1,-2,3,0,1.5,0.5,5.0,1000.0,-0.015,true,false,true,null,null,\"1\",\"yes\",\"null\",\"1.2.3\",\"1:30\",\"a-b\","
      "\"conv*\",\"nan\",\"0x\",\"1 2\"]";
  EXPECT_EQ(to_json(v), expected);
}

TEST(Yaml, KeepsTheOrderOfKeysAndAllowsWordsAsKeys) {
  EXPECT_EQ(to_json(parse_yaml("{on: 1, yes: 2, n: 3, \"10\": 4, .inf: 5}", "r")),
            R"({"on":1,"yes":2,"n":3,"10":4,".inf":5})");
}

TEST(Yaml, ExpandsAliases) {
  const Value v = parse_yaml("a: &x {lr: 0.1}\nb: [*x, *x]\nc: &y name\nd: *y\n", "r.yaml");
  EXPECT_EQ(to_json(v), R"({"a":{"lr":0.1},"b":[{"lr":0.1},{"lr":0.1}],"c":"name","d":"name"})");
  EXPECT_EQ(v.at("b").as_list()[1].at("lr").location.str(), "r.yaml:1:12");
}

TEST(Yaml, AValueLeftOutIsNullAtItsKey) {
  const Value v = parse_yaml("a:\nb:\n  c:\nd: 1\n", "r.yaml");
  EXPECT_TRUE(v.at("a").is_null());
  EXPECT_EQ(v.at("a").location.str(), "r.yaml:1:1");
  EXPECT_EQ(v.at("b").at("c").location.str(), "r.yaml:3:3");
}

TEST(Yaml, NothingIsNull) {
  EXPECT_TRUE(parse_yaml("", "r").is_null());
  EXPECT_TRUE(parse_yaml("# only a comment\n", "r").is_null());
  EXPECT_TRUE(parse_yaml("---\n", "r").is_null());
}

TEST(Yaml, ReadsLineEndsOfEverySystem) {
  EXPECT_EQ(to_json(parse_yaml("a: 1\r\nb:\r\n  - x\r\n  - \"y\"\r\n", "r")), R"({"a":1,"b":["x","y"]})");
}

TEST(Yaml, ReadsBlocksQuotesAndUnicode) {
  const Value v = parse_yaml(
      "\xef\xbb\xbf"
      "a: |\n  one\n  two\nb: >-\n  one\n  two\nc: \"\\u00e9\\n\"\nd: Gr\xc3\xbc\xc3\x9f"
      "e\n",
      "r");
  EXPECT_EQ(v.at("a").as_string(), "one\ntwo\n");
  EXPECT_EQ(v.at("b").as_string(), "one two");
  EXPECT_EQ(v.at("c").as_string(), "\xc3\xa9\n");
  EXPECT_EQ(v.at("d").as_string(),
            "Gr\xc3\xbc\xc3\x9f"
            "e");
}

TEST(Yaml, ErrorsOfAValueOnTheCommandLineHaveNoLine) {
  EXPECT_THAT([] { parse_yaml("yes", "--set a", false); },
              ::testing::ThrowsMessage<InputError>(StartsWith("--set a: 'yes'")));
  EXPECT_THAT([] { parse_yaml("[1", "--set a", false); },
              ::testing::ThrowsMessage<InputError>(StartsWith("--set a: not valid YAML")));
}

TEST(ToYaml, IsReadBackAsTheSameValue) {
  Value v = Value::map({{"name", "run-1"},
                        {"zero", 0},
                        {"rate", 1e-5},
                        {"big", 1e300},
                        {"whole", 2.0},
                        {"flag", true},
                        {"nothing", Value()}});
  v["strings"] = std::vector<std::string>{
      "yes",   "No",    "010",      "0x10",        "1e3",  "null", "~",        "",    " x",  "x ",   "a: b", "a #b",
      "#a",    "- a",   "&a",       "*",           "*a",   "!a",   "{",        "[a]", "\"",  "'",    "a\nb", "\t",
      "conv*", "1_000", "1,0",      ".inf",        "<<",   "on",   "@x",       "`x`", "%a",  "a,b",  "a}",   "|",
      ">",     "?",     "-",        "fc1.weight",  "\x01", "\x7f", "\xc3\xa9", "---", "...", "true", "1.5",  "a - b",
      "y",     "=",     "\xc2\x85", "\xe2\x80\xa8"};
  v["numbers"] = std::vector<double>{0.1, -2.5e-7, 3, 1e22};
  v["empty list"] = Value::list();
  v["empty map"] = Value::map();
  v["10"] = "a number as a key";
  v["on"] = Value::map({{"*", 1}, {"conv1.weight", Value::map({{"a", Value::list()}})}});
  Value nested = Value::list();
  nested.push_back(Value::map({{"use", "sgd"}, {"on", std::vector<std::string>{"weights", "!fc2"}}}));
  nested.push_back(Value::list());
  nested.push_back(std::vector<int64_t>{1, 2});
  nested.push_back(Value::map());
  Value inner = Value::list();
  inner.push_back(Value::map({{"a", Value::map({{"b", 1}})}, {"c", 2}}));
  inner.push_back(std::vector<int64_t>{});
  nested.push_back(inner);
  v["list"] = nested;
  const std::string text = to_yaml(v);
  const Value back = parse_yaml(text, "r.yaml");
  EXPECT_EQ(to_json(back), to_json(v)) << text;
  EXPECT_EQ(to_yaml(back), text);
}

TEST(ToYaml, LooksAsAPersonWouldWriteIt) {
  const Value v = parse_yaml(
      "{name: a, stages: [{name: one, epochs: 2, optimizer: {use: sgd, lr: 0.1}}, {name: two, at: [1, 2]}], x: {}}",
      "r");
  EXPECT_EQ(to_yaml(v),
            "name: a\nstages:\n  - name: one\n    epochs: 2\n    optimizer:\n      use: sgd\n      lr: 0.1\n  - name: "
            "two\n    at: [1, 2]\nx: {}\n");
  EXPECT_EQ(to_yaml(Value("x")), "x\n");
  EXPECT_EQ(to_yaml(Value(std::vector<int64_t>{1})), "[1]\n");
}

// Random texts of what YAML is made of: an InputError or a value, in a short time.
TEST(Yaml, SurvivesRandomTexts) {
  const std::vector<std::string> pieces = {
      "a",   "b: ", ": ",   "- ", "\n",       "\n  ", "\n    ", "[",  "]", "{",     "}",     ",", "&a ",
      "*a",  "!x ", "'",    "\"", "|\n",      ">\n",  "? ",     "#",  "%", "---\n", "...\n", "1", "010",
      "yes", "~",   "<<: ", "\t", "\xc3\xa9", "\xff", "\r\n",   "\\", "@", "`",     "\x04"};
  std::mt19937 random(3);
  int values = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (unsigned n = random() % 24; n > 0; --n) text += pieces[random() % pieces.size()];
    try {
      const Value v = parse_yaml(text, "r");
      ++values;
      // What was read can be written, and read again.
      EXPECT_EQ(to_json(parse_yaml(to_yaml(v), "r")), to_json(v)) << text;
    } catch (const InputError&) {
    }
  }
  EXPECT_GT(values, 500);
}

TEST(Yaml, HostileTextsAreRefusedQuickly) {
  const size_t n = 1 << 20;
  const std::vector<std::string> texts = {std::string(n, '['),
                                          std::string(n, '{'),
                                          std::string(n, '-'),
                                          std::string(n, '?'),
                                          std::string(n, ':'),
                                          std::string(n, '&'),
                                          std::string(n, '*'),
                                          std::string(n, '!'),
                                          std::string(n, '#'),
                                          std::string(n, '%'),
                                          std::string(n, '"'),
                                          std::string(n, '\''),
                                          std::string(n, '|'),
                                          std::string(n, '\n'),
                                          std::string(n, ' '),
                                          std::string(n, '\t'),
                                          std::string(n, ','),
                                          std::string(n, 'a'),
                                          std::string(n, '\r'),
                                          repeated("- ", n / 2),
                                          repeated("? ", n / 2),
                                          repeated(": ", n / 2),
                                          repeated("[]", n / 2),
                                          repeated("{}", n / 2),
                                          repeated("a: ", n / 3),
                                          repeated("a:\n", n / 3),
                                          repeated("- a\n", n / 4),
                                          repeated("[a,", n / 3),
                                          repeated("{a: ", n / 4),
                                          repeated("'a' ", n / 4),
                                          repeated("&a ", n / 3),
                                          repeated("a\n", n / 2),
                                          repeated("---\n", n / 4),
                                          repeated("%YAML 1.2\n", n / 10),
                                          repeated("# a\n", n / 4),
                                          repeated("a b ", n / 4),
                                          "a: |\n" + repeated(" b\n", n / 4),
                                          "a: " + repeated("\n ", n / 3),
                                          "a: \"" + repeated("\\n", n / 3),
                                          "[" + repeated("&a a, *a, ", n / 11),
                                          "[" + repeated("&a [a], ", n / 9),
                                          repeated("!a ", n / 3)};
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    try {
      parse_yaml(texts[i], "r");
    } catch (const InputError&) {
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(took.count(), 5) << i << " " << texts[i].substr(0, 10);
  }
}

}  // namespace
}  // namespace espalier
