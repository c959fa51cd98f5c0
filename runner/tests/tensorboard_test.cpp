// The event file, read by a reader of its own.
#include "formats/tensorboard.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "espalier/error.h"

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

// The events of a file, each with its checksums tested.
std::vector<std::string> events_of(const std::string& file) {
  std::vector<std::string> events;
  for (size_t at = 0; at < file.size();) {
    const auto length = number<uint64_t>(std::string_view(file).substr(at, 8));
    EXPECT_EQ(number<uint32_t>(std::string_view(file).substr(at + 8, 4)), masked(file.substr(at, 8)));
    events.push_back(file.substr(at + 12, length));
    EXPECT_EQ(number<uint32_t>(std::string_view(file).substr(at + 12 + length, 4)), masked(events.back()));
    at += 16 + length;
  }
  return events;
}

TEST(TensorBoard, FramesEventsAndHoldsTheScalars) {
  const std::string file = event_file_start(1.5) + scalar_event(2.5, 300, {{"loss", 0.25}, {"lr", -3}});
  const std::vector<std::string> events = events_of(file);
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

std::string hex(const std::string& bytes) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    text += digits[static_cast<uint8_t>(c) >> 4];
    text += digits[static_cast<uint8_t>(c) & 15];
  }
  return text;
}

// As the messages of TensorBoard's own package (2.21.0) are written by protobuf, field by field in their order.
TEST(TensorBoard, TextsPicturesHistogramsAndHyperParametersAreThoseOfItsOwnPackage) {
  EXPECT_EQ(hex(events_of(text_event(2.5, 300, "recipe", "a: 1")).at(0)),
            "09000000000000044010ac022a200a1e0a06726563697065420a080712004204613a20314a080a060a0474657874");
  const Histogram h{.least = -1, .most = 3, .sum = 4.5, .squares = 12.25, .limits = {1, 3}, .counts = {2, 3}};
  EXPECT_EQ(
      hex(events_of(histogram_event(2.5, 7, {{"w", h}})).at(0)),
      "09000000000000044010072a580a560a01772a5109000000000000f0bf1100000000000008401900000000000014402100000000000012"
      "402900000000008028403210000000000000f03f00000000000008403a1000000000000000400000000000000840");
  const std::string png("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02\x08\x06\0\0\0\x9d\x74\x66\x1a", 33);
  EXPECT_EQ(
      hex(events_of(picture_event(2.5, 7, "003-f4/kept", png)).at(0)),
      "09000000000000044010072a3a0a380a0b3030332d66342f6b6570742229080210031804222189504e470d0a1a0a0000000d4948445200"
      "0000030000000208060000009d74661a");
  EXPECT_THROW(picture_event(2.5, 7, "no picture", png.substr(0, 20)), Error);
  EXPECT_THROW(picture_event(2.5, 7, "no picture", "<svg>" + png), Error);
  const auto three = events_of(run_start_event(2.5, {{"lr", 0.5}, {"use", "sgd"}, {"bn", true}}, {"test_accuracy"}));
  EXPECT_EQ(
      hex(three.at(0)),
      "0900000000000004402a5e0a5c0a145f68706172616d735f2f6578706572696d656e744a440a420a0768706172616d73123712351900"
      "0000000000044022060a026c72200322070a03757365200122060a02626e20022a110a0f120d746573745f6163637572616379");
  const auto one = events_of(run_start_event(2.5, {{"lr", 0.5}}, {}));
  EXPECT_EQ(hex(one.at(1)),
            "0900000000000004402a4b0a490a1c5f68706172616d735f2f73657373696f6e5f73746172745f696e666f4a290a270a0768706172"
            "616d73121c1a1a0a0f0a026c72120911000000000000e03f290000000000000440");
  EXPECT_EQ(hex(events_of(run_end_event(2.5)).at(0)),
            "0900000000000004402a3a0a380a1a5f68706172616d735f2f73657373696f6e5f656e645f696e666f4a1a0a180a0768706172616d"
            "73120d220b0801110000000000000440");
}

}  // namespace
}  // namespace espalier
