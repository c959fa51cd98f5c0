#include "output/safetensors.h"

#include <cstring>

#include <ATen/ops/empty.h>

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

}  // namespace

void save_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  Value header = Value::map();
  if (!file.metadata.empty()) {
    Value& metadata = header["__metadata__"] = Value::map();
    for (const auto& [key, text] : file.metadata) metadata[key] = text;
  }
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
  std::string content(8, '\0');
  const uint64_t size = text.size();
  std::memcpy(content.data(), &size, 8);
  content += text;
  for (const at::Tensor& t : tensors) content.append(static_cast<const char*>(t.const_data_ptr()), t.nbytes());
  write_file(path, content);
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
  const Value header = from_json(std::string_view(content).substr(8, size), path.string());
  const std::string_view data = std::string_view(content).substr(8 + size);
  TensorFile file;
  for (const Value::Entry& e : header.as_map()) {
    if (e.key == "__metadata__") {
      for (const Value::Entry& m : e.value.as_map()) file.metadata[m.key] = m.value.as_string();
      continue;
    }
    const TypeName* type = nullptr;
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
  return file;
}

}  // namespace espalier
