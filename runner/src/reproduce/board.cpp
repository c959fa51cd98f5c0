#include "reproduce/board.h"

#include <cstdio>

#include "espalier/error.h"
#include "record/environment.h"
#include "record/progress.h"
#include "record/summary.h"
#include "system/files.h"
#include "system/terminal.h"

namespace espalier {

RunPosition position_of(const std::filesystem::path& run, const Value& recipe) {
  RunPosition p;
  for (const Value& stage : recipe.at("stages").as_list()) p.of += stage.at("epochs").as_int();
  const std::filesystem::path file = run / "metrics.jsonl";
  if (!std::filesystem::exists(file)) return p;
  std::string last;
  const std::string text = read_file(file);
  for (size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    last = text.substr(at, end - at);
    ++p.epochs;
  }
  if (last.empty()) return p;
  const Value line = from_json(last, file.string());
  if (const Value* stage = line.find("stage"); stage && stage->is_string()) p.stage = stage->as_string();
  for (const Value::Entry& e : line.as_map()) {
    if (!e.key.starts_with("test_") || e.key == "test_loss" || !e.value.is_number()) continue;
    p.metric = e.key.substr(5) + " " + metric_text(e.value.as_double(), "");
    break;
  }
  return p;
}

Board::Board(bool quiet) : quiet_(quiet), live_(!quiet && is_terminal()) {}

void Board::say(const std::string& text) {
  if (quiet_) return;
  clear();
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void Board::clear() {
  // Up over the table, and everything below is cleared.
  if (lines_ > 0) std::printf("\033[%zuA\033[J", lines_);
  lines_ = 0;
  std::fflush(stdout);
}

void Board::show(const std::vector<Running>& running, size_t done, size_t all, double seconds_left) {
  constexpr double pause = 0.5;
  if (!live_ || wall_time() - shown_ < pause) return;
  shown_ = wall_time();
  std::vector<std::vector<std::string>> rows{{"run", "stage", "epochs", "test", "time", "left"}};
  double running_left = 0;
  for (const Running& r : running) {
    RunPosition p;
    try {
      p = position_of(r.folder, *r.recipe);
    } catch (const Error&) {  // a line that is just being written
    }
    std::optional<double> left;
    if (r.estimate) left = std::max(0.0, *r.estimate - r.seconds);
    if (p.epochs > 0 && p.of > 0)
      left = r.seconds * static_cast<double>(std::max<int64_t>(0, p.of - p.epochs)) / static_cast<double>(p.epochs);
    running_left += left.value_or(0);
    rows.push_back({r.name, p.stage, std::to_string(p.epochs) + "/" + std::to_string(p.of), p.metric,
                    Progress::duration(r.seconds), left ? Progress::duration(*left) : "?"});
  }
  constexpr size_t width = 24;
  std::string bar;
  for (size_t i = 0; i < width; ++i) bar += i < width * done / std::max<size_t>(1, all) ? "━" : "─";
  const double whole = seconds_left + running_left / static_cast<double>(std::max<size_t>(1, running.size()));
  std::string text = "\n" + table(rows, 0) + bar + " " + std::to_string(done) + "/" + std::to_string(all) +
                     " runs, about " + Progress::duration(whole) + " left\n";
  clear();
  // A line that the terminal would wrap counts as one only if it is cut.
  const size_t columns = terminal_width();
  std::string cut;
  size_t in_line = 0;
  for (const char c : text) {
    const bool begins = (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;  // a character of UTF-8
    if (c == '\n') {
      in_line = 0;
      ++lines_;
    } else if (begins) {
      ++in_line;
    }
    if (columns == 0 || in_line < columns) cut += c;
  }
  std::printf("%s", cut.c_str());
  std::fflush(stdout);
}

}  // namespace espalier
