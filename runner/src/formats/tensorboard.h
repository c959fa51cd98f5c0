#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/value.h"

namespace espalier {

// Records of a TensorBoard event file: protocol buffers of the messages Event and Summary (tensorflow/core/util/
// event.proto, framework/summary.proto) in the framing of TFRecord.

// The record that an event file begins with.
std::string event_file_start(double wall_time);
// A step's scalars. wall_time: seconds since 1970.
std::string scalar_event(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

// A text in Markdown.
std::string text_event(double wall_time, int64_t step, const std::string& tag, const std::string& text);

// A picture, as the text of a PNG file. Throws Error where it is none.
std::string picture_event(double wall_time, int64_t step, const std::string& tag, std::string_view png);

// How often numbers lie in each of some intervals.
struct Histogram {
  double least = 0, most = 0;   // of the numbers
  double sum = 0, squares = 0;  // of the numbers, and of their squares
  std::vector<double> limits;   // the upper end of each interval
  std::vector<double> counts;   // how many numbers lie in it
};
std::string histogram_event(double wall_time, int64_t step,
                            const std::vector<std::pair<std::string, Histogram>>& histograms);

// What a run is shown by in the table of hyper-parameters (tensorboard/plugins/hparams/plugin_data.proto): the names
// and values of its parameters (numbers, texts, truth values) and the tags of the scalars that are its results.
std::string run_start_event(double wall_time, const std::vector<std::pair<std::string, Value>>& parameters,
                            const std::vector<std::string>& results);
// That it ended well.
std::string run_end_event(double wall_time);

// CRC-32C (Castagnoli), as the framing uses it.
uint32_t crc32c(std::string_view bytes);

}  // namespace espalier
