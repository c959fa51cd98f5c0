#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// The arrays of a file that numpy.savez or numpy.savez_compressed wrote. Every function throws InputError that names
// the file.
class NpzFile {
 public:
  explicit NpzFile(const std::filesystem::path& file);
  ~NpzFile();

  const std::filesystem::path& file() const { return file_; }
  // The names of the arrays, without ".npy".
  const std::vector<std::string>& names() const { return names_; }
  // One array, dense, of its own type: bool, uint8, int8 to int64, float16 to float64; little endian, in C or Fortran
  // order. The size must be that of the header, and the checksum that of the archive.
  at::Tensor read(const std::string& name) const;

 private:
  std::filesystem::path file_;
  std::vector<std::string> names_;
};

// The array of the bytes of an .npy file (versions 1 to 3 of the format). `what` begins the messages of the InputErrors
// at `where`: "the array 'x'".
at::Tensor read_npy(const std::string& bytes, const std::string& where, const std::string& what);

}  // namespace espalier
