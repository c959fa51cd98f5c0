#include "formats/protobuf.h"

#include <cstring>

namespace espalier {

namespace {

template <class T>
void put(std::string& out, T value) {  // little-endian, as the machines are that this runs on
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

}  // namespace

void Message::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
  text_ += static_cast<char>(value);
}

Message& Message::integer(uint64_t field, int64_t value) {
  tag(field, Wire::varint);
  varint(static_cast<uint64_t>(value));
  return *this;
}

Message& Message::number(uint64_t field, float value) {
  tag(field, Wire::fixed32);
  put(text_, value);
  return *this;
}

Message& Message::number(uint64_t field, double value) {
  tag(field, Wire::fixed64);
  put(text_, value);
  return *this;
}

Message& Message::bytes(uint64_t field, std::string_view value) {
  tag(field, Wire::bytes);
  varint(value.size());
  text_ += value;
  return *this;
}

}  // namespace espalier
