#pragma once

#include <cstdint>
#include <string_view>

#include "espalier/host_device.h"

namespace espalier {

// The key of counter-based randomness. Every draw is a pure function of a key and an index, so no generator has a state
// to save, results do not depend on threads or on the device, and a run can be taken up anywhere. A key is derived from
// the seed of the run, step by step: RandomKey(seed).with("augment").with(stage).with(epoch).with(sample).
class RandomKey {
 public:
  // Makes the key of the seed 0.
  constexpr RandomKey() : RandomKey(0) {}
  // Makes the key of a seed.
  explicit constexpr RandomKey(uint64_t seed) : value_(mix(seed + 0x9e3779b97f4a7c15ULL)) {}

  // Returns a key that is derived from this one and a number.
  constexpr ESPALIER_HD RandomKey with(uint64_t field) const {
    RandomKey k = *this;
    k.value_ = mix(value_ ^ mix(field + 0x9e3779b97f4a7c15ULL)) + 0x632be59bd9b4e019ULL;
    return k;
  }
  // Returns a key that is derived from this one and a purpose.
  constexpr RandomKey with(std::string_view purpose) const {
    uint64_t h = 0xcbf29ce484222325ULL;  // FNV-1a
    for (const char c : purpose) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return with(h);
  }
  // Returns the key as 64 bits, for philox().
  constexpr ESPALIER_HD uint64_t value() const { return value_; }

 private:
  // The finalizer of SplitMix64.
  static constexpr ESPALIER_HD uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  uint64_t value_ = 0;
};

// Four random words.
struct Random4 {
  uint32_t v[4];  // independent, each uniform over all 32-bit words
};

// Returns the four words of a counter by Philox4x32-10 (Salmon et al. 2011).
constexpr ESPALIER_HD Random4 philox(uint64_t key, uint64_t counter) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1), c3 = static_cast<uint32_t>(p0), c0 = n0, c2 = n2;
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// Returns a number that is uniform in [0, 1), of 24 bits.
constexpr ESPALIER_HD float unit_float(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24F;
}
// Returns a number that is uniform in [0, 1), of 53 bits, from two words.
constexpr ESPALIER_HD double unit_double(uint32_t high, uint32_t low) {
  return static_cast<double>((static_cast<uint64_t>(high) << 21) ^ (low >> 11)) * 0x1p-53;
}
// Returns an integer that is uniform in [0, n) (multiply-shift; the bias is below n / 2^32).
constexpr ESPALIER_HD uint32_t below(uint32_t bits, uint32_t n) {
  return static_cast<uint32_t>((uint64_t{bits} * n) >> 32);
}

}  // namespace espalier
