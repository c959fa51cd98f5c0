#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <espalier/error.h>

#include "../../tests/temp_folder.h"

// Small files of data sets, right and wrong ones, for the tests here and those of the plugins.
namespace espalier::samples {

using Bytes = std::vector<uint8_t>;

using Folder = TempFolder;

// A variable of the environment, put back at the end.
class Variable {
 public:
  Variable(const std::string& name, const std::optional<std::string>& value) : name_(name) {
    if (const char* old = std::getenv(name.c_str())) old_ = old;
    set(value);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { set(old_); }

 private:
  void set(const std::optional<std::string>& value) {
    if (value)
      setenv(name_.c_str(), value->c_str(), 1);
    else
      unsetenv(name_.c_str());
  }
  std::string name_;
  std::optional<std::string> old_;
};

inline std::filesystem::path write(const std::filesystem::path& file, const Bytes& bytes) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return file;
}

inline Bytes read(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline Bytes gzip(const Bytes& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  Bytes packed(deflateBound(&stream, bytes.size()));
  stream.next_in = const_cast<uint8_t*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = packed.data();
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

inline Bytes idx_header(const std::vector<int64_t>& sizes, int type = 8) {
  Bytes bytes = {0, 0, static_cast<uint8_t>(type), static_cast<uint8_t>(sizes.size())};
  for (const int64_t s : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(s >> shift));
  }
  return bytes;
}

// With the bytes 0, 1, ..., 250, 0, ...: a prime number of them, so that no row is like another.
inline Bytes idx(const std::vector<int64_t>& sizes, int modulus = 251) {
  Bytes bytes = idx_header(sizes);
  int64_t n = 1;
  for (const int64_t s : sizes) n *= s;
  for (int64_t i = 0; i < n; ++i) bytes.push_back(static_cast<uint8_t>(i % modulus));
  return bytes;
}

// Records of label bytes, each counting up to its number of classes, and pixels that count up to 250.
inline Bytes cifar(int64_t records, const std::vector<int64_t>& classes, int64_t pixels = 3072) {
  Bytes bytes;
  bytes.reserve(static_cast<size_t>(records * (pixels + static_cast<int64_t>(classes.size()))));
  for (int64_t r = 0; r < records; ++r) {
    for (const int64_t c : classes) bytes.push_back(static_cast<uint8_t>(r % c));
    for (int64_t p = 0; p < pixels; ++p) bytes.push_back(static_cast<uint8_t>((r + p) % 251));
  }
  return bytes;
}

// The data folder of this machine that holds such a sub-folder, empty where there is none: real data are tested where
// they lie.
inline std::filesystem::path data_folder_with(const std::string& sub_folder) {
  std::vector<std::filesystem::path> folders;
  if (const char* list = std::getenv("ESPALIER_DATA")) {
    std::istringstream in(list);
    for (std::string folder; std::getline(in, folder, ':');) folders.emplace_back(folder);
  }
  if (const char* home = std::getenv("HOME")) folders.push_back(std::filesystem::path(home) / ".cache/espalier/data");
  folders.emplace_back("/usr/share/datasets");
  for (const std::filesystem::path& folder : folders) {
    if (std::filesystem::exists(folder / sub_folder)) return folder;
  }
  return {};
}

// The message of the InputError that `body` must throw.
inline std::string input_error(const std::function<void()>& body) {
  try {
    body();
  } catch (const InputError& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "not an InputError: " << e.what();
    return {};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace espalier::samples
