#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier {

// Records of a TensorBoard event file: protocol buffers of the messages Event and Summary (tensorflow/core/util/
// event.proto, framework/summary.proto) in the framing of TFRecord.

// The record that an event file begins with.
std::string event_file_start(double wall_time);
// A step's scalars. wall_time: seconds since 1970.
std::string scalar_event(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

// CRC-32C (Castagnoli), as the framing uses it.
uint32_t crc32c(std::string_view bytes);

}  // namespace espalier
