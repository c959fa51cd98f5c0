#pragma once

#include <cmath>
#include <cstdint>

#include "espalier/host_device.h"
#include "espalier/image_transform.h"
#include "espalier/random.h"

// One image of a batch from bytes to normalised numbers, with its random transformations: one formula for the CPU and
// for CUDA.
namespace espalier {

constexpr int max_channels = 16;

// value = byte * scale + shift
struct Normalization {
  float scale[max_channels];
  float shift[max_channels];
};

// What one image drew.
struct Draw {
  int dx = 0, dy = 0;
  bool flip = false;
  float cosine = 1, sine = 0;
  int cut_x = 0, cut_y = 0;
};

inline ESPALIER_HD Draw draw_of(const ImageTransform& a, RandomKey key, int height, int width) {
  const Random4 r = philox(key.value(), 0);
  const Random4 s = philox(key.value(), 1);
  Draw d;
  if (a.crop > 0) {
    d.dx = static_cast<int>(below(r.v[0], static_cast<uint32_t>(2 * a.crop + 1))) - a.crop;
    d.dy = static_cast<int>(below(r.v[1], static_cast<uint32_t>(2 * a.crop + 1))) - a.crop;
  }
  d.flip = unit_float(r.v[2]) < a.flip;
  if (a.rotate > 0) {
    const float angle = (2 * unit_float(r.v[3]) - 1) * a.rotate;
    d.cosine = cosf(angle);
    d.sine = sinf(angle);
  }
  d.cut_x = static_cast<int>(below(s.v[0], static_cast<uint32_t>(width)));
  d.cut_y = static_cast<int>(below(s.v[1], static_cast<uint32_t>(height)));
  return d;
}

// The source position of an output pixel: crop, then flip, then rotation were applied, so they are undone from the
// last. False: outside the image, where the padding is.
inline ESPALIER_HD bool source_of(const ImageTransform& a, const Draw& d, int height, int width, int& y, int& x) {
  if (a.rotate > 0) {
    const float cx = 0.5F * static_cast<float>(width - 1), cy = 0.5F * static_cast<float>(height - 1);
    const float fx = static_cast<float>(x) - cx, fy = static_cast<float>(y) - cy;
    x = static_cast<int>(floorf(d.cosine * fx - d.sine * fy + cx + 0.5F));
    y = static_cast<int>(floorf(d.sine * fx + d.cosine * fy + cy + 0.5F));
    if (x < 0 || x >= width || y < 0 || y >= height) return false;
  }
  if (d.flip) x = width - 1 - x;
  x += d.dx;
  y += d.dy;
  return x >= 0 && x < width && y >= 0 && y < height;
}

inline ESPALIER_HD bool is_cut(const ImageTransform& a, const Draw& d, int y, int x) {
  const int top = d.cut_y - a.cutout / 2, left = d.cut_x - a.cutout / 2;
  return a.cutout > 0 && y >= top && y < top + a.cutout && x >= left && x < left + a.cutout;
}

}  // namespace espalier
