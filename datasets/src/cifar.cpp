#include "espalier/datasets/cifar.h"

#include <algorithm>
#include <cstring>

#include "content_reader.h"
#include "espalier/error.h"
#include "text.h"

namespace espalier {

void read_cifar(const std::filesystem::path& file, const CifarFormat& format, int64_t records,
                std::span<uint8_t> images, std::span<uint8_t> labels) {
  const auto label_bytes = static_cast<int64_t>(format.classes.size());
  if (static_cast<int64_t>(images.size()) != records * format.pixels ||
      static_cast<int64_t>(labels.size()) != records * label_bytes) {
    throw Error("read_cifar: images or labels do not have room for the records");
  }
  ContentReader content(file, ContentReader::Unpack::nothing);
  const int64_t size = content.file_size();
  const std::string expected = "expected " + grouped(records) + " records of " + grouped(format.record()) + " bytes, " +
                               grouped(records * format.record());
  if (size % format.record() != 0) {
    throw InputError(file.string(),
                     "holds " + grouped(size) + " bytes, which is no whole number of records; " + expected);
  }
  if (size / format.record() != records) {
    throw InputError(file.string(), "holds " + grouped(size / format.record()) + " records (" + grouped(size) +
                                        " bytes); " + expected);
  }

  // Some records at a time: what is read is still in the processor's cache when it is taken apart.
  const int64_t at_once = 64;
  std::vector<uint8_t> buffer(static_cast<size_t>(at_once * format.record()));
  for (int64_t first = 0; first < records; first += at_once) {
    const int64_t n = std::min(at_once, records - first);
    const auto bytes = static_cast<size_t>(n * format.record());
    if (content.read(buffer.data(), bytes) < bytes) throw InputError(file.string(), "became shorter while it was read");
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* record = buffer.data() + i * format.record();
      for (int64_t l = 0; l < label_bytes; ++l) {
        if (record[l] < format.classes[static_cast<size_t>(l)]) continue;
        throw InputError(file.string(),
                         "record " + grouped(first + i) + " (counted from 0) has the label " +
                             std::to_string(record[l]) + (label_bytes > 1 ? " in byte " + std::to_string(l) : "") +
                             "; expected 0 to " + std::to_string(format.classes[static_cast<size_t>(l)] - 1));
      }
      std::memcpy(labels.data() + (first + i) * label_bytes, record, static_cast<size_t>(label_bytes));
      std::memcpy(images.data() + (first + i) * format.pixels, record + label_bytes,
                  static_cast<size_t>(format.pixels));
    }
  }
}

}  // namespace espalier
