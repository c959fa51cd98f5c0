#pragma once

#include <string>
#include <vector>

#include "espalier/dataset.h"
#include "espalier/value.h"

namespace espalier {

// What a data set was, for the run's data.json: {dataset: its spec, classes: their number, names: theirs, train:
// {samples, sha256}, test: ...}. The checksum is over all bytes and targets of data in memory; of samples that are read
// on demand over what they say of themselves (names and sizes of files) and the targets.
Value data_record(const Value& spec, const DatasetInfo& info, const Split& train, const Split& test);

// The names of the classes in a run's data.json, of the data set with this spec; none where it does not say.
std::vector<std::string> recorded_classes(const Value& records, const Value& dataset);

// How the data now differ from those of a record, a line each; empty: not at all.
std::vector<std::string> data_differences(const Value& before, const Value& now);

}  // namespace espalier
