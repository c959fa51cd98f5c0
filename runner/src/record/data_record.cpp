#include "record/data_record.h"

#include <string_view>

#include "espalier/datasets/checksum.h"
#include "system/text.h"

namespace espalier {

namespace {

void add_tensor(Checksum& sum, const at::Tensor& t) {
  const at::Tensor whole = t.contiguous();
  sum.add(whole.const_data_ptr(), whole.nbytes());
}

Value part_record(const Split& split) {
  Checksum sum("sha256");
  if (split.samples) {
    split.samples->identify([&](std::string_view piece) { sum.add(piece.data(), piece.size()); });
  } else {
    for (const auto& [name, x] : split.inputs) add_tensor(sum, x);
  }
  for (const auto& [name, y] : split.targets) add_tensor(sum, y);
  return Value::map({{"samples", split.size()}, {"sha256", sum.hex()}});
}

}  // namespace

Value data_record(const Value& spec, const DatasetInfo& info, const Split& train, const Split& test) {
  Value record = Value::map({{"dataset", spec},
                             {"classes", info.target.outputs},
                             {"names", info.classes},
                             {"train", part_record(train)},
                             {"test", part_record(test)}});
  if (info.target.task != task::classification) record["task"] = info.target.task;
  return record;
}

namespace {

const Value* record_of(const Value& records, const Value& dataset) {
  if (!records.is_list()) return nullptr;
  for (const Value& r : records.as_list()) {
    const Value* of = r.is_map() ? r.find("dataset") : nullptr;
    if (of && *of == dataset) return &r;
  }
  return nullptr;
}

}  // namespace

std::vector<std::string> recorded_classes(const Value& records, const Value& dataset) {
  std::vector<std::string> names;
  const Value* record = record_of(records, dataset);
  const Value* given = record ? record->find("names") : nullptr;
  if (!given) return names;
  for (const Value& name : given->as_list()) names.push_back(name.as_string());
  return names;
}

Scalings recorded_scalings(const Value& records, const Value& dataset) {
  const Value* record = record_of(records, dataset);
  const Value* given = record ? record->find("scaling") : nullptr;
  return given ? scalings_from(*given) : Scalings();
}

std::vector<std::string> data_differences(const Value& before, const Value& now) {
  std::vector<std::string> found;
  for (const char* key : {"classes", "names"}) {
    // Runs before there were names in it have none of a data set that learns them from its folders.
    if (key == std::string("names") && (before.at(key).size() == 0 || now.at(key).size() == 0)) continue;
    if (!(before.at(key) == now.at(key)))
      found.push_back(std::string(key) + ": " + to_json(before.at(key)) + " before, " + to_json(now.at(key)) + " now");
  }
  for (const char* part : {"train", "test"}) {
    const Value& a = before.at(part);
    const Value& b = now.at(part);
    if (a == b) continue;
    const int64_t n = a.at("samples").as_int(), m = b.at("samples").as_int();
    found.push_back(std::string(part) + ": " +
                    (n == m ? count_text(n) + " samples as before, but others"
                            : count_text(n) + " samples before, " + count_text(m) + " now"));
  }
  return found;
}

}  // namespace espalier
