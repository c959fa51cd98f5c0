#include "masks.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

// How much finer than the pixels an outline is drawn, and where in the finer pixels the centre of a pixel lies.
constexpr int fine = 5;
constexpr int centre = fine / 2;
// Coordinates beyond this are no place in any image; outlines up to there are drawn point by point.
constexpr double farthest = 1e6;

void check_size(int64_t height, int64_t width) {
  constexpr int64_t most = std::numeric_limits<uint32_t>::max();
  if (height < 1 || width < 1 || height > most / width)
    throw Error("a mask of " + std::to_string(height) + " x " + std::to_string(width) +
                " pixels cannot be kept; an image has at least one pixel and fewer than 2^32");
}

void check_sizes(const Rle& a, const Rle& b) {
  if (a.height == b.height && a.width == b.width) return;
  throw Error("a mask of " + std::to_string(a.height) + " x " + std::to_string(a.width) +
              " pixels cannot be combined with one of " + std::to_string(b.height) + " x " + std::to_string(b.width));
}

// Puts runs together so that no run but the first is empty.
class Runs {
 public:
  // Adds pixels that all belong to the mask, or all do not.
  void add(bool inside, int64_t pixels) {
    if (pixels == 0) return;
    if (inside != (runs_.size() % 2 == 0)) runs_.push_back(0);
    runs_.back() += static_cast<uint32_t>(pixels);
  }
  std::vector<uint32_t> take() { return std::move(runs_); }

 private:
  std::vector<uint32_t> runs_ = {0};
};

// Reads a mask run by run.
class Cursor {
 public:
  explicit Cursor(const Rle& mask) : mask_(&mask) { skip_empty(); }
  bool inside() const { return at_ % 2 == 1; }
  // How many pixels are left of the run; 0 at the end of the mask.
  int64_t left() const { return at_ < mask_->runs.size() ? int64_t{mask_->runs[at_]} - used_ : 0; }
  void advance(int64_t pixels) {
    used_ += pixels;
    skip_empty();
  }

 private:
  void skip_empty() {
    while (at_ < mask_->runs.size() && used_ == mask_->runs[at_]) {
      ++at_;
      used_ = 0;
    }
  }
  const Rle* mask_;
  size_t at_ = 0;
  int64_t used_ = 0;
};

// Calls visit(pixels, in a, in b) for pieces of both masks in which neither changes.
template <class Visit>
void walk(const Rle& a, const Rle& b, const Visit& visit) {
  check_sizes(a, b);
  Cursor x(a), y(b);
  for (int64_t pixels = 0; (pixels = std::min(x.left(), y.left())) > 0;) {
    visit(pixels, x.inside(), y.inside());
    x.advance(pixels);
    y.advance(pixels);
  }
}

template <class Combine>
Rle combine(std::span<const Rle> masks, const Combine& inside) {
  if (masks.empty()) throw Error("no masks were given to be combined; their size is not known then");
  Rle all = masks.front();
  for (const Rle& mask : masks.subspan(1)) {
    Runs runs;
    walk(all, mask, [&](int64_t pixels, bool a, bool b) { runs.add(inside(a, b), pixels); });
    all.runs = runs.take();
  }
  return all;
}

void check_total(const std::vector<uint32_t>& runs, int64_t height, int64_t width) {
  int64_t total = 0;
  for (const uint32_t run : runs) total += run;
  if (total != height * width)
    throw Error("its runs come to " + std::to_string(total) + " pixels, and " + std::to_string(height) + " x " +
                std::to_string(width) + " are " + std::to_string(height * width));
}

struct Point {
  int x = 0, y = 0;
};

// Calls visit(point) for the points of a line from a to b, both ends included, one for each step along the longer
// direction.
template <class Visit>
void draw_line(Point a, Point b, const Visit& visit) {
  const int dx = std::abs(b.x - a.x), dy = std::abs(b.y - a.y);
  const bool flat = dx >= dy;
  // A line is computed from its left or upper end, and its points are given from a to b all the same.
  const bool flipped = flat ? a.x > b.x : a.y > b.y;
  if (flipped) std::swap(a, b);
  const int steps = flat ? dx : dy;
  const double slope = steps == 0 ? 0 : static_cast<double>(flat ? b.y - a.y : b.x - a.x) / steps;
  for (int step = 0; step <= steps; ++step) {
    const int t = flipped ? steps - step : step;
    if (flat) {
      visit(Point{t + a.x, static_cast<int>(a.y + slope * t + 0.5)});
    } else {
      visit(Point{static_cast<int>(a.x + slope * t + 0.5), t + a.y});
    }
  }
}

int rounded_up_quotient(int a, int b) {
  return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

}  // namespace

Rle encode_mask(const uint8_t* bytes, int64_t height, int64_t width) {
  check_size(height, width);
  Runs runs;
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t y = 0; y < height; ++y) runs.add(bytes[y * width + x] != 0, 1);
  }
  return {height, width, runs.take()};
}

void decode_mask(const Rle& mask, uint8_t* bytes) {
  int64_t x = 0, y = 0;
  bool inside = false;
  for (const uint32_t run : mask.runs) {
    for (uint32_t i = 0; i < run; ++i) {
      bytes[y * mask.width + x] = inside ? 1 : 0;
      if (++y == mask.height) {
        y = 0;
        ++x;
      }
    }
    inside = !inside;
  }
}

Rle mask_of_runs(std::span<const int64_t> runs, int64_t height, int64_t width) {
  check_size(height, width);
  Rle mask{height, width, {}};
  mask.runs.reserve(runs.size());
  for (const int64_t run : runs) {
    if (run < 0 || run > height * width)
      throw Error("the run " + std::to_string(run) + " does not fit into " + std::to_string(height) + " x " +
                  std::to_string(width) + " pixels");
    mask.runs.push_back(static_cast<uint32_t>(run));
  }
  check_total(mask.runs, height, width);
  return mask;
}

Rle mask_of_text(std::string_view text, int64_t height, int64_t width) {
  check_size(height, width);
  constexpr int first_character = 48, more_follow = 0x20, negative = 0x10, most_groups = 7;
  std::vector<int64_t> runs;
  for (size_t at = 0; at < text.size();) {
    int64_t value = 0;
    bool more = true;
    for (int group = 0; more; ++group) {
      if (at == text.size()) throw Error("its compressed text ends within a run");
      const int digit = text[at++] - first_character;
      if (digit < 0 || digit > 0x3f || group == most_groups)
        throw Error("its compressed text is damaged at character " + std::to_string(at));
      value |= int64_t{digit & 0x1f} << (5 * group);
      more = (digit & more_follow) != 0;
      if (!more && (digit & negative) != 0) value -= int64_t{1} << (5 * (group + 1));
    }
    if (runs.size() > 2) value += runs[runs.size() - 2];
    runs.push_back(value);
  }
  return mask_of_runs(runs, height, width);
}

std::string text_of(const Rle& mask) {
  std::string text;
  for (size_t i = 0; i < mask.runs.size(); ++i) {
    int64_t value = mask.runs[i];
    if (i > 2) value -= mask.runs[i - 2];
    for (bool more = true; more;) {
      int digit = static_cast<int>(value & 0x1f);
      value >>= 5;
      more = (digit & 0x10) != 0 ? value != -1 : value != 0;
      if (more) digit |= 0x20;
      text += static_cast<char>(digit + 48);
    }
  }
  return text;
}

void check_polygon(std::span<const double> corners) {
  if (corners.size() % 2 != 0)
    throw Error("a polygon has " + std::to_string(corners.size()) +
                " numbers, and x and y of each corner come in pairs");
  if (corners.size() < 6)
    throw Error("a polygon has " + std::to_string(corners.size() / 2) + " corners, and three are the least");
  for (const double number : corners) {
    if (!(std::abs(number) <= farthest))
      throw Error("a polygon has a corner at " + std::to_string(number) + ", which is no place in an image");
  }
}

Rle mask_of_polygon(std::span<const double> corners, int64_t height, int64_t width) {
  check_size(height, width);
  check_polygon(corners);
  std::vector<Point> ends;
  for (size_t i = 0; i < corners.size(); i += 2) {
    ends.push_back({static_cast<int>(fine * corners[i] + 0.5), static_cast<int>(fine * corners[i + 1] + 0.5)});
  }
  // Where the outline passes from one column of fine pixels to the next in the middle of a pixel, the mask begins or
  // ends in that column of pixels.
  std::vector<int64_t> changes;
  Point last = ends.front();
  const auto visit = [&](Point point) {
    const int x = point.x < last.x ? point.x : point.x - 1;
    if (point.x != last.x && x >= 0 && x % fine == centre && x / fine < width) {
      const int y = rounded_up_quotient(std::min(point.y, last.y) - centre, fine);
      changes.push_back(x / fine * height + std::clamp<int64_t>(y, 0, height));
    }
    last = point;
  };
  for (size_t i = 0; i < ends.size(); ++i) draw_line(ends[i], ends[(i + 1) % ends.size()], visit);
  std::ranges::sort(changes);
  Runs runs;
  bool inside = false;
  int64_t begin = 0;
  for (const int64_t change : changes) {
    runs.add(inside, change - begin);
    begin = change;
    inside = !inside;
  }
  runs.add(inside, height * width - begin);
  return {height, width, runs.take()};
}

Rle unite(std::span<const Rle> masks) {
  return combine(masks, [](bool a, bool b) { return a || b; });
}

Rle intersect(std::span<const Rle> masks) {
  return combine(masks, [](bool a, bool b) { return a && b; });
}

int64_t area_of(const Rle& mask) {
  int64_t area = 0;
  for (size_t i = 1; i < mask.runs.size(); i += 2) area += mask.runs[i];
  return area;
}

Xywh box_of(const Rle& mask) {
  int64_t left = mask.width, top = mask.height, right = -1, bottom = -1, at = 0;
  for (size_t i = 0; i < mask.runs.size(); ++i) {
    const int64_t begin = at, end = at += mask.runs[i];
    if (i % 2 == 0 || begin == end) continue;
    left = std::min(left, begin / mask.height);
    right = std::max(right, (end - 1) / mask.height);
    // A run that goes on in the next column touches the lower and the upper edge.
    const bool spans = begin / mask.height != (end - 1) / mask.height;
    top = std::min(top, spans ? 0 : begin % mask.height);
    bottom = std::max(bottom, spans ? mask.height - 1 : (end - 1) % mask.height);
  }
  if (right < 0) return {0, 0, 0, 0};
  return {static_cast<double>(left), static_cast<double>(top), static_cast<double>(right - left + 1),
          static_cast<double>(bottom - top + 1)};
}

double mask_iou(const Rle& found, const Rle& truth, bool crowd) {
  int64_t common = 0, all = 0, own = 0;
  walk(found, truth, [&](int64_t pixels, bool a, bool b) {
    if (a && b) common += pixels;
    if (a || b) all += pixels;
    if (a) own += pixels;
  });
  return common == 0 ? 0 : static_cast<double>(common) / static_cast<double>(crowd ? own : all);
}

double box_iou(const Xywh& found, const Xywh& truth, bool crowd) {
  const double width = std::min(found[0] + found[2], truth[0] + truth[2]) - std::max(found[0], truth[0]);
  const double height = std::min(found[1] + found[3], truth[1] + truth[3]) - std::max(found[1], truth[1]);
  if (width <= 0 || height <= 0) return 0;
  const double common = width * height, own = found[2] * found[3];
  return common / (crowd ? own : own + truth[2] * truth[3] - common);
}

}  // namespace espalier::detection
