#pragma once

#include <string>
#include <vector>

#include <espalier/controller.h>
#include <espalier/declare.h>
#include <espalier/foresight.h>

namespace espalier {

// Derives the network that a search network stands for, at the end of its stage, which is usually one without epochs:
// its backbone says which (Backbone::derive), by the options that it has. The artefact "genotype" holds the options of
// the derived network. With a table, what it says of the derived cell is measured, too.
class Derive final : public Controller, public Foresight {
 public:
  struct Options {
    std::string table;

    static void declare(Declare<Options>& p);
  };
  explicit Derive(Options options) : o_(std::move(options)) {}

  void check(const Graph& graph) const override;
  std::vector<std::string> idle(const Graph& graph, int64_t epochs) const override;
  void stage_begin(Run& run) override;
  void stage_end(Run& run) override;

 private:
  void look_up(Run& run, const Value& genotype) const;

  Options o_;
};

}  // namespace espalier
