#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace espalier {

// A message in protobuf's wire format, field by field. LibTorch holds a protobuf of its own, and two in one process
// clash.
class Message {
 public:
  Message& integer(uint64_t field, int64_t value);
  Message& number(uint64_t field, float value);
  Message& number(uint64_t field, double value);
  // A string, or bytes.
  Message& bytes(uint64_t field, std::string_view value);
  Message& message(uint64_t field, const Message& value) { return bytes(field, value.text_); }

  const std::string& text() const { return text_; }

 private:
  enum class Wire : uint64_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };
  void varint(uint64_t value);
  void tag(uint64_t field, Wire wire) { varint(field << 3 | static_cast<uint64_t>(wire)); }

  std::string text_;
};

}  // namespace espalier
