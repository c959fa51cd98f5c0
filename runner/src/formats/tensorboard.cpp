#include "formats/tensorboard.h"

#include <array>
#include <cstring>
#include <iterator>
#include <numeric>

#include "espalier/error.h"
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

// Event: 1 wall_time, 2 step, 3 file_version, 5 summary. Summary: 1 value. Value: 1 tag, 2 simple_value, 4 image,
// 5 histo, 8 tensor, 9 metadata.
Message event_at(double wall_time) {
  return Message().number(1, wall_time);
}

std::string summary_record(double wall_time, int64_t step, const Message& summary) {
  Message event = event_at(wall_time);
  if (step != 0) event.integer(2, step);
  return record(event.message(5, summary).text());
}

// SummaryMetadata: 1 plugin_data: 1 plugin_name, 2 content.
Message metadata(const Message& plugin_data) {
  return Message().message(1, plugin_data);
}

// A repeated field of doubles, packed.
std::string packed(const std::vector<double>& numbers) {
  std::string bytes;
  for (const double n : numbers) put(bytes, n);
  return bytes;
}

// HParamsPluginData: 2 experiment, 3 session_start_info, 4 session_end_info.
std::string hparams_record(double wall_time, std::string_view tag, uint64_t field, const Message& content) {
  const Message plugin = Message().bytes(1, "hparams").message(2, Message().message(field, content));
  return summary_record(wall_time, 0, Message().message(1, Message().bytes(1, tag).message(9, metadata(plugin))));
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
  return summary_record(wall_time, step, summary);
}

std::string text_event(double wall_time, int64_t step, const std::string& tag, const std::string& text) {
  // TensorProto: 1 dtype (7: string), 2 tensor_shape (none: a scalar), 8 string_val.
  const Message tensor = Message().integer(1, 7).message(2, {}).bytes(8, text);
  return summary_record(wall_time, step,
                        Message().message(1, Message().bytes(1, tag).message(8, tensor).message(
                                                 9, metadata(Message().bytes(1, "text")))));
}

std::string picture_event(double wall_time, int64_t step, const std::string& tag, std::string_view png) {
  constexpr std::string_view signature("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", 16);
  if (png.size() < 26 || png.substr(0, signature.size()) != signature) throw Error("this is no PNG file");
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(png[i]); };
  const auto side = [&](size_t at) {
    return int64_t{byte(at)} << 24 | int64_t{byte(at + 1)} << 16 | int64_t{byte(at + 2)} << 8 | byte(at + 3);
  };
  // Channels of the picture, by PNG's type of colours: grey, -, RGB, a palette of RGB, grey and alpha, -, RGBA.
  constexpr int64_t channels[] = {1, 0, 3, 3, 2, 0, 4};
  const uint8_t type = byte(25);
  if (type >= std::size(channels) || channels[type] == 0) throw Error("this PNG file has no type of colours");
  // Image: 1 height, 2 width, 3 colorspace (the channels), 4 encoded_image_string.
  Message image;
  image.integer(1, side(20)).integer(2, side(16)).integer(3, channels[type]).bytes(4, png);
  return summary_record(wall_time, step, Message().message(1, Message().bytes(1, tag).message(4, image)));
}

std::string histogram_event(double wall_time, int64_t step,
                            const std::vector<std::pair<std::string, Histogram>>& histograms) {
  Message summary;
  for (const auto& [tag, h] : histograms) {
    const double count = std::accumulate(h.counts.begin(), h.counts.end(), 0.0);
    // HistogramProto: 1 min, 2 max, 3 num, 4 sum, 5 sum_squares, 6 bucket_limit, 7 bucket.
    Message m;
    m.number(1, h.least).number(2, h.most).number(3, count).number(4, h.sum).number(5, h.squares);
    m.bytes(6, packed(h.limits)).bytes(7, packed(h.counts));
    summary.message(1, Message().bytes(1, tag).message(5, m));
  }
  return summary_record(wall_time, step, summary);
}

std::string run_start_event(double wall_time, const std::vector<std::pair<std::string, Value>>& parameters,
                            const std::vector<std::string>& results) {
  // Experiment: 3 time_created_secs, 4 hparam_infos, 5 metric_infos. HParamInfo: 1 name, 4 type (1: text, 2: truth
  // value, 3: number). MetricInfo: 1 name: 2 tag. SessionStartInfo: 1 hparams, a map; 5 start_time_secs.
  // google.protobuf.Value: 2 number_value, 3 string_value, 4 bool_value.
  Message experiment, start;
  experiment.number(3, wall_time);
  for (const auto& [name, value] : parameters) {
    const int64_t type = value.is(Value::Kind::boolean) ? 2 : value.is_number() ? 3 : 1;
    experiment.message(4, Message().bytes(1, name).integer(4, type));
    Message v;
    if (type == 1) v.bytes(3, value.as_string());
    if (type == 2) v.integer(4, value.as_bool() ? 1 : 0);
    if (type == 3) v.number(2, value.as_double());
    start.message(1, Message().bytes(1, name).message(2, v));
  }
  for (const std::string& tag : results) experiment.message(5, Message().message(1, Message().bytes(2, tag)));
  start.number(5, wall_time);
  return hparams_record(wall_time, "_hparams_/experiment", 2, experiment) +
         hparams_record(wall_time, "_hparams_/session_start_info", 3, start);
}

std::string run_end_event(double wall_time) {
  // SessionEndInfo: 1 status (1: success), 2 end_time_secs.
  return hparams_record(wall_time, "_hparams_/session_end_info", 4, Message().integer(1, 1).number(2, wall_time));
}

}  // namespace espalier
