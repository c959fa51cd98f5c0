#include "export/trained_network.h"

#include <cstdio>

#include "espalier/value.h"

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
  std::map<std::string, std::string> all = {{"scale", number_list(normalization.scale, info.input.channels)},
                                            {"shift", number_list(normalization.shift, info.input.channels)},
                                            {"classes", std::to_string(info.target.outputs)}};
  if (!info.classes.empty()) all["class_names"] = to_json(info.classes);
  if (info.preparation.size() > 0) all["preparation"] = to_json(info.preparation);
  return all;
}

}  // namespace espalier
