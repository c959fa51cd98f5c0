#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <espalier/dataset.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

#include "sample_files.h"

// What the tests of data sets of tables share.
namespace espalier::samples {

inline std::unique_ptr<Dataset> table(const Value& spec) {
  return Registry::instance().create<Dataset>(spec);
}

// The numbers of a tensor, row by row.
inline std::vector<double> numbers(const at::Tensor& x) {
  const at::Tensor d = x.to(at::kDouble).contiguous();
  return {d.const_data_ptr<double>(), d.const_data_ptr<double>() + d.numel()};
}

// The message of the Error that options are refused with.
inline std::string option_error(const Value& spec) {
  try {
    table(spec);
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace espalier::samples
