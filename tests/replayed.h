#pragma once

#include <filesystem>

#include <gtest/gtest.h>

#include "espalier/edit.h"
#include "espalier/graph.h"
#include "run_files.h"
#include "system/files.h"

namespace espalier {

// The edits that a run wrote down, carried out again on the network that it began with, give the one that it ended
// with.
inline void expect_replays(const std::filesystem::path& run, Graph first) {
  for (const Value& line : lines_of(run / "history.jsonl")) {
    Edits edits;
    for (const Value& e : line.at("edits").as_list()) edits.push_back(Edit::from_value(e));
    apply(first, {}, edits);
  }
  const Graph end = Graph::from_value(from_json(read_file(run / "graph.json")));
  EXPECT_EQ(to_json(first.to_value()), to_json(end.to_value()));
}

}  // namespace espalier
