// The readers of everything that comes from elsewhere.
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <zlib.h>

#include "annotations.h"
#include "driver.h"
#include "espalier/datasets/cifar.h"
#include "espalier/datasets/idx.h"
#include "espalier/datasets/npz.h"
#include "espalier/datasets/table.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/registry.h"
#include "formats/tensor_files.h"
#include "plugins/builtin.h"
#include "plugins/elf_stamp.h"
#include "recipe/recipe.h"
#include "record/checkpoint.h"
#include "record/run_folder.h"
#include "system/files.h"
#include "unpack.h"

namespace espalier::fuzz {

namespace {

namespace fs = std::filesystem;

uint32_t crc(const std::string& bytes) {
  return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// The file under another name, which is what some readers go by.
fs::path renamed(const fs::path& file, const char* name) {
  const fs::path other = file.parent_path() / name;
  fs::copy_file(file, other, fs::copy_options::overwrite_existing);
  return other;
}

void recipe(const fs::path& file) {
  static const bool known = (register_builtin(Registry::instance()), true);
  static_cast<void>(known);
  for (const std::string& scale : scales_of(file)) static_cast<void>(read_recipe(file, {}, scale));
  static_cast<void>(check_recipe(read_recipe(file, {}), Registry::instance()));
}

void graph(const fs::path& file) {
  static_cast<void>(Graph::from_value(from_json(read_file(file), file.string())));
}

void history(const fs::path& file) {
  const fs::path run = file.parent_path() / "run";
  fs::create_directories(run);
  fs::copy_file(file, run / "history.jsonl", fs::copy_options::overwrite_existing);
  const RunFolder folder(run);
  static_cast<void>(folder.cut_to(folder.sizes()));
  std::istringstream lines(read_file(file));
  for (std::string line; std::getline(lines, line);) {
    const Value value = from_json(line);
    for (const Value& e : value.at("edits").as_list()) static_cast<void>(Edit::from_value(e));
  }
}

void safetensors(const fs::path& file) {
  static_cast<void>(load_tensors(renamed(file, "input.safetensors")));
}

// With the checksum of what it has become, without which nothing of it would be read.
void checkpoint(const fs::path& file) {
  std::string bytes = read_file(file);
  constexpr std::string_view before = "\"crc32\":\"";
  if (const size_t at = bytes.find(before); at != std::string::npos && at + before.size() + 8 < bytes.size()) {
    const size_t place = at + before.size();
    bytes.replace(place, 8, "00000000");
    char text[9];
    std::snprintf(text, sizeof text, "%08x", crc(bytes));
    bytes.replace(place, 8, text);
  }
  write_file(file, bytes);
  static_cast<void>(load_checkpoint(file));
}

// A zip archive that holds the files as they are.
class Zip {
 public:
  void add(const std::string& name, const std::string& content) {
    const auto offset = static_cast<uint32_t>(bytes_.size());
    const std::string about = number(20, 2) + number(0, 8) + number(crc(content), 4) + number(content.size(), 4) +
                              number(content.size(), 4) + number(name.size(), 2) + number(0, 2);
    bytes_ += "PK\3\4" + about + name + content;
    directory_ += "PK\1\2" + number(20, 2) + about + number(0, 2) + number(0, 2) + number(0, 2) + number(0, 4) +
                  number(offset, 4) + name;
    ++count_;
  }
  std::string text() const {
    return bytes_ + directory_ + "PK\5\6" + number(0, 4) + number(count_, 2) + number(count_, 2) +
           number(directory_.size(), 4) + number(bytes_.size(), 4) + number(0, 2);
  }

 private:
  static std::string number(uint64_t n, size_t bytes) {
    std::string text(bytes, '\0');
    std::memcpy(text.data(), &n, bytes);
    return text;
  }
  std::string bytes_, directory_;
  uint64_t count_ = 0;
};

void zip(const fs::path& file) {
  static_cast<void>(load_tensors(file));
}

// In an archive that is whole, with values for the names that torch.save() gives.
void pickle(const fs::path& file) {
  Zip archive;
  archive.add("x/data.pkl", read_file(file));
  for (int i = 0; i < 12; ++i) archive.add("x/data/" + std::to_string(i), std::string(256, static_cast<char>(i)));
  const fs::path whole = file.parent_path() / "input.pt";
  write_file(whole, archive.text());
  static_cast<void>(load_tensors(whole));
}

void idx(const fs::path& file) {
  static_cast<void>(read_idx(file));
}

void cifar(const fs::path& file) {
  const CifarFormat format{.classes = {10}, .pixels = 12};
  std::vector<uint8_t> images(12 * 8), labels(8);
  read_cifar(file, format, 8, images, labels);
}

void csv(const fs::path& file) {
  static_cast<void>(read_csv({file}, {}));
}

void arff(const fs::path& file) {
  static_cast<void>(read_arff({file}));
}

void libsvm(const fs::path& file) {
  static_cast<void>(read_libsvm({file}, {}));
}

void npy(const fs::path& file) {
  static_cast<void>(read_npy(read_file(file), file.string(), "the array 'x'"));
}

void npz(const fs::path& file) {
  const NpzFile arrays(file);
  for (const std::string& name : arrays.names()) static_cast<void>(arrays.read(name));
}

void elf(const fs::path& file) {
  static_cast<void>(read_stamp(file));
}

void archive(const fs::path& file) {
  const fs::path folder = file.parent_path() / "unpacked";
  fs::create_directories(folder);
  unpack_archive(file, {"train.bin", "test.bin"}, folder);
}

void instances(const fs::path& file) {
  const detection::Instances all = detection::read_instances(file);
  for (const detection::Annotation& a : all.annotations) {
    const detection::Rle mask = mask_of(a, all.images[static_cast<size_t>(a.image)]);
    static_cast<void>(box_of(mask));
    if (detection::mask_of_text(text_of(mask), mask.height, mask.width) != mask)
      throw std::logic_error("a mask is not the one that its text says");
  }
}

}  // namespace

const std::vector<Target>& targets() {
  static const std::vector<Target> all = {{"recipe", recipe},
                                          {"graph", graph},
                                          {"history", history},
                                          {"checkpoint", checkpoint},
                                          {"safetensors", safetensors},
                                          {"pickle", pickle},
                                          {"zip", zip},
                                          {"idx", idx},
                                          {"cifar", cifar},
                                          {"csv", csv},
                                          {"arff", arff},
                                          {"libsvm", libsvm},
                                          {"npy", npy},
                                          {"npz", npz},
                                          {"elf", elf},
                                          {"archive", archive},
                                          {"instances", instances}};
  return all;
}

}  // namespace espalier::fuzz
