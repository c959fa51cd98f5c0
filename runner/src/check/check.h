#pragma once

#include <string>
#include <vector>

#include "espalier/error.h"
#include "espalier/registry.h"

namespace espalier {

// What a check finds wrong.
class CheckFailure : public Error {
 public:
  CheckFailure(std::string wanted, std::string found)
      : Error("expected " + wanted + ", got " + found), expected(std::move(wanted)), got(std::move(found)) {}
  std::string expected, got;
};

// Why a check has nothing to say about a component.
class CheckSkipped : public Error {
 public:
  using Error::Error;
};

// Something that holds for every component of a kind.
struct Check {
  std::string kind;  // empty: of every kind
  std::string name;
  std::string doc;
  // Throws CheckFailure or CheckSkipped; what else it throws, the component threw. Returns a remark, mostly none.
  std::string (*run)(const Registered& component);
};

const std::vector<Check>& all_checks();
// Those of one kind, in order.
std::vector<const Check*> checks_of(const std::string& kind);

// For all_checks().
std::vector<Check> parameter_checks();
std::vector<Check> operation_checks();
std::vector<Check> backbone_checks();
std::vector<Check> regularizer_checks();
std::vector<Check> optimizer_checks();
std::vector<Check> controller_checks();
std::vector<Check> dataset_checks();
std::vector<Check> schedule_checks();
std::vector<Check> augmentation_checks();
std::vector<Check> loss_checks();
std::vector<Check> metric_checks();
std::vector<Check> score_checks();
std::vector<Check> cuda_checks();  // none where there is no GPU

}  // namespace espalier
