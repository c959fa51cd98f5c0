#include "check/check.h"

namespace espalier {

const std::vector<Check>& all_checks() {
  static const std::vector<Check> checks = [] {
    std::vector<Check> all;
    for (auto* part : {parameter_checks, operation_checks, backbone_checks, regularizer_checks, optimizer_checks,
                       controller_checks, dataset_checks, schedule_checks, augmentation_checks, loss_checks,
                       metric_checks, score_checks, cuda_checks}) {
      for (Check& c : part()) all.push_back(std::move(c));
    }
    return all;
  }();
  return checks;
}

std::vector<const Check*> checks_of(const std::string& kind) {
  std::vector<const Check*> result;
  for (const Check& c : all_checks()) {
    if (c.kind.empty() || c.kind == kind) result.push_back(&c);
  }
  return result;
}

}  // namespace espalier
