#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "formats/zip_files.h"

namespace espalier {

// What an opcode of the pickle made. `other`: a value of no interest here (None, a number with a point, one beyond 64
// bits). `object`: of a class or a function that is not known here, which `text` names.
struct PickleItem {
  enum class Kind { other, mark, integer, text, global, list, dict, storage, tensor, object };
  Kind kind = Kind::other;
  int64_t integer = 0;
  std::string text;
  std::vector<PickleItem*> items;  // of a list or tuple; of a dict: key, value, key, value ...
  at::Tensor tensor;               // of a storage: all of its values
};

// Reads the pickle of a file that torch.save() wrote, as data: nothing in it is called or imported. Returns what it
// holds; `all` owns that and everything in it. Throws Error without the file's name.
const PickleItem& read_pickle(const ZipFiles& archive, std::deque<PickleItem>& all);

}  // namespace espalier
