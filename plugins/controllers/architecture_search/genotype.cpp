#include "genotype.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "cells.h"

namespace espalier {

namespace {

// "normal: sep_conv_3x3<-0, skip_connect<-1"; empty of what is neither a text nor a list of texts.
std::string in_words(const Value::Entry& entry) {
  std::string words;
  if (entry.value.is_string()) words = entry.value.as_string();
  if (entry.value.is_list()) {
    for (const Value& item : entry.value.as_list()) {
      if (item.is_string()) words.append(words.empty() ? "" : ", ").append(item.as_string());
    }
  }
  return words.empty() ? "" : entry.key + ": " + words;
}

}  // namespace

std::optional<double> skip_ratio(const Value& genotype) {
  const std::vector<std::string> operations = operations_of(genotype);
  if (operations.empty()) return std::nullopt;
  const auto skips = std::ranges::count(operations, "skip_connect");
  return static_cast<double>(skips) / static_cast<double>(operations.size());
}

void give_skip_ratios(Run& run, const Value& genotype) {
  const std::optional<double> whole = skip_ratio(genotype);
  if (!whole) return;
  run.metric("skip_ratio", *whole);
  std::vector<std::pair<std::string, double>> cells;
  for (const Value::Entry& entry : genotype.as_map()) {
    if (const std::optional<double> ratio = skip_ratio(entry.value)) cells.emplace_back(entry.key, *ratio);
  }
  for (const auto& [key, ratio] : cells) {
    if (cells.size() > 1) run.metric("skip_ratio." + key, ratio);
  }
}

void publish_genotype(Run& run, const Value& genotype) {
  for (const Value::Entry& entry : genotype.as_map()) {
    if (const std::string words = in_words(entry); !words.empty()) run.note("derived " + words);
  }
  if (const std::optional<double> ratio = skip_ratio(genotype))
    run.note(percent(*ratio) + " of the derived operations are skip_connect");
  run.publish("genotype", {.value = genotype});
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

}  // namespace espalier
