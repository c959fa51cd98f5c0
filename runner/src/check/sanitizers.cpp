#include "check/sanitizers.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "espalier/error.h"
#include "plugins/elf_stamp.h"

namespace espalier {

namespace fs = std::filesystem;

std::string sanitizer_of(const std::vector<std::string>& plugins) {
  for (const std::string& p : plugins) {
    std::vector<fs::path> libraries{p};
    if (fs::is_directory(p)) libraries.assign(fs::directory_iterator(p), fs::directory_iterator());
    for (const fs::path& library : libraries) {
      try {
        if (std::string name = find_stamp(library).sanitizer; !name.empty()) return name;
      } catch (const Error&) {  // no plugin: the check `loading` says so
      }
    }
  }
  return {};
}

std::string last_words(const std::string& written) {
  constexpr size_t most = 8, of_report = 120;
  std::vector<std::string> lines;
  std::istringstream text(written);
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  const auto report = std::ranges::find_if(lines, [](const std::string& line) {
    return line.find("ERROR: ") != std::string::npos && line.find("Sanitizer") != std::string::npos;
  });
  const auto error = std::ranges::find_if(
      lines, [](const std::string& line) { return line.find(": runtime error: ") != std::string::npos; });
  auto from = std::min(report, error);
  if (from == lines.end()) from = lines.size() > most ? lines.end() - most : lines.begin();
  std::string words;
  for (auto line = from; line != lines.end() && line - from < static_cast<std::ptrdiff_t>(of_report); ++line)
    words += (words.empty() ? "" : "\n") + *line;
  return words;
}

}  // namespace espalier
