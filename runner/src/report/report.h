#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "store/store.h"

namespace espalier {

// The runs that paths stand for: folders of runs, of sweeps and of reproductions, and folders that hold such, however
// deep. They are read into `store`. Throws InputError where one holds no run; runs that cannot be read are passed over
// with a warning.
std::vector<StoredRun> runs_at(Store& store, const std::vector<std::filesystem::path>& paths);

// What a report says of runs, for a page or a table:
//   {made: a date, runs: [{id, folder, name, label, group, paper, section, recipe, scale, seed, status, error, metric,
//    unit, larger_is_better, test, best, metrics, measured, params, macs, base_params, base_macs, train_cost, seconds,
//    expect, description, command, machine, epochs: {COLUMN: [value]}, edits: [{stage, epoch, step, text, params, macs,
//    difference}]}],
//    groups: [{group, name, label, paper, section, recipe, scale, seeds, status, NUMBER: {mean, deviation, n}, expect:
//    [{metric, value, within, mean, deviation, n, met}]}], quoted: [{paper, section, source, rows: [{name, points}]}]}
// A group is the runs of one recipe, or of one point of its matrix, that differ in nothing but the seed; deviation is
// the sample's (n - 1), null of a single run. `met` compares the mean.
// The pictures come with it: [{paper, section, name, svg: the file's text}].
Value report_of(const std::vector<StoredRun>& runs, Store& store, const Value& pictures = Value::list());

// The pictures that `scripts/figures papers` drew of the runs in these folders: FOLDER/figures/PAPER-SECTION/NAME.svg.
Value pictures_at(const std::vector<std::filesystem::path>& paths);

// The same pictures and the tables, as TensorBoard shows them: an event file.
std::string report_events(const Value& report, const std::vector<std::filesystem::path>& paths);

// The same as a self-contained page: nothing is loaded from elsewhere.
std::string report_page(const Value& report);
// Tables in Markdown, and a line for each group as comma-separated values.
std::string report_markdown(const Value& report);
std::string report_csv(const Value& report);

}  // namespace espalier
