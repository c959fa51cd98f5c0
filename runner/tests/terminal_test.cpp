#include "system/terminal.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(Table, AlignsColumnsAndUnderlinesTheHead) {
  EXPECT_EQ(table({{"name", "what"}, {"a", "one"}, {"long name", ""}}, 0),
            "name       what\n"
            "----       ----\n"
            "a          one\n"
            "long name\n");
}

TEST(Table, CountsCharactersNotBytes) {
  EXPECT_EQ(characters("Gr\xc3\xbc\xc3\x9f"
                       "e"),
            5u);
  EXPECT_EQ(table({{"a", "b"}, {"\xc3\xbc\xc3\xbc", "x"}}, 0), "a   b\n-   -\n\xc3\xbc\xc3\xbc  x\n");
}

TEST(Table, WrapsTheLastColumnWhereThereIsRoom) {
  EXPECT_EQ(table({{"a", "text"}, {"x", "one two three four five six seven"}}, 30),
            "a  text\n"
            "-  ----\n"
            "x  one two three four five six\n"
            "   seven\n");
  // Too narrow to wrap.
  EXPECT_EQ(table({{"a", "text"}, {"x", "one two three four"}}, 10), "a  text\n-  ----\nx  one two three four\n");
}

TEST(Table, OfNothingIsEmpty) {
  EXPECT_EQ(table({}, 80), "");
}

TEST(NumberTable, PutsNumbersToTheRight) {
  EXPECT_EQ(number_table({{"layer", "n"},
                          {"a", "5"},
                          {"b",
                           "\xe2\x86\x92"
                           "12"}}),
            "layer    n\n-----  ---\na        5\nb      \xe2\x86\x92"
            "12\n");
}

}  // namespace
}  // namespace espalier
