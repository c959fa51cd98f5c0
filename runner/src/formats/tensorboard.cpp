#include "formats/tensorboard.h"

#include <array>
#include <cstring>

#include "formats/protobuf.h"

namespace espalier {

namespace {

template <class T>
void put(std::string& out, T value) {  // little-endian, as the machines are that this runs on
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
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
Message event_at(double wall_time) {
  return Message().number(1, wall_time);
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
  return record(event_at(wall_time).bytes(3, "brain.Event:2").text());
}

std::string scalar_event(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  Message summary;
  for (const auto& [tag, number] : scalars)
    summary.message(1, Message().bytes(1, tag).number(2, static_cast<float>(number)));
  return record(event_at(wall_time).integer(2, step).message(5, summary).text());
}

}  // namespace espalier
