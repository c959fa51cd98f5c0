#pragma once

#include <string>
#include <vector>

#include "data/scaling.h"
#include "espalier/dataset.h"
#include "espalier/value.h"

namespace espalier {

// What a data set was, for the run's data.json: {dataset: its spec, classes: their number, names: theirs, train:
// {samples, sha256}, test: ..., scaling: by what it was standardized}. The checksum is over all bytes and targets of
// data in memory; of samples that are read on demand over what they say of themselves (names and sizes of files) and
// the targets.
Value data_record(const Value& spec, const DatasetInfo& info, const Split& train, const Split& test);

// The names of the classes in a run's data.json, of the data set with this spec; none where it does not say.
std::vector<std::string> recorded_classes(const Value& records, const Value& dataset);

// By what its inputs and targets were standardized, as the run's data.json says; of no other.
Scalings recorded_scalings(const Value& records, const Value& dataset);

// How the data now differ from those of a record, a line each; empty: not at all.
std::vector<std::string> data_differences(const Value& before, const Value& now);

}  // namespace espalier
