#include "output/trained_network.h"

#include <cstdio>

namespace espalier {

std::string number_list(const float* values, int64_t count) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    char number[32];
    std::snprintf(number, sizeof number, "%.9g", static_cast<double>(values[i]));
    text += (i ? ", " : "") + std::string(number);
  }
  return "[" + text + "]";
}

std::map<std::string, std::string> TrainedNetwork::metadata() const {
  return {{"scale", number_list(normalization.scale, info.input.channels)},
          {"shift", number_list(normalization.shift, info.input.channels)},
          {"classes", std::to_string(info.target.classes)}};
}

}  // namespace espalier
