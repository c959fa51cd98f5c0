#include "kernels/channel_kernels.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "espalier/isa.h"

namespace espalier {

using channel_moves::Into;
using channel_moves::lanes;
using channel_moves::Move;

namespace {

using Vector __attribute__((vector_size(lanes * sizeof(float)))) = float;
using Places __attribute__((vector_size(lanes * sizeof(int32_t)))) = int32_t;

// AVX-512 moves numbers of two vectors into any order by one instruction. Without it, that takes more than moving them
// one by one.
bool has_moves() {
  return isa() == Isa::v4;
}

// The moves that make vectors of `to` channels. from(c): part and place of the source of a channel, or part -1 for
// zero. A vector of a source begins at a multiple of the lanes, or so that it ends with the last channel; where the
// part has fewer channels than lanes, that is before its first one.
template <class From>
std::vector<Into> moves_into(int64_t to, const std::vector<int64_t>& counts, const From& from) {
  std::vector<Into> all;
  for (int64_t first = 0; first + lanes <= to; first += lanes) {
    Into into{.first = first, .moves = {}};
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const auto [part, place] = from(first + lane);
      if (part < 0) continue;
      const int64_t offset = std::min(place / lanes * lanes, counts[static_cast<size_t>(part)] - lanes);
      auto move = std::ranges::find_if(
          into.moves, [part = part, offset](const Move& m) { return m.part == part && m.offset == offset; });
      if (move == into.moves.end()) {
        Move keeps{.part = part, .offset = offset, .place = {}};
        for (int32_t i = 0; i < lanes; ++i) keeps.place[static_cast<size_t>(i)] = i;
        move = into.moves.insert(into.moves.end(), keeps);
      }
      move->place[static_cast<size_t>(lane)] = static_cast<int32_t>(lanes + place - offset);
    }
    all.push_back(std::move(into));
  }
  return all;
}

// Lane i of the result is lane places[i] of `a`, or lane places[i] - lanes of the vector at b.
inline void move(Vector& a, const float* b, const Move& m) {
  Vector other;
  Places places;
  std::memcpy(&other, b, sizeof other);
  std::memcpy(&places, m.place.data(), sizeof places);
#ifdef __clang__
  Vector moved;
  for (int64_t i = 0; i < lanes; ++i) moved[i] = places[i] < lanes ? a[places[i]] : other[places[i] - lanes];
  a = moved;
#else
  a = __builtin_shuffle(a, other, places);
#endif
}

}  // namespace

ChannelJoin::ChannelJoin(std::vector<int64_t> counts, std::vector<int32_t> source, std::vector<float> shift)
    : counts_(std::move(counts)), source_(std::move(source)), shift_(std::move(shift)) {
  if (!has_moves()) return;
  vectors_ = moves_into(std::ssize(source_), counts_, [&](int64_t c) -> std::pair<int64_t, int64_t> {
    int64_t place = source_[static_cast<size_t>(c)];
    for (size_t part = 0; part < counts_.size(); ++part) {
      if (place < counts_[part]) return {static_cast<int64_t>(part), place};
      place -= counts_[part];
    }
    return {-1, 0};
  });
}

void ChannelJoin::operator()(const std::vector<ChannelPart>& parts, int64_t pixels, float* to) const {
  if (vectors_.empty()) return one_by_one(parts, 0, pixels, to);
  // The first pixels, where a vector would begin before the memory.
  int64_t begin = 0;
  for (const ChannelPart& p : parts) {
    const int64_t missing = lanes - p.count - p.before;
    if (missing > 0) begin = std::max(begin, (missing + p.count - 1) / p.count);
  }
  begin = std::min(begin, pixels);
  one_by_one(parts, 0, begin, to);
  const auto channels = std::ssize(source_);
  const int64_t whole = channels / lanes * lanes;
  const ChannelPart* part = parts.data();
  const Into* const first = vectors_.data();
  const Into* const last = first + vectors_.size();
  const float* shift = shift_.data();
  with_isa([=] {
    for (const Into* into = first; into != last; ++into) {
      Vector h;
      std::memcpy(&h, shift + into->first, sizeof h);
      const Move* const moves = into->moves.data();
      const size_t count = into->moves.size();
      for (int64_t n = begin; n < pixels; ++n) {
        Vector v{};
        for (size_t m = 0; m < count; ++m) {
          const ChannelPart& p = part[moves[m].part];
          move(v, p.data + n * p.count + moves[m].offset, moves[m]);
        }
        v += h;
        std::memcpy(to + n * channels + into->first, &v, sizeof v);
      }
    }
  });
  if (whole == channels) return;
  // The channels behind the last whole vector.
  for (int64_t c = whole; c < channels; ++c) {
    int64_t place = source_[static_cast<size_t>(c)];
    size_t of = 0;
    while (of < parts.size() && place >= parts[of].count) place -= parts[of++].count;
    for (int64_t n = begin; n < pixels; ++n) {
      const float x = of < parts.size() ? parts[of].data[n * parts[of].count + place] : 0.0F;
      to[n * channels + c] = x + shift[c];
    }
  }
}

void ChannelJoin::one_by_one(const std::vector<ChannelPart>& parts, int64_t begin, int64_t end, float* to) const {
  int64_t all = 0;
  for (const ChannelPart& p : parts) all += p.count;
  // The channels of a pixel, and a zero.
  std::vector<float> together(static_cast<size_t>(all) + 1, 0);
  float* const pixel = together.data();
  const auto channels = std::ssize(source_);
  const int32_t* source = source_.data();
  const float* shift = shift_.data();
  with_isa([=, &parts] {
    float* out = to + begin * channels;
    for (int64_t n = begin; n < end; ++n, out += channels) {
      float* next = pixel;
      for (const ChannelPart& p : parts) next = std::copy_n(p.data + n * p.count, p.count, next);
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) out[c] = pixel[source[c]] + shift[c];
    }
  });
}

ChannelTake::ChannelTake(int64_t channels, std::vector<int32_t> places)
    : channels_(channels), places_(std::move(places)) {
  if (!has_moves() || channels_ < lanes) return;
  // The last vector may reach into the next pixel, which is written after it.
  const int64_t count = std::ssize(places_), whole = (count + lanes - 1) / lanes * lanes;
  vectors_ = moves_into(whole, {channels_}, [&](int64_t c) -> std::pair<int64_t, int64_t> {
    return c < count ? std::pair<int64_t, int64_t>(0, places_[static_cast<size_t>(c)])
                     : std::pair<int64_t, int64_t>(-1, 0);
  });
}

void ChannelTake::operator()(const float* from, int64_t pixels, float* to) const {
  const int64_t channels = channels_, count = std::ssize(places_);
  const Into* const first = vectors_.data();
  const Into* const last = first + vectors_.size();
  // The last pixels, where a vector would end behind the memory.
  int64_t vectored = 0;
  if (first != last) {
    const int64_t room = std::ssize(vectors_) * lanes;
    vectored = std::max<int64_t>(0, pixels - (room - count + count - 1) / count);
  }
  const int32_t* places = places_.data();
  with_isa([=] {
    for (int64_t n = 0; n < vectored; ++n) {
      for (const Into* into = first; into != last; ++into) {
        Vector v{};
        for (const Move& m : into->moves) move(v, from + n * channels + m.offset, m);
        std::memcpy(to + n * count + into->first, &v, sizeof v);
      }
    }
    for (int64_t n = vectored; n < pixels; ++n) {
      const float* in = from + n * channels;
      float* out = to + n * count;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = in[places[i]];
    }
  });
}

}  // namespace espalier
