#include "export/trained_network.h"

#include <cstdio>

#include "espalier/value.h"

namespace espalier {

std::string number_list(const std::vector<float>& values) {
  std::string text;
  for (const float v : values) {
    char number[32];
    std::snprintf(number, sizeof number, "%.9g", static_cast<double>(v));
    text += (text.empty() ? "" : ", ") + std::string(number);
  }
  return "[" + text + "]";
}

TrainedNetwork::Affine TrainedNetwork::of_input() const {
  if (takes_images()) {
    const Normalization n = normalization_of(scalings, info.input);
    return {{n.scale, n.scale + info.input.channels}, {n.shift, n.shift + info.input.channels}};
  }
  for (const auto& [of, s] : scalings) {
    if (of != "input") continue;
    Affine a;
    for (size_t i = 0; i < s.mean.size(); ++i) {
      a.scale.push_back(static_cast<float>(1 / s.deviation[i]));
      a.shift.push_back(static_cast<float>(-s.mean[i] / s.deviation[i]));
    }
    return a;
  }
  return {{1}, {0}};
}

TrainedNetwork::Affine TrainedNetwork::of_output() const {
  Affine a;
  for (const auto& [of, s] : scalings) {
    if (of != "target") continue;
    a.scale.assign(s.deviation.begin(), s.deviation.end());
    a.shift.assign(s.mean.begin(), s.mean.end());
  }
  return a;
}

std::map<std::string, std::string> TrainedNetwork::metadata() const {
  const Affine input = of_input(), output = of_output();
  std::map<std::string, std::string> all = {{"scale", number_list(input.scale)}, {"shift", number_list(input.shift)}};
  if (info.target.task == task::classification) {
    all["classes"] = std::to_string(info.target.outputs);
  } else {
    all["task"] = to_json(Value(info.target.task));
    all["outputs"] = std::to_string(info.target.outputs);
  }
  if (!output.scale.empty()) {
    all["output_scale"] = number_list(output.scale);
    all["output_shift"] = number_list(output.shift);
  }
  if (!info.classes.empty())
    all[info.target.task == task::classification ? "class_names" : "output_names"] = to_json(info.classes);
  if (info.preparation.size() > 0) all["preparation"] = to_json(info.preparation);
  return all;
}

}  // namespace espalier
