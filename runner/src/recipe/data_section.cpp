#include "recipe/data_section.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/augmentation.h"
#include "espalier/error.h"
#include "recipe/section_keys.h"
#include "recipe/sections.h"

namespace espalier {

namespace {

constexpr int64_t max_batch = 100'000'000;  // so that counts of samples fit into 64 bits, whatever multiplies them

// As much as can be known without the data: with a limit, how many samples there are at most.
void check_validation(const DataSection& d, const Value& checked) {
  if (d.limit == 0 || d.validation == 0) return;
  const double held_out = std::round(d.validation * static_cast<double>(d.limit));
  if (held_out > 0 && held_out < static_cast<double>(d.limit)) return;
  throw InputError(checked.at("validation").location.str(),
                   "of " + std::to_string(d.limit) + " samples (limit), a 'validation' of " +
                       to_json(checked.at("validation")) +
                       (held_out > 0 ? " leaves nothing to train on" : " holds out nothing"));
}

// {rotate: 15} -> {use: rotate, angle: 15}: the first parameter.
Value augmentation_of(const Value::Entry& short_form, const ComponentSpecs& specs) {
  Value name(short_form.key);
  name.location = short_form.key_location;
  Value spec = Value::map({{"use", name}});
  spec.location = short_form.key_location;
  const Registered& r = specs.registry().at(Augmentation::kind, short_form.key, short_form.key_location);
  if (short_form.value.is_null()) return spec;
  if (r.component.parameters.empty())
    throw InputError(short_form.value.location.str(), r.str() + " has no parameters: write its name alone");
  spec[r.component.parameters.front().name] = short_form.value;
  return spec;
}

// [crop, {rotate: 15}, {use: cutout, size: 8}] -> the specs with all parameters.
Value read_augment(const Value& given, std::vector<Value>& augmentations, const ComponentSpecs& specs) {
  Value result = Value::list();
  result.location = given.location;
  const auto add = [&](const Value& spec) {
    const std::string& name = name_of(spec, Augmentation::kind);
    const auto same = [&](const Value& other) { return name_of(other, Augmentation::kind) == name; };
    augmentations.push_back(specs.check(Augmentation::kind, spec));
    if (std::any_of(augmentations.begin(), augmentations.end() - 1, same))
      throw InputError(spec.location.str(), "the augmentation '" + name + "' is written twice");
    result.push_back(augmentations.back());
  };
  for (const Value& item : given.is_list() ? given.as_list() : Value::List{given}) {
    if (item.is_string() || (item.is_map() && item.find("use"))) {
      add(item);
    } else if (item.is_map()) {
      for (const Value::Entry& e : item.as_map()) add(augmentation_of(e, specs));
    } else {
      throw InputError(item.location.str(),
                       "'augment' must be " + data_subsections()[0].expected + ", got " + item.describe());
    }
  }
  return result;
}

// `resize: 224` is short for {size: 224}.
Value read_resize(const Value& given, ResizeSection& resize) {
  Value section = given;
  if (given.is_number()) {
    section = Value::map({{"size", given}});
    section.location = given.location;
  }
  const auto info = std::ranges::find(data_subsections(), "resize", &SubsectionInfo::name);
  expect_map(section, "'resize'", info->expected);
  const std::vector<ParameterInfo> keys = Declare<ResizeKeys>().parameters();
  refuse_unknown_keys(section, "resize", keys, {});
  Value checked = read_keys(section, keys, "resize");
  const ResizeKeys k = Declare<ResizeKeys>().read(checked, "resize");
  resize = {k.size, k.interpolation == "bicubic"};
  return checked;
}

const SubsectionInfo& normalize_section() {
  return *std::ranges::find(data_subsections(), "normalize", &SubsectionInfo::name);
}

Value read_rule(const Value& given, NormalizeRule& rule) {
  if (given.is(Value::Kind::boolean)) {
    rule.on = given.as_bool();
    return given;
  }
  if (given.is_string() && given.as_string() == "standardize") {
    rule.standardize = true;
    return given;
  }
  if (given.is_string()) {
    const std::vector<std::string> words = {"standardize", "true", "false"};
    throw InputError(given.location.str(), "'normalize' must be " + std::string(normalize_section().expected) +
                                               ", got '" + given.as_string() + "'" +
                                               suggestion(given.as_string(), words));
  }
  expect_map(given, "'normalize'", normalize_section().expected);
  const std::vector<ParameterInfo> keys = Declare<NormalizeKeys>().parameters();
  refuse_unknown_keys(given, "normalize", keys, {});
  Value checked = read_keys(given, keys, "normalize");
  const NormalizeKeys k = Declare<NormalizeKeys>().read(checked, "normalize");
  if (k.mean.size() != k.std.size() || k.mean.empty()) {
    throw InputError(given.location.str(), "'mean' and 'std' need one number for each channel, got " +
                                               std::to_string(k.mean.size()) + " and " + std::to_string(k.std.size()));
  }
  rule.mean = k.mean;
  rule.deviation = k.std;
  return checked;
}

Value read_normalize(const Value& given, NormalizeSection& normalize) {
  const bool names = given.is_map() && given.size() > 0 && !given.find("mean") && !given.find("std");
  if (!names) return read_rule(given, normalize.input);
  Value by_name = given;
  for (Value::Entry& e : by_name.as_map()) {
    if (e.value.is_map() && !e.value.find("mean") && !e.value.find("std")) {
      throw InputError(e.value.location.str(), "'" + e.key +
                                                   "' of 'normalize' must be true, false, standardize or "
                                                   "{mean: [...], std: [...]}");
    }
    e.value = read_rule(e.value, normalize.by_name.emplace_back(e.key, NormalizeRule()).second);
  }
  return by_name;
}

}  // namespace

Value data_as_map(const Value& data) {
  if (!data.is_string()) return expect_map(data, "'data'", "a map: {use: DATASET, ...}");
  Value result = Value::map({{"use", data}});
  result.location = data.location;
  return result;
}

DataSection read_data(const Value& data, Value& resolved, const ComponentSpecs& specs) {
  const std::vector<ParameterInfo> keys = Declare<DataKeys>().parameters();
  const std::string& name = name_of(data, "dataset");
  const Registered& dataset = specs.registry().at("dataset", name, data.at("use").location);
  std::vector<ParameterInfo> own = dataset.component.parameters;
  // A data set that resizes its images itself says how.
  const bool resizes = std::ranges::find(own, "resize", &ParameterInfo::name) != own.end();
  for (const ParameterInfo& p : own) {
    const auto same = [&](const auto& other) { return other.name == p.name && p.name != "resize"; };
    if (std::ranges::any_of(keys, same) || std::ranges::any_of(data_subsections(), same)) {
      throw InputError(data.location.str(),
                       dataset.str() + " declares the parameter '" + p.name + "', which is a key of 'data' itself");
    }
  }
  own.emplace_back().name = "use";
  refuse_unknown_keys(data, "data with dataset '" + name + "'", keys, data_subsections(), own);

  DataSection d;
  Value spec = Value::map();
  spec.location = data.location;
  for (const Value::Entry& e : data.as_map()) {
    const auto same = [&](const ParameterInfo& p) { return p.name == e.key; };
    if (std::ranges::any_of(own, same)) spec.as_map().push_back(e);
  }
  resolved = d.dataset = specs.check("dataset", spec);
  const Value checked = read_keys(data, keys, "data");
  const DataKeys k = Declare<DataKeys>().read(checked, "data");
  d.batch = k.batch;
  d.eval_batch = k.eval_batch;
  d.validation = k.validation;
  d.limit = k.limit;
  d.test_limit = k.test_limit;
  d.repeat = k.repeat;
  d.shuffle = k.shuffle;
  d.drop_last = k.drop_last;
  d.workers = k.workers;
  for (const auto& [key, n] : {std::pair("batch", d.batch), std::pair("eval_batch", d.eval_batch)}) {
    if (n > max_batch) {
      throw InputError(checked.at(key).location.str(),
                       "'" + std::string(key) + "' is " + std::to_string(n) + " samples: more than any data set has");
    }
  }
  check_validation(d, checked);
  for (const Value::Entry& e : checked.as_map()) resolved[e.key] = e.value;
  const Value* augment = data.find("augment");
  resolved["augment"] = read_augment(augment ? *augment : Value::list(), d.augment, specs);
  if (const Value* resize = data.find("resize"); resize && !resize->is_null() && !resizes)
    resolved["resize"] = read_resize(*resize, d.resize);
  const Value* normalize = data.find("normalize");
  resolved["normalize"] = read_normalize(normalize ? *normalize : Value(true), d.normalize);
  return d;
}

}  // namespace espalier
