#include "formats/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <ATen/ops/empty.h>
#include <zlib.h>

#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/value.h"
#include "system/files.h"

namespace espalier {

namespace {

struct TypeName {
  at::ScalarType type;
  const char* name;
};
constexpr TypeName types[] = {{at::kFloat, "F32"},
                              {at::kDouble, "F64"},
                              {at::kBFloat16, "BF16"},
                              {at::kHalf, "F16"},
                              {at::kLong, "I64"},
                              {at::kInt, "I32"},
                              {at::kShort, "I16"},
                              {at::kChar, "I8"},
                              {at::kUInt64, "U64"},
                              {at::kUInt32, "U32"},
                              {at::kUInt16, "U16"},
                              {at::kByte, "U8"},
                              {at::kBool, "BOOL"},
                              {at::kFloat8_e4m3fn, "F8_E4M3"},
                              {at::kFloat8_e5m2, "F8_E5M2"},
                              {at::kFloat8_e8m0fnu, "F8_E8M0"},
                              {at::kComplexFloat, "C64"}};

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
  for (const at::Tensor& t : tensors) {
    // Where there is no memory, as of a tensor without elements, crc32_z() would begin anew.
    if (t.nbytes() > 0) sum = crc32_z(sum, static_cast<const Bytef*>(t.const_data_ptr()), t.nbytes());
  }
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
  const Value header = [&] {
    try {
      return from_json(std::string_view(content).substr(8, size), path.string());
    } catch (const InputError& e) {
      throw bad("its header is " + std::string(e.what()).substr(path.string().size() + 2));
    }
  }();
  if (!header.is_map()) throw bad("its header is no map");
  // What of the values tensors have: all of them, and none twice.
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  for (const Value::Entry& e : header.as_map()) {
    const auto wrong = [&](const std::string& why) { return bad("tensor '" + e.key + "' " + why); };
    if (e.key == "__metadata__") {
      if (!e.value.is_map()) throw bad("its metadata are no map");
      for (const Value::Entry& m : e.value.as_map()) {
        if (!m.value.is_string()) throw bad("its metadata '" + m.key + "' are no text");
        file.metadata[m.key] = m.value.as_string();
      }
      continue;
    }
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (!e.value.is_map() || !e.value.find(key)) throw wrong(std::string("has no '") + key + "'");
    }
    const Value& name = e.value.at("dtype");
    const TypeName* type = nullptr;
    for (const TypeName& t : types) {
      if (name.is_string() && name.as_string() == t.name) type = &t;
    }
    const Value& offsets = e.value.at("data_offsets");
    if (!offsets.is_list() || offsets.size() != 2) throw wrong("has no two offsets");
    const auto count = [&](const Value& v, const char* what) {
      if (!v.is(Value::Kind::integer) || v.as_int() < 0)
        throw wrong(std::string("has the ") + what + " " + v.describe());
      return static_cast<uint64_t>(v.as_int());
    };
    const uint64_t begin = count(offsets.as_list()[0], "offset"), end = count(offsets.as_list()[1], "offset");
    if (begin > end || end > data.size()) throw wrong("lies outside the file");
    taken.emplace_back(begin, end);
    if (!type) {  // of a newer PyTorch, or of none
      file.left.push_back(e.key + " (" + (name.is_string() ? name.as_string() : name.describe()) + ")");
      continue;
    }
    if (!e.value.at("shape").is_list()) throw wrong("has a shape that is no list");
    std::vector<int64_t> shape;
    // The bytes as if no dimension were 0: sizes that PyTorch can count.
    uint64_t bytes = at::elementSize(type->type);
    bool empty = false;
    for (const Value& n : e.value.at("shape").as_list()) {
      const uint64_t length = count(n, "size");
      shape.push_back(static_cast<int64_t>(length));
      empty = empty || length == 0;
      if (length > 0 && bytes > static_cast<uint64_t>(INT64_MAX) / length) throw wrong("is larger than any memory");
      bytes *= std::max<uint64_t>(length, 1);
    }
    if (empty) bytes = 0;
    if (end - begin != bytes) {
      throw wrong("has " + std::to_string(end - begin) + " bytes, and its shape " + to_string(shape) + " of " +
                  type->name + " needs " + std::to_string(bytes));
    }
    at::Tensor t = at::empty(shape, type->type);
    std::memcpy(t.mutable_data_ptr(), data.data() + begin, bytes);
    file.tensors.emplace_back(e.key, std::move(t));
  }
  std::ranges::sort(taken);
  uint64_t next = 0;
  for (const auto& [begin, end] : taken) {
    if (begin < next) throw bad("two tensors have the same bytes, from " + std::to_string(begin) + " on");
    if (begin > next)
      throw bad("no tensor has its bytes from " + std::to_string(next) + " to " + std::to_string(begin));
    next = end;
  }
  if (next != data.size()) throw bad("no tensor has its last " + std::to_string(data.size() - next) + " bytes");
  file.metadata.erase(checksum_key);
  return file;
}

}  // namespace espalier
