#include "record/progress.h"

#include <cstdio>

#include "system/terminal.h"

namespace espalier {

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(is_terminal()) {}

std::string Progress::duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  char text[32];
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", static_cast<long long>(s / 3600),
                  static_cast<long long>(s / 60 % 60), static_cast<long long>(s % 60));
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", static_cast<long long>(s / 60), static_cast<long long>(s % 60));
  }
  return text;
}

void Progress::begin(std::string label, int64_t steps, int64_t step, int64_t done, int64_t total) {
  label_ = std::move(label);
  steps_ = steps, done_ = done - step, total_ = total;
  if (first_ < 0) first_ = done;
  images_before_ = -1;
  epoch_began_ = shown_ = Clock::now();
}

void Progress::step(int64_t step, int64_t images) {
  if (quiet_ || !terminal_) return;
  const auto now = Clock::now();
  if (images_before_ < 0) images_before_ = images, epoch_began_ = now;  // from the first step on
  if (now == epoch_began_ || now - shown_ < std::chrono::milliseconds(100)) return;
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - epoch_began_).count();
  const double whole = std::chrono::duration<double>(now - run_began_).count();
  const double share = static_cast<double>(step) / static_cast<double>(steps_ > 0 ? steps_ : 1);
  constexpr int width = 24;
  const int filled = static_cast<int>(share * width);
  std::string bar;
  for (int i = 0; i < width; ++i) bar += i < filled ? "━" : "─";
  const auto done = static_cast<double>(done_ + step);
  const auto here = static_cast<double>(done_ + step - first_);
  std::printf("\r\033[K%s %s %3.0f%%  %.0f images/s  %s left", label_.c_str(), bar.c_str(), 100 * share,
              static_cast<double>(images - images_before_) / elapsed,
              duration(whole / here * (static_cast<double>(total_) - done)).c_str());
  std::fflush(stdout);
}

void Progress::clear() const {
  if (terminal_) std::printf("\r\033[K");
}

void Progress::note(const std::string& text) {
  if (quiet_) return;
  clear();
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

}  // namespace espalier
