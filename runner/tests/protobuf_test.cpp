#include "formats/protobuf.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

// The examples of protobuf's own description of its encoding (protobuf.dev, Encoding), and numbers of fixed length.
TEST(Protobuf, EncodesAsItsDescriptionSays) {
  EXPECT_EQ(Message().integer(1, 150).text(), "\x08\x96\x01");
  EXPECT_EQ(Message().bytes(2, "testing").text(), "\x12\x07testing");
  EXPECT_EQ(Message().message(3, Message().integer(1, 150)).text(), "\x1a\x03\x08\x96\x01");
  EXPECT_EQ(Message().integer(1, -2).text(), "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
  EXPECT_EQ(Message().number(20, 1.0F).text(), std::string("\xa5\x01\x00\x00\x80\x3f", 6));
  EXPECT_EQ(Message().number(1, -2.0).text(), std::string("\x09\x00\x00\x00\x00\x00\x00\x00\xc0", 9));
}

}  // namespace
}  // namespace espalier
