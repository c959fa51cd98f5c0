#include "derive.h"

#include <algorithm>

#include <espalier/error.h>
#include <espalier/run.h>

#include "cell_table.h"
#include "genotype.h"

namespace espalier {

void Derive::Options::declare(Declare<Options>& p) {
  p("table", &Options::table, path(),
    "Table of published accuracies of NAS-Bench-201 cells: a CSV file with the columns ArchitectureString and "
    "accuracies in percent, or a folder with nats_bench.csv in it, which is also looked for in the data folders. "
    "Measured are the accuracies of the derived cell, and the mean and standard deviation over all cells that are the "
    "same function.");
}

void Derive::check(const Graph& graph) const {
  const auto is_architecture = [](const Parameter& p) { return p.role == Role::architecture; };
  if (std::ranges::none_of(graph.parameters(), is_architecture)) {
    throw Error(
        "there is nothing to derive: the network has no architecture parameters. Search networks have them "
        "(darts_search, nasbench201_search); the stage before or `network: {use: NAME, from: RUN}` trains them");
  }
}

std::vector<std::string> Derive::idle(const Graph&, int64_t) const {
  if (o_.table.empty()) return {};
  try {
    find_cell_table(o_.table);
  } catch (const Error& e) {
    return {std::string("the 'table' is not there yet, and the stage will end with this error: ") + e.what()};
  }
  return {};
}

void Derive::stage_begin(Run& run) {
  check(run.graph());
  run.derive();  // throws if the backbone derives nothing
  if (!o_.table.empty()) find_cell_table(o_.table);
}

void Derive::stage_end(Run& run) {
  const Value genotype = run.derive();
  publish_genotype(run, genotype);
  give_skip_ratios(run, genotype);
  if (!o_.table.empty()) look_up(run, genotype);
}

void Derive::look_up(Run& run, const Value& genotype) const {
  const Value* cell = genotype.find("cell");
  if (!cell || !cell->is_string()) {
    throw Error(
        "'table' belongs to cells of NAS-Bench-201 (nasbench201_search), and the derived network has no option 'cell': "
        "leave 'table' out");
  }
  const CellTable::Found found = CellTable(find_cell_table(o_.table)).find(cell->as_string());
  run.metric("equal_cells", static_cast<double>(found.equal));
  for (const CellTable::Accuracy& a : found.accuracies) {
    run.metric(a.column, a.own);
    run.metric(a.column + "_mean", a.mean);
    run.metric(a.column + "_deviation", a.deviation);
  }
}

}  // namespace espalier
