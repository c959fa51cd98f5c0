#include "targets.h"

#include <ATen/ops/tensor.h>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

std::string counts_of(const std::string& name) {
  return name + "_runs";
}

}  // namespace

void add_masks(NamedTensors& rows, const std::string& name, std::span<const Rle> masks) {
  std::vector<int64_t> runs, counts;
  for (const Rle& mask : masks) {
    runs.insert(runs.end(), mask.runs.begin(), mask.runs.end());
    counts.push_back(std::ssize(mask.runs));
  }
  rows.emplace_back(name, at::tensor(runs, at::kLong));
  rows.emplace_back(counts_of(name), at::tensor(counts, at::kLong));
}

std::vector<Rle> masks_of(const Batch& batch, const std::string& name, int64_t sample, int64_t height, int64_t width) {
  const at::Tensor runs = rows_of(batch.targets, name, sample, "target").contiguous();
  const at::Tensor counts = rows_of(batch.targets, counts_of(name), sample, "target").contiguous();
  const std::span<const int64_t> all(runs.const_data_ptr<int64_t>(), static_cast<size_t>(runs.numel()));
  std::vector<Rle> masks;
  size_t begin = 0;
  for (int64_t i = 0; i < counts.numel(); ++i) {
    const auto count = static_cast<size_t>(counts.const_data_ptr<int64_t>()[i]);
    if (begin + count > all.size()) throw Error("the runs of '" + name + "' are fewer than its masks need");
    masks.push_back(mask_of_runs(all.subspan(begin, count), height, width));
    begin += count;
  }
  return masks;
}

at::Tensor rows_of(const NamedTensors& tensors, const std::string& name, int64_t sample, std::string_view what) {
  return rows_of(tensor_at(tensors, name, what), tensor_at(tensors, name + offsets_suffix, what), sample);
}

at::Tensor rows_of(const at::Tensor& rows, const at::Tensor& offsets, int64_t sample) {
  const at::Tensor ends = offsets.slice(0, sample, sample + 2).cpu().contiguous();
  const auto* end = ends.const_data_ptr<int64_t>();
  return rows.slice(0, end[0], end[1]).cpu();
}

}  // namespace espalier::detection
