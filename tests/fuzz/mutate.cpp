// Damages as files suffer them and as attackers make them: bits, bytes, numbers, cuts, repetitions, mixtures.
#include <algorithm>
#include <cstring>

#include "driver.h"
#include "espalier/random.h"

namespace espalier::fuzz {

namespace {

class Draws {
 public:
  explicit Draws(RandomKey key) : key_(key) {}
  uint64_t next() { return key_.with(count_++).value(); }
  // 0 <= n < end
  size_t below(size_t end) { return end == 0 ? 0 : static_cast<size_t>(next() % end); }

 private:
  RandomKey key_;
  uint64_t count_ = 0;
};

// Numbers at which arithmetic breaks, of 1, 2, 4 or 8 bytes.
void write_number(std::string& bytes, Draws& draw) {
  static const int64_t numbers[] = {
      0,         1,         -1,        2,     127,       128,       255,        256,
      32767,     32768,     65535,     65536, INT32_MAX, INT32_MIN, UINT32_MAX, int64_t{1} << 32,
      INT64_MAX, INT64_MIN, 1000000007};
  uint64_t n = static_cast<uint64_t>(numbers[draw.below(std::size(numbers))]) + draw.below(3) - 1;
  const size_t size = size_t{1} << draw.below(4);
  if (bytes.size() < size) return;
  if (draw.below(2)) n = __builtin_bswap64(n) >> (64 - 8 * size);  // big-endian
  std::memcpy(bytes.data() + draw.below(bytes.size() - size + 1), &n, size);
}

// A number that stands in the text becomes another.
void write_digits(std::string& bytes, Draws& draw) {
  static const char* numbers[] = {
      "0",    "-1",   "1e999", "nan", "2147483648", "9223372036854775807", "99999999999999999999", "1.5", "-1e308",
      "null", "true", "\"\"",  "[]",  "{}"};
  const size_t from = draw.below(bytes.size());
  const size_t at = bytes.find_first_of("0123456789", from);
  if (at == std::string::npos) return;
  const size_t end = std::min(bytes.find_first_not_of("0123456789.", at), bytes.size());
  bytes.replace(at, end - at, numbers[draw.below(std::size(numbers))]);
}

void damage(std::string& bytes, const std::vector<std::string>& corpus, Draws& draw) {
  const size_t size = bytes.size();
  const size_t at = draw.below(size), length = std::min(size - at, size_t{1} << draw.below(10));
  switch (draw.below(10)) {
    case 0:
      if (size > 0) bytes[at] = static_cast<char>(bytes[at] ^ (1 << draw.below(8)));
      break;
    case 1:
      if (size > 0) bytes[at] = static_cast<char>(draw.next());
      break;
    case 2:
      write_number(bytes, draw);
      break;
    case 3:
      if (size > 0) write_digits(bytes, draw);
      break;
    case 4:
      bytes.erase(at, length);
      break;
    case 5:
      bytes.insert(at, bytes.substr(draw.below(size), length));
      break;
    case 6:
      bytes.resize(at);
      break;
    case 7:
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), length, draw.below(2) ? '\0' : '\xff');
      break;
    case 8: {
      const std::string& other = corpus[draw.below(corpus.size())];
      bytes.insert(at, other.substr(draw.below(other.size()), length));
      break;
    }
    default:
      if (at + length <= size && length > 1) std::swap(bytes[at], bytes[at + length - 1]);
      break;
  }
}

}  // namespace

std::string mutated(const std::vector<std::string>& corpus, uint64_t seed, uint64_t number) {
  Draws draw(RandomKey(seed).with(number));
  std::string bytes = corpus[draw.below(corpus.size())];
  for (size_t i = draw.below(6) + 1; i > 0; --i) damage(bytes, corpus, draw);
  return bytes;
}

}  // namespace espalier::fuzz
