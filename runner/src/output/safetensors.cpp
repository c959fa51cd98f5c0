#include "output/safetensors.h"

#include <cstdio>
#include <cstring>

#include <ATen/ops/empty.h>
#include <zlib.h>

#include "espalier/error.h"
#include "espalier/value.h"
#include "output/files.h"

namespace espalier {

namespace {

struct TypeName {
  at::ScalarType type;
  const char* name;
};
constexpr TypeName types[] = {{at::kFloat, "F32"}, {at::kDouble, "F64"}, {at::kBFloat16, "BF16"}, {at::kHalf, "F16"},
                              {at::kLong, "I64"},  {at::kInt, "I32"},    {at::kByte, "U8"},       {at::kBool, "BOOL"}};

// The CRC-32 of the whole file with eight zeros in this place, among the metadata: the format has none of its own.
constexpr const char* checksum_key = "crc32";
constexpr const char* no_checksum = "00000000";

size_t checksum_place(std::string_view header) {
  constexpr std::string_view before = "\"crc32\":\"";
  const size_t at = header.find(before);
  return at == std::string_view::npos || at + before.size() + 9 > header.size() ? std::string_view::npos
                                                                                : at + before.size();
}

void put_checksum(std::string& start, uLong sum) {
  char text[9];
  std::snprintf(text, sizeof text, "%08lx", sum);
  start.replace(checksum_place(start), 8, text);
}

}  // namespace

void save_safetensors(const std::filesystem::path& path, const TensorFile& file, const std::filesystem::path& keep) {
  Value header = Value::map();
  Value& metadata = header["__metadata__"] =
      Value::map({{checksum_key, no_checksum}});  // first: put_checksum() finds it
  for (const auto& [key, text] : file.metadata) metadata[key] = text;
  std::vector<at::Tensor> tensors;
  int64_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    tensors.push_back(tensor.detach().to(at::kCPU).contiguous());
    const auto bytes = static_cast<int64_t>(tensors.back().nbytes());
    const char* type = nullptr;
    for (const TypeName& t : types) {
      if (t.type == tensor.scalar_type()) type = t.name;
    }
    if (!type) throw Error("safetensors: no such type for the tensor '" + name + "'");
    header[name] = Value::map({{"dtype", type},
                               {"shape", tensor.sizes().vec()},
                               {"data_offsets", Value(std::vector<int64_t>{offset, offset + bytes})}});
    offset += bytes;
  }
  std::string text = to_json(header);
  text.append((8 - text.size() % 8) % 8, ' ');  // the values start aligned
  const uint64_t size = text.size();
  std::string start(8, '\0');
  std::memcpy(start.data(), &size, 8);
  start += text;
  uLong sum = crc32_z(0, reinterpret_cast<const Bytef*>(start.data()), start.size());
  for (const at::Tensor& t : tensors) sum = crc32_z(sum, static_cast<const Bytef*>(t.const_data_ptr()), t.nbytes());
  put_checksum(start, sum);
  AtomicFile out(path);
  out.write(start);
  for (const at::Tensor& t : tensors) out.write({static_cast<const char*>(t.const_data_ptr()), t.nbytes()});
  out.commit(keep);
}

TensorFile load_safetensors(const std::filesystem::path& path) {
  const std::string content = read_file(path);
  const auto bad = [&](const std::string& why) {
    return InputError(path.string(), "not a valid safetensors file: " + why);
  };
  uint64_t size = 0;
  if (content.size() < 8) throw bad("it is shorter than its header");
  std::memcpy(&size, content.data(), 8);
  if (size > content.size() - 8) throw bad("it is shorter than its header");
  const std::string_view data = std::string_view(content).substr(8 + size);
  TensorFile file;
  std::string start = content.substr(0, 8 + size);
  // The checksum before anything else: of a damaged header nothing can be said.
  if (const size_t place = checksum_place(start); place != std::string::npos) {
    const std::string said = start.substr(place, 8);
    start.replace(place, 8, no_checksum);
    const uLong sum = crc32_z(0, reinterpret_cast<const Bytef*>(start.data()), start.size());
    put_checksum(start, crc32_z(sum, reinterpret_cast<const Bytef*>(data.data()), data.size()));
    if (start.compare(place, 8, said) != 0) {
      throw bad("its checksum is " + start.substr(place, 8) + ", not " + said +
                " as it says: bytes were changed after it was written");
    }
    file.checked = true;
  }
  const Value header = from_json(std::string_view(content).substr(8, size), path.string());
  for (const Value::Entry& e : header.as_map()) {
    if (e.key == "__metadata__") {
      for (const Value::Entry& m : e.value.as_map()) file.metadata[m.key] = m.value.as_string();
      continue;
    }
    const TypeName* type = nullptr;
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (!e.value.is_map() || !e.value.find(key)) throw bad("tensor '" + e.key + "' has no '" + key + "'");
    }
    for (const TypeName& t : types) {
      if (e.value.at("dtype").as_string() == t.name) type = &t;
    }
    if (!type) throw bad("tensor '" + e.key + "' has the unknown type " + e.value.at("dtype").describe());
    std::vector<int64_t> shape;
    uint64_t bytes = at::elementSize(type->type);
    for (const Value& n : e.value.at("shape").as_list()) {
      shape.push_back(n.as_int());
      if (shape.back() < 0 || (shape.back() > 0 && bytes > data.size() / static_cast<uint64_t>(shape.back())))
        throw bad("tensor '" + e.key + "' is larger than the file");
      bytes *= static_cast<uint64_t>(shape.back());
    }
    const Value& offsets = e.value.at("data_offsets");
    if (offsets.size() != 2) throw bad("tensor '" + e.key + "' has no offsets");
    const auto begin = static_cast<uint64_t>(offsets.as_list()[0].as_int());
    const auto end = static_cast<uint64_t>(offsets.as_list()[1].as_int());
    if (begin > end || end > data.size() || end - begin != bytes)
      throw bad("tensor '" + e.key + "' lies outside the file or has another size than its shape");
    at::Tensor t = at::empty(shape, type->type);
    std::memcpy(t.mutable_data_ptr(), data.data() + begin, bytes);
    file.tensors.emplace_back(e.key, std::move(t));
  }
  file.metadata.erase(checksum_key);
  return file;
}

}  // namespace espalier
