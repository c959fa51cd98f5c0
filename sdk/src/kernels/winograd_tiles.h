#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

// What the convolutions by Winograd's filtering work on: images, the tiles that lie on them, and memory.
namespace espalier::winograd {

// A tile of 2x2 outputs is made of 4x4 inputs; in between there are 4x4 products.
constexpr int64_t places = 16;
// So many tiles are computed at a time. A multiple of the rows of products of both lengths of vectors.
constexpr int64_t tiles_at_once = 48;
inline int64_t up_to(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Memory that begins at a line of the cache and holds nothing yet.
class Floats {
 public:
  explicit Floats(int64_t n) : memory_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(n) + 2 * line)) {
    void* p = memory_.get();
    size_t room = (static_cast<size_t>(n) + line) * sizeof(float);
    data_ = static_cast<float*>(std::align(line * sizeof(float), 1, p, room));
  }
  float* data() const { return data_; }

 private:
  static constexpr size_t line = 16;
  std::unique_ptr<float[]> memory_;
  float* data_;
};

// Pixels of images, each a row of channels, and how tiles lie on them.
struct Pixels {
  const float* data;
  int64_t height, width, channels, batch;

  int64_t numbers() const { return batch * height * width * channels; }
};

// The map of outputs in tiles, row by row.
struct Tiles {
  int64_t height, width;  // of the map, in pixels

  int64_t down() const { return (height + 1) / 2; }
  int64_t across() const { return (width + 1) / 2; }
  int64_t of_image() const { return down() * across(); }

  // A tile of an image, and the next ones.
  struct Walk {
    Walk(const Tiles& tiles, int64_t first)
        : down(tiles.down()),
          across(tiles.across()),
          image(first / tiles.of_image()),
          y(first % tiles.of_image() / across),
          x(first % across) {}
    Walk& operator++() {
      if (++x < across) return *this;
      x = 0;
      if (++y < down) return *this;
      y = 0;
      ++image;
      return *this;
    }

    int64_t down, across, image, y, x;
  };
};

// The pixels of the tiles from one on, which are read or written after the products of 16 places: a part of them is
// brought near with each place. The processor itself does not foresee them, since much else is read in between.
class Ahead {
 public:
  Ahead(const Pixels& of, const Tiles& tiles, int64_t first) {
    constexpr int64_t most = 1 << 14;  // numbers; more would drive out what the products read
    const Tiles::Walk tile(tiles, first);
    const int64_t begin = ((tile.image * of.height + 2 * tile.y) * of.width) * of.channels;
    const int64_t count = std::min(4 * tiles_at_once * of.channels, of.numbers() - begin);
    if (count <= 0 || count > most) return;
    begin_ = of.data + begin;
    share_ = count / places;
  }
  template <int to_write>
  void touch(int64_t place) const {
    constexpr int64_t line = 16;
    for (int64_t i = 0; i < share_; i += line) __builtin_prefetch(begin_ + place * share_ + i, to_write);
  }

 private:
  const float* begin_ = nullptr;
  int64_t share_ = 0;
};

}  // namespace espalier::winograd
