#pragma once

namespace espalier {

// The changes of an image that are done in one pass together with its normalisation. Zeros: nothing is changed.
struct ImageTransform {
  int crop = 0;      // zero padding on every side before a random crop to the old size, pixels
  float flip = 0;    // probability of a horizontal flip
  float rotate = 0;  // largest rotation to either side, radians
  int cutout = 0;    // side of a square of zeros (after normalisation), pixels
};

}  // namespace espalier
