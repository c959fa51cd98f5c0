// The readers of tables: what they take, and what they refuse.
#include "espalier/datasets/table.h"

#include <cmath>

#include "sample_files.h"

namespace espalier {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Kind = TableColumn::Kind;

class Tables : public testing::Test {
 protected:
  Table csv(const std::string& text, const CsvFormat& format = {}) {
    return read_csv({folder_.write("t.csv", text)}, format);
  }
  Table arff(const std::string& text) { return read_arff({folder_.write("t.arff", text)}); }
  Table libsvm(const std::string& text, const LibsvmFormat& format = {}) {
    return read_libsvm({folder_.write("t.txt", text)}, format);
  }
  // What is said of a file, behind its name, which must stand first.
  std::string csv_error(const std::string& text, const CsvFormat& format = {}) {
    return without_name("t.csv", [&] { csv(text, format); });
  }
  std::string arff_error(const std::string& text) {
    return without_name("t.arff", [&] { arff(text); });
  }
  std::string libsvm_error(const std::string& text, const LibsvmFormat& format = {}) {
    return without_name("t.txt", [&] { libsvm(text, format); });
  }
  std::string without_name(const std::string& name, const std::function<void()>& body) {
    const std::string message = samples::input_error(body), file = (folder_ / name).string();
    EXPECT_THAT(message, StartsWith(file + ":"));
    return message.substr(std::min(file.size() + 1, message.size()));
  }
  static std::vector<std::string> names(const Table& t) {
    std::vector<std::string> all;
    for (const TableColumn& c : t.columns) all.push_back(c.name);
    return all;
  }
  samples::Folder folder_;
};

using Csv = Tables;
using Arff = Tables;
using Libsvm = Tables;

TEST(TableText, KnowsANumberFromWhatIsNone) {
  for (const auto& [text, value] : {std::pair("1", 1.0),
                                    {"-2.5", -2.5},
                                    {"+3", 3.0},
                                    {"1e3", 1000.0},
                                    {".5", 0.5},
                                    {"5.", 5.0},
                                    {"1E-400", 0.0},
                                    {"007", 7.0}}) {
    EXPECT_EQ(parse_number(text), value) << text;
  }
  for (const char* text : {"", " 1", "1 ", "1,5", "0x10", "1e999", "inf", "nan", "1.2.3", "--1", "+-1", "1_000", "one"})
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  EXPECT_EQ(parse_number("1,5", true), 1.5);
  EXPECT_EQ(parse_number("1.5", true), std::nullopt);
}

TEST_F(Csv, ReadsQuotedFieldsOfSeveralLines) {
  const Table t = csv("name,n\n\"a, b\",1\n\"say \"\"no\"\"\",2\n\"two\nlines\",3\n\nlast,4\n");
  EXPECT_THAT(names(t), ElementsAre("name", "n"));
  EXPECT_EQ(t.columns[0].kind, Kind::nominal);
  EXPECT_THAT(t.columns[0].categories, ElementsAre("a, b", "last", "say \"no\"", "two\nlines"));
  EXPECT_THAT(t.columns[0].codes, ElementsAre(0, 2, 3, 1));
  EXPECT_EQ(t.columns[1].kind, Kind::numeric);
  EXPECT_THAT(t.columns[1].numbers, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(t.lines, ElementsAre(2, 3, 4, 7));
  EXPECT_EQ(t.place(3), (folder_ / "t.csv").string() + ":7");
}

TEST_F(Csv, ReadsWhatOtherProgramsWrite) {
  const std::string rows = "x,kind\n1.5,a\n2.5,b\n";
  std::string crlf, cr;
  for (const char c : rows) crlf += c == '\n' ? "\r\n" : std::string(1, c), cr += c == '\n' ? '\r' : c;
  const samples::Bytes packed = samples::gzip({rows.begin(), rows.end()});
  for (const std::string& text : {rows, crlf, cr, "\xef\xbb\xbf" + rows, rows.substr(0, rows.size() - 1),
                                  std::string(packed.begin(), packed.end()), std::string("x\tkind\n1.5\ta\n2.5\tb\n"),
                                  std::string("x;kind\n1.5;a\n2.5;b\n"), std::string("x, kind\n 1.5 , a\n2.5, b\n")}) {
    const Table t = csv(text);
    EXPECT_THAT(names(t), ElementsAre("x", "kind")) << text;
    EXPECT_THAT(t.columns[0].numbers, ElementsAre(1.5, 2.5)) << text;
    EXPECT_THAT(t.columns[1].categories, ElementsAre("a", "b")) << text;
    EXPECT_THAT(t.lines, ElementsAre(2, 3)) << text;
  }
}

TEST_F(Csv, TellsNamesFromValues) {
  EXPECT_THAT(names(csv("1,a\n2,b\n")), ElementsAre("column1", "column2"));
  EXPECT_THAT(names(csv("x,\n2,b\n")), ElementsAre("x", "column2"));
  EXPECT_EQ(csv("a,b\nc,d\na,e\n").rows(), 3);  // a again: values
  EXPECT_EQ(csv("a,b\nc,d\ne,f\n").rows(), 2);
  EXPECT_EQ(csv("a,b\nc,d\ne,f\n", {.header = false}).rows(), 3);
  EXPECT_THAT(names(csv("2019,2020\n1,2\n", {.header = true})), ElementsAre("2019", "2020"));
}

TEST_F(Csv, TakesDelimitersAndDecimalsAsTheyAreGiven) {
  const Table t = csv("a;b\n1,5;2\n2,5;3\n", {.decimal_comma = true});
  EXPECT_THAT(t.columns[0].numbers, ElementsAre(1.5, 2.5));
  EXPECT_THAT(csv("a|b\n1|2\n", {.delimiter = "|"}).columns[1].numbers, ElementsAre(2));
  EXPECT_THAT(csv("a\tb\n1 2\t3\n", {.delimiter = "tab"}).columns[0].categories, ElementsAre("1 2"));
  // What a header holds of another delimiter does not count.
  EXPECT_THAT(names(csv("a;b,c\n1,2\n")), ElementsAre("a;b", "c"));
  EXPECT_THAT(samples::input_error([&] { csv("a\n1\n", {.delimiter = "::"}); }),
              HasSubstr("`delimiter` must be one character"));
}

TEST_F(Csv, KnowsMissingValuesAndCategories) {
  const Table t = csv("x,code,k\n1,10,a\nNA,9,?\n,10,\n", {.nominal = {"code"}});
  EXPECT_TRUE(std::isnan(t.columns[0].numbers[1]) && std::isnan(t.columns[0].numbers[2]));
  EXPECT_THAT(t.columns[1].categories, ElementsAre("9", "10"));  // in the order of the numbers
  EXPECT_THAT(t.columns[1].codes, ElementsAre(1, 0, 1));
  EXPECT_THAT(t.columns[2].codes, ElementsAre(0, -1, -1));
  EXPECT_TRUE(t.columns[2].is_missing(2));
  EXPECT_THAT(csv("x\nNA\nb\n", {.missing = {"-"}}).columns[0].categories, ElementsAre("NA", "b"));
}

TEST_F(Csv, JoinsFilesOfTheSameColumns) {
  const auto a = folder_.write("a.csv", "x,k\n1,a\n2,b\n"), b = folder_.write("b.csv", "x,k\n3,c\n");
  const Table t = read_csv({a, b}, {});
  EXPECT_THAT(t.begins, ElementsAre(0, 2, 3));
  EXPECT_THAT(t.columns[1].categories, ElementsAre("a", "b", "c"));
  EXPECT_EQ(t.place(2), b.string() + ":2");
  EXPECT_THAT(samples::input_error([&] {
                read_csv({a, folder_.write("c.csv", "x,l\n1,a\n")}, {});
              }),
              HasSubstr("c.csv:1: column 2 ('l') is called 'k' in"));
  EXPECT_THAT(samples::input_error([&] {
                read_csv({a, folder_.write("c.csv", "x\n1\n")}, {});
              }),
              HasSubstr("c.csv:1: has 1 field, and those of"));
}

// File, line and column are in each message.
TEST_F(Csv, RefusesDamagedFiles) {
  EXPECT_THAT(csv_error(""), HasSubstr("is empty"));
  EXPECT_THAT(csv_error("\n\n"), HasSubstr("holds no rows"));
  EXPECT_THAT(csv_error("a,b\n"), HasSubstr("holds no rows below the names of its columns"));
  EXPECT_THAT(csv_error("a,b\n1,2\n1,2,3\n"), HasSubstr("3: has 3 fields, and line 1 has 2 fields (separated by ',')"));
  EXPECT_THAT(csv_error("a,b,c\n1,2,3\n1,2\n"), HasSubstr("3: has 2 fields, and line 1 has 3 fields"));
  EXPECT_THAT(csv_error("a,b,a\n1,2,3\n"), HasSubstr("1: the columns 1 and 3 are both called 'a'"));
  EXPECT_THAT(csv_error("a,b\n1,2\n3,x\n4,5\n"),
              AllOf(HasSubstr("3: column 2 ('b'): 'x' is not a number, but 2 values of the column are"),
                    HasSubstr("t.csv:2)"), HasSubstr("`nominal`")));
  EXPECT_THAT(csv_error("a,3\n1,2\n3,4\n"),
              AllOf(HasSubstr("1: column 1 ('column1'): 'a' is not a number"), HasSubstr("say `header: true`")));
  EXPECT_THAT(csv_error("a;b\n1,5;2\n"), HasSubstr("2: column 1 ('a'): '1,5' is written with a decimal comma"));
  EXPECT_THAT(csv_error("a,b\n1,1e999\n2,3\n"), HasSubstr("2: column 2 ('b'): '1e999' is not a number"));
  EXPECT_THAT(csv_error("a,b\n1,\"x\ny\n"), HasSubstr("2: the field 2 of this row begins with a quote that is not"));
  EXPECT_THAT(csv_error("a,b\n1,\"x\"y\n"), HasSubstr("2:6: behind the closing quote stands 'y'"));
  EXPECT_THAT(csv_error("a,b\n1,x\"y\n"), HasSubstr("2:4: a quote within a field that does not begin with one"));
  EXPECT_THAT(csv_error("a,b\n\"1\n2\"3,4\n"),
              HasSubstr("3:3: behind the closing quote stands '3' (the row begins in"));
  EXPECT_THAT(csv_error(std::string("a,b\n1,\0002\n", 9)), HasSubstr("2:3: a zero byte"));
  EXPECT_THAT(csv_error("a,b\n1,\xe9t\xe9\n"), HasSubstr("2:3: the byte e9 is no UTF-8"));
  EXPECT_THAT(csv_error(std::string("\xff\xfe") + "a"), HasSubstr("UTF-16"));
  EXPECT_THAT(csv_error("a,b\n1,2\n", {.nominal = {"c"}}), HasSubstr("`nominal`: there is no column 'c'"));
}

TEST_F(Csv, NamesColumnsByNamePatternAndNumber) {
  const Table t = csv("x1,x2,y1,y2,3\n1,2,3,4,5\n", {.header = true});
  EXPECT_THAT(named_columns(t, {"y*"}, "target"), ElementsAre(2, 3));
  EXPECT_THAT(named_columns(t, {"-1", "1", "x?"}, "target"), ElementsAre(4, 0, 1));
  EXPECT_THAT(named_columns(t, {"3"}, "target"), ElementsAre(4));  // a name, before it is a number
  const auto error = [&](const std::string& name) {
    return samples::input_error([&] { named_columns(t, {name}, "target"); });
  };
  EXPECT_THAT(error("6"), HasSubstr("t.csv: `target`: there is no column 6; the 5 columns are counted from 1"));
  EXPECT_THAT(error("-6"), HasSubstr("there is no column -6"));
  EXPECT_THAT(error("0"), HasSubstr("there is no column 0"));
  EXPECT_THAT(error("z*"), HasSubstr("no column matches 'z*' (there are x1, x2, y1, y2 and 3)"));
  EXPECT_THAT(error("y11"), HasSubstr("there is no column 'y11' (did you mean 'y1'?)"));
}

constexpr char arff_head[] =
    "% a comment\n@RELATION 'a table'\n\n@attribute 'the size' NUMERIC\n@attribute colour {red, 'light blue', "
    "\"it's\"}\n"
    "@attribute note string\n@DATA\n";

TEST_F(Arff, ReadsQuotedNamesAndValues) {
  const Table t =
      arff(std::string(arff_head) + "1.5, red, 'a, b'\n% no row\n?, 'light blue', ?\n-2,\"it's\",'it\\'s'\n");
  EXPECT_THAT(names(t), ElementsAre("the size", "colour", "note"));
  EXPECT_EQ(t.columns[0].numbers[0], 1.5);
  EXPECT_TRUE(t.columns[0].is_missing(1));
  EXPECT_THAT(t.columns[1].categories, ElementsAre("red", "light blue", "it's"));
  EXPECT_THAT(t.columns[1].codes, ElementsAre(0, 1, 2));
  EXPECT_THAT(t.columns[2].categories, ElementsAre("a, b", "it's"));
  EXPECT_THAT(t.columns[2].codes, ElementsAre(0, -1, 1));
  EXPECT_THAT(t.lines, ElementsAre(8, 10, 11));
  EXPECT_TRUE(t.targets.empty());
  // In quotes, a question mark is one.
  EXPECT_THAT(arff("@relation r\n@attribute a {'?', b}\n@data\n'?'\n?\n").columns[0].codes, ElementsAre(0, -1));
}

TEST_F(Arff, ReadsSparseRows) {
  const Table t = arff(
      "@relation r\n@attribute a numeric\n@attribute b {x, y}\n@attribute c real\r\n@data\n{0 2, 1 y}\n{}\n{ 2 -1.5 }\n"
      "{1 ?, 2 3}\n5, x, 6\n");
  EXPECT_THAT(t.columns[0].numbers, ElementsAre(2, 0, 0, 0, 5));
  EXPECT_THAT(t.columns[1].codes, ElementsAre(1, 0, 0, -1, 0));
  EXPECT_THAT(t.columns[2].numbers, ElementsAre(0, 0, -1.5, 3, 6));
}

TEST_F(Arff, KnowsTheLabelsOfMeka) {
  const std::string rest = "\n@attribute a {0,1}\n@attribute b {0,1}\n@attribute c numeric\n@data\n0,1,2\n";
  EXPECT_THAT(arff("@relation 'x: -C 2'" + rest).targets, ElementsAre("a", "b"));
  EXPECT_THAT(arff("@relation 'x: -C -1'" + rest).targets, ElementsAre("c"));
  EXPECT_TRUE(arff("@relation Add-NTarget-Clast" + rest).targets.empty());
  EXPECT_THAT(arff_error("@relation 'x: -C 3'" + rest), HasSubstr("3 attributes are labels (-C), and it has 3"));
}

TEST_F(Arff, RefusesDamagedFiles) {
  const std::string head = arff_head;
  EXPECT_THAT(arff_error("1,2\n"), HasSubstr("1:1: expected @relation, @attribute or @data, got '1,2'"));
  EXPECT_THAT(arff_error("@relation r\n@attribute a numeric\n"), HasSubstr("has no line @data"));
  EXPECT_THAT(arff_error("@relation r\n@data\n1\n"), HasSubstr("2:1: @data without an @attribute before it"));
  EXPECT_THAT(arff_error(head), HasSubstr("holds no rows behind @data"));
  EXPECT_THAT(arff_error("@attribute a relational\n@data\n"), HasSubstr("1:14: the attribute 'a' is of the type"));
  EXPECT_THAT(arff_error("@attribute a {x, x}\n@data\n"), HasSubstr("1:18: the value 'x' of 'a' is declared twice"));
  EXPECT_THAT(arff_error("@attribute a {x, y\n@data\n"), HasSubstr("1:19: expected a comma or '}'"));
  EXPECT_THAT(arff_error("@attribute a real\n@attribute a real\n@data\n1,2\n"), HasSubstr("both called 'a'"));
  EXPECT_THAT(arff_error(head + "1,red\n"), HasSubstr("8:1: has 2 values, and 3 attributes are declared"));
  EXPECT_THAT(arff_error(head + "1,red,a\nx,red,a\n"), HasSubstr("9:1: column 1 ('the size'): 'x' is not a number"));
  EXPECT_THAT(arff_error(head + "1,rad,a\n"),
              HasSubstr("8:3: column 2 ('colour'): the value 'rad' is not declared (did you mean 'red'?)"));
  EXPECT_THAT(arff_error(head + "1,'red,a\n"), HasSubstr("8:3: the quote is not closed in this line"));
  EXPECT_THAT(arff_error(head + "1,,a\n"), HasSubstr("8:3: an empty value; a missing one is written ?"));
  EXPECT_THAT(arff_error(head + "1,red,a,{2}\n"), HasSubstr("8:9: weights of rows are not read"));
  EXPECT_THAT(arff_error(head + "{3 1}\n"),
              HasSubstr("8:2: there is no attribute 3; the 3 attributes are counted from 0"));
  EXPECT_THAT(arff_error(head + "{1 red, 0 2}\n"), HasSubstr("8:9: the attribute 0 stands behind 1"));
  EXPECT_THAT(arff_error(head + "{0 1\n"), HasSubstr("8:5: expected a comma or '}'"));
}

TEST_F(Libsvm, ReadsClassesAndValues) {
  const Table t = libsvm("+1 1:0.5 3:-2 # a comment\n-1 2:1e1\n\n+1\n");
  EXPECT_THAT(names(t), ElementsAre("label", "1", "2", "3"));
  EXPECT_THAT(t.columns[0].categories, ElementsAre("-1", "1"));
  EXPECT_THAT(t.columns[0].codes, ElementsAre(1, 0, 1));
  EXPECT_THAT(t.columns[1].numbers, ElementsAre(0.5, 0, 0));
  EXPECT_THAT(t.columns[2].numbers, ElementsAre(0, 10, 0));
  EXPECT_THAT(t.columns[3].numbers, ElementsAre(-2, 0, 0));
  EXPECT_THAT(t.lines, ElementsAre(1, 2, 4));
  EXPECT_THAT(t.targets, ElementsAre("label"));
  EXPECT_THAT(libsvm("1.5 1:1\n2 1:1\n").columns[0].numbers, ElementsAre(1.5, 2));
  std::string counts;
  for (int i = 0; i < 101; ++i) counts += std::to_string(i) + " 1:1\n";
  EXPECT_EQ(libsvm(counts).columns[0].kind, Kind::numeric);
  EXPECT_THAT(names(libsvm("1 0:1\n", {.zero_based = true})), ElementsAre("label", "0"));
  EXPECT_EQ(libsvm("1 1:1\n", {.features = 5}).columns.size(), 6U);
}

TEST_F(Libsvm, ReadsSeveralLabelsOfARow) {
  const Table t = libsvm("1,10 1:1\n 1:2\n2 1:3\n");
  EXPECT_THAT(t.targets, ElementsAre("label1", "label2", "label10"));
  EXPECT_THAT(t.columns[0].numbers, ElementsAre(1, 0, 0));
  EXPECT_THAT(t.columns[1].numbers, ElementsAre(0, 0, 1));
  EXPECT_THAT(t.columns[2].numbers, ElementsAre(1, 0, 0));
}

TEST_F(Libsvm, RefusesDamagedFiles) {
  EXPECT_THAT(libsvm_error("1 1:1\na 1:1\n"), HasSubstr("2:1: the label 'a' is not a number"));
  EXPECT_THAT(libsvm_error("1 1:1 2\n"), HasSubstr("1:7: expected INDEX:VALUE, got '2'"));
  EXPECT_THAT(libsvm_error("1 1:x\n"), HasSubstr("1:5: the value 'x' of the feature 1 is not a number"));
  EXPECT_THAT(libsvm_error("1 2:1 1:1\n"), HasSubstr("1:7: the feature 1 does not stand behind smaller ones"));
  EXPECT_THAT(libsvm_error("1 0:1\n"), HasSubstr("1:3: the feature 0; features are counted from 1"));
  EXPECT_THAT(libsvm_error("1 -1:1\n"), HasSubstr("1:3: expected the number of a feature, got '-1'"));
  EXPECT_THAT(libsvm_error("1 9223372036854775807:1\n"), HasSubstr("1:3: expected the number of a feature, got '9223"));
  EXPECT_THAT(libsvm_error("1 qid:3 1:1\n"), HasSubstr("1:3: ranks within queries (qid) are not read"));
  EXPECT_THAT(libsvm_error("1 3:1\n", {.features = 2}), HasSubstr("1:3: the feature 3, and `features` is 2"));
  EXPECT_THAT(libsvm_error("1\n2\n"), HasSubstr("holds labels without features"));
  EXPECT_THAT(libsvm_error("1 1:1\n1:2\n"), HasSubstr("2: the row has no label"));
  EXPECT_THAT(libsvm_error("1 1:1\n2 900000000:1\n"), HasSubstr("has 900,000,001 columns; a table is kept"));
  std::string rows;
  for (int i = 0; i < 600; ++i) rows += "1 1:1\n";
  EXPECT_THAT(libsvm_error(rows + "2 1000000:1\n", {.features = 999'999}), HasSubstr("601:3: the feature 1000000"));
  EXPECT_THAT(libsvm_error(rows + "2 999999:1\n"), HasSubstr("has 601 rows of 1,000,000 columns; a table is kept"));
}

}  // namespace
}  // namespace espalier
