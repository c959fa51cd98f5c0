// The event file, read by a reader of its own.
#include "formats/tensorboard.h"

#include <cstring>

#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(TensorBoard, ChecksumIsThatOfTheStandard) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);            // RFC 3720's polynomial, its usual check value
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
}

uint32_t masked(std::string_view text) {
  const uint32_t crc = crc32c(text);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

template <class T>
T number(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

TEST(TensorBoard, FramesEventsAndHoldsTheScalars) {
  const std::string file = event_file_start(1.5) + scalar_event(2.5, 300, {{"loss", 0.25}, {"lr", -3}});
  std::vector<std::string> events;
  for (size_t at = 0; at < file.size();) {
    const auto length = number<uint64_t>(std::string_view(file).substr(at, 8));
    EXPECT_EQ(number<uint32_t>(std::string_view(file).substr(at + 8, 4)), masked(file.substr(at, 8)));
    events.push_back(file.substr(at + 12, length));
    EXPECT_EQ(number<uint32_t>(std::string_view(file).substr(at + 12 + length, 4)), masked(events.back()));
    at += 16 + length;
  }
  ASSERT_EQ(events.size(), 2U);
  // Field 1, double; field 3, text.
  EXPECT_EQ(events[0].substr(0, 1), "\x09");
  EXPECT_EQ(number<double>(std::string_view(events[0]).substr(1)), 1.5);
  EXPECT_EQ(events[0].substr(9),
            "\x1a\x0d"
            "brain.Event:2");
  // Field 2, varint 300; field 5, the summary of two values: field 1 the tag, field 2 a float.
  const std::string quarter("\x00\x00\x80\x3e", 4), minus_three("\x00\x00\x40\xc0", 4);
  EXPECT_EQ(events[1].substr(9),
            "\x10\xac\x02"
            "\x2a\x18"
            "\x0a\x0b"
            "\x0a\x04loss\x15" +
                quarter +
                "\x0a\x09"
                "\x0a\x02lr\x15" +
                minus_three);
}

}  // namespace
}  // namespace espalier
