#include "data/scaling.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/std.h>
#include <ATen/ops/tensor.h>

#include "espalier/error.h"

namespace espalier {

namespace {

const NormalizeRule& rule_of(const NormalizeSection& section, const std::string& name) {
  static const NormalizeRule none;
  for (const auto& [other, own] : section.by_name) {
    if (other == name) return own;
  }
  // `normalize: false` is meant for all of them.
  return section.by_name.empty() && (name == "input" || !section.input.on) ? section.input : none;
}

bool is_listed(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

std::vector<std::string> standardized(const NormalizeSection& section, const DatasetInfo& info) {
  std::vector<std::string> names;
  const auto look = [&](const std::string& name) {
    const NormalizeRule& own = rule_of(section, name);
    if (!own.on || !own.mean.empty()) return;
    if (own.standardize || is_listed(info.standardize, name)) names.push_back(name);
  };
  look("input");
  for (const InputSpec::Other& other : info.input.others) look(other.name);
  look("target");
  for (const auto& [name, own] : section.by_name) {
    if (own.standardize && !is_listed(names, name)) names.push_back(name);
  }
  return names;
}

Scaling scaling_of(const at::Tensor& x) {
  at::Tensor rows = x.to(at::kDouble);
  if (x.scalar_type() == at::kByte) rows = rows / 255;
  rows = x.dim() == 4 ? rows.transpose(0, 1).flatten(1).t() : rows.reshape({-1, rows.size(-1)});
  const at::Tensor mean = rows.mean(at::IntArrayRef{0}).contiguous();
  at::Tensor deviation = (rows - mean).square_().mean(at::IntArrayRef{0}).sqrt().contiguous();
  Scaling s;
  for (int64_t i = 0; i < mean.numel(); ++i) {
    s.mean.push_back(mean.const_data_ptr<double>()[i]);
    const double d = deviation.const_data_ptr<double>()[i];
    // Rounding leaves a little of what is constant.
    s.deviation.push_back(d > 1e-12 * (1 + std::abs(s.mean.back())) ? d : 1);
  }
  return s;
}

Scalings scalings(const NormalizeSection& section, const DatasetInfo& info, const Scalings& measured) {
  Scalings all = measured;
  const auto has = [&](const std::string& name) {
    return std::ranges::any_of(all, [&](const auto& s) { return s.first == name; });
  };
  const NormalizeRule& own = rule_of(section, "input");
  const bool is_image = info.input.height > 0 && info.input.nodes == 0;
  if (own.on && !has("input")) {
    const auto channels = static_cast<size_t>(info.input.channels);
    // One number is for all channels or features.
    const auto of_each = [&](const std::vector<double>& given) {
      return given.size() == 1 ? std::vector<double>(channels, given.front()) : given;
    };
    const Scaling s{own.mean.empty() ? info.mean : of_each(own.mean),
                    own.deviation.empty() ? info.deviation : of_each(own.deviation)};
    const bool given = !s.mean.empty() || !s.deviation.empty();
    if ((is_image || given) && (s.mean.size() != channels || s.deviation.size() != channels)) {
      throw Error("data.normalize: " + std::to_string(channels) + (is_image ? " channels" : " features") +
                  " need as many means and deviations, got " + std::to_string(s.mean.size()) + " and " +
                  std::to_string(s.deviation.size()));
    }
    if (given) all.emplace(all.begin(), "input", s);
  }
  for (const auto& [name, by_name] : section.by_name) {
    if (name != "input" && by_name.on && !by_name.mean.empty() && !has(name))
      all.emplace_back(name, Scaling{by_name.mean, by_name.deviation});
  }
  return all;
}

Normalization normalization_of(const Scalings& all, const InputSpec& input) {
  Normalization n{};
  const auto channels = static_cast<size_t>(std::min<int64_t>(input.channels, max_channels));
  const auto found = std::ranges::find(all, "input", &Scalings::value_type::first);
  for (size_t c = 0; c < channels; ++c) {
    const double m = found == all.end() ? 0 : found->second.mean[c];
    const double d = found == all.end() ? 1 : found->second.deviation[c];
    n.scale[c] = static_cast<float>(1 / (255 * d));
    n.shift[c] = static_cast<float>(-m / d);
  }
  return n;
}

Split scaled(Split split, const Scalings& all) {
  for (NamedTensors* tensors : {&split.inputs, &split.targets}) {
    for (auto& [name, x] : *tensors) {
      const auto found = std::ranges::find(all, name, &Scalings::value_type::first);
      if (found == all.end() || !x.is_floating_point()) continue;
      at::Tensor mean = at::tensor(found->second.mean, at::kDouble);
      at::Tensor deviation = at::tensor(found->second.deviation, at::kDouble);
      if (x.dim() == 4) mean = mean.reshape({-1, 1, 1}), deviation = deviation.reshape({-1, 1, 1});
      x = ((x.to(at::kDouble) - mean) / deviation).to(x.scalar_type());
    }
  }
  return split;
}

Value to_value(const Scalings& all) {
  Value v = Value::map();
  for (const auto& [name, s] : all) v[name] = Value::map({{"mean", s.mean}, {"std", s.deviation}});
  return v;
}

Scalings scalings_from(const Value& value) {
  Scalings all;
  const auto numbers = [](const Value& list) {
    std::vector<double> result;
    for (const Value& x : list.as_list()) result.push_back(x.as_double());
    return result;
  };
  for (const Value::Entry& e : value.as_map())
    all.emplace_back(e.key, Scaling{numbers(e.value.at("mean")), numbers(e.value.at("std"))});
  return all;
}

}  // namespace espalier
