// Gives damaged files to the readers: espalier_fuzz TARGET CORPUS WORK [--seconds N] [--seed N] [--only NUMBER].
// What is tried lies in WORK/input until it is done with, so that it is there when the process is gone.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>

#include <unistd.h>

#include "driver.h"
#include "espalier/error.h"

namespace {

namespace fs = std::filesystem;
using namespace espalier::fuzz;

constexpr unsigned patience = 20;  // seconds for one file

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<fs::path> names;
  for (const fs::directory_entry& e : fs::directory_iterator(folder)) names.push_back(e.path());
  std::sort(names.begin(), names.end());
  std::vector<std::string> all;
  for (const fs::path& name : names) {
    std::ostringstream content;
    content << std::ifstream(name, std::ios::binary).rdbuf();
    all.push_back(content.str());
  }
  return all;
}

// False where the reader did what it must not.
bool passes(const Target& target, const fs::path& file) {
  alarm(patience);
  try {
    target.read(file);
  } catch (const espalier::Error&) {
  } catch (const std::exception& e) {
    std::printf("%s: an exception that is no Error: %s\n", target.name, e.what());
    return false;
  }
  alarm(0);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const Target* target = nullptr;
  for (const Target& t : targets()) {
    if (argc > 3 && std::strcmp(argv[1], t.name) == 0) target = &t;
  }
  if (!target) {
    for (const Target& t : targets()) std::printf("%s\n", t.name);
    return argc > 1 ? 2 : 0;
  }
  double seconds = 60;
  uint64_t seed = 1;
  int64_t only = -1;
  for (int i = 4; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--seconds") seconds = std::atof(argv[i + 1]);
    if (option == "--seed") seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (option == "--only") only = std::atoll(argv[i + 1]);
  }
  const std::vector<std::string> corpus = files_in(argv[2]);
  if (corpus.empty()) {
    std::printf("%s: no corpus in %s\n", target->name, argv[2]);
    return 2;
  }
  const fs::path file = fs::path(argv[3]) / "input";
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  uint64_t number = only < 0 ? 0 : static_cast<uint64_t>(only);
  for (; elapsed() < seconds; ++number) {
    // The files themselves first.
    const std::string bytes = number < corpus.size() ? corpus[number] : mutated(corpus, seed, number);
    std::ofstream(file, std::ios::binary) << bytes;
    std::ofstream(fs::path(argv[3]) / "number") << number;
    if (!passes(*target, file)) return 1;
    if (only >= 0) break;
  }
  std::printf("%s: %llu files, nothing found\n", target->name, static_cast<unsigned long long>(number));
  return 0;
}
