#include "output/tensorboard.h"

#include <array>
#include <cstring>

namespace espalier {

namespace {

template <class T>
void put(std::string& out, T value) {  // little-endian, as the machines are that this runs on
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

enum Wire : uint64_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void put_tag(std::string& out, uint64_t field, Wire wire) {
  put_varint(out, field << 3 | wire);
}

void put_bytes(std::string& out, uint64_t field, std::string_view value) {
  put_tag(out, field, bytes);
  put_varint(out, value.size());
  out += value;
}

uint32_t masked_crc(std::string_view text) {
  const uint32_t crc = crc32c(text);
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

std::string record(const std::string& event) {
  std::string length;
  put<uint64_t>(length, event.size());
  std::string out = length;
  put(out, masked_crc(length));
  out += event;
  put(out, masked_crc(event));
  return out;
}

// Event: 1 wall_time, 2 step, 3 file_version, 5 summary. Summary: 1 value. Value: 1 tag, 2 simple_value.
std::string event_at(double wall_time) {
  std::string event;
  put_tag(event, 1, fixed64);
  put(event, wall_time);
  return event;
}

}  // namespace

uint32_t crc32c(std::string_view text) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? c >> 1 ^ 0x82f63b78U : c >> 1;
      t[i] = c;
    }
    return t;
  }();
  uint32_t crc = 0xffffffffU;
  for (const char c : text) crc = crc >> 8 ^ table[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

std::string event_file_start(double wall_time) {
  std::string event = event_at(wall_time);
  put_bytes(event, 3, "brain.Event:2");
  return record(event);
}

std::string scalar_event(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    put_bytes(value, 1, tag);
    put_tag(value, 2, fixed32);
    put(value, static_cast<float>(number));
    put_bytes(summary, 1, value);
  }
  std::string event = event_at(wall_time);
  put_tag(event, 2, varint);
  put_varint(event, static_cast<uint64_t>(step));
  put_bytes(event, 5, summary);
  return record(event);
}

}  // namespace espalier
