#include "espalier/datasets/fetch.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>

#include "espalier/datasets/check.h"
#include "espalier/datasets/checksum.h"
#include "espalier/datasets/find.h"
#include "espalier/datasets/subprocess.h"
#include "espalier/error.h"
#include "text.h"
#include "unpack.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

// A folder beside the final one, on the same file system, for what is not verified yet.
class WorkFolder {
 public:
  explicit WorkFolder(const fs::path& parent) {
    std::error_code error;
    fs::create_directories(parent, error);
    if (error) throw Error(parent.string() + " cannot be made: " + error.message());
    std::string name = (parent / ".fetch-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw Error(parent.string() + " cannot be written to: " + std::strerror(errno));
    path_ = name;
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  ~WorkFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string megabytes(int64_t bytes) {
  return bytes < 1'000'000 ? grouped(std::max<int64_t>(1, bytes / 1000)) + " kB" : grouped(bytes / 1'000'000) + " MB";
}

std::string last_line(const fs::path& file) {
  std::ifstream in(file);
  std::string last;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

// Empty: it is the original.
std::string difference(const fs::path& archive, const CatalogueDownload& download) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(archive, error));
  if (error) return "cannot be read: " + error.message();
  if (size != download.size) return "holds " + grouped(size) + " bytes; expected " + grouped(download.size);
  const std::string algorithm = download.sha256.empty() ? "md5" : "sha256";
  const std::string& expected = download.sha256.empty() ? download.md5 : download.sha256;
  const std::string sum = file_checksum(archive, algorithm);
  return sum == expected ? "" : "has the " + algorithm + " " + sum + "; expected " + expected;
}

// The command line that downloads to a file, by whichever program there is; empty where there is none.
std::vector<std::string> download_command(const std::string& url, const fs::path& to, bool progress) {
  std::vector<std::string> command;
  const auto add = [&](std::initializer_list<std::string> words) { command.insert(command.end(), words); };
  if (const fs::path curl = find_program("curl"); !curl.empty()) {
    add({curl.string(), "--fail", "--location", "--proto-redir", "=http,https"});
    add({"--retry", "2", "--connect-timeout", "20", "--speed-limit", "1000", "--speed-time", "60"});
    if (progress) add({"--progress-bar"});
    if (!progress) add({"--silent", "--show-error"});
    add({"--output", to.string(), url});
  } else if (const fs::path wget = find_program("wget"); !wget.empty()) {
    add({wget.string(), "--tries=2", "--timeout=60"});
    if (progress) add({"--quiet", "--show-progress"});
    if (!progress) add({"--no-verbose"});
    add({"--output-document=" + to.string(), url});
  }
  return command;
}

// Downloads from one address; returns what went wrong, or nothing.
std::string try_download(const std::string& url, const CatalogueDownload& d, const fs::path& to, bool progress) {
  const std::vector<std::string> command = download_command(url, to, progress);
  if (command.empty()) return "neither curl nor wget is installed";
  const fs::path log = to.string() + ".log";
  const int status = run_program(command, progress ? fs::path() : log);
  const std::string said = last_line(log);
  fs::remove(log);
  if (status != 0) {
    const std::string program = fs::path(command[0]).filename().string();
    return said.empty() ? program + " ended with status " + std::to_string(status) : said;
  }
  const std::string wrong = difference(to, d);
  return wrong.empty() ? "" : "what came " + wrong;
}

void download(const CatalogueEntry& entry, const CatalogueDownload& d, const fs::path& to,
              const FetchOptions& options) {
  std::string failures;
  for (const std::string& url : d.urls) {
    options.say("downloading " + url + " (" + megabytes(d.size) + ")");
    const std::string failure = try_download(url, d, to, options.progress);
    if (failure.empty()) return;
    failures.append("\n  ").append(url).append(": ").append(failure);
    fs::remove(to);
  }
  throw Error(
      d.name + " could not be downloaded:" + failures + "\nHow to get " + entry.name + " without a network here:\n" +
      (entry.debian_package.empty() ? "" : "  on Debian or Ubuntu: apt-get install " + entry.debian_package + "\n") +
      "  on another machine: " + entry.by_hand());
}

// An archive that somebody has downloaded.
fs::path given(const CatalogueEntry& entry, const CatalogueDownload& d, const fs::path& from) {
  const bool folder = fs::is_directory(from);
  if (!folder && entry.downloads.size() > 1) {
    throw InputError("", "--from " + from.string() + ": " + entry.name + " has " +
                             std::to_string(entry.downloads.size()) + " archives; give the folder that holds them");
  }
  fs::path archive = folder ? from / d.name : from;
  if (!fs::exists(archive)) throw InputError("", "--from " + from.string() + ": there is no " + d.name);
  if (const std::string wrong = difference(archive, d); !wrong.empty()) {
    throw InputError(archive.string(), "is not the original archive: it " + wrong);
  }
  return archive;
}

// Puts the set's files into the work folder.
void collect(const CatalogueEntry& entry, const FetchOptions& options, const fs::path& work) {
  // Somebody's unpacked or recompressed copy: its content is checked like any other's.
  if (!options.from.empty() && fs::is_directory(options.from)) {
    if (const std::optional<FoundDataset> copy = search_dataset(entry, {options.from})) {
      options.say("copying from " + copy->folder.string());
      for (const fs::path& file : copy->files) fs::copy_file(file, work / file.filename());
      return;
    }
  }
  std::vector<std::string> names;
  for (const CatalogueFile& file : entry.files) names.push_back(file.name);
  for (const CatalogueDownload& d : entry.downloads) {
    const bool packed = entry.format == "cifar";
    fs::path archive = work / d.name;
    if (options.from.empty()) {
      download(entry, d, archive, options);
    } else if (const fs::path there = given(entry, d, options.from); packed) {
      archive = there;
    } else {
      fs::copy_file(there, archive);
    }
    if (!packed) continue;
    options.say("unpacking " + d.name);
    unpack_archive(archive, names, work);
    if (options.from.empty()) fs::remove(archive);
  }
}

// The work folder is gone when its name is read: the folder that files came from, or that they were meant for.
std::string in_users_words(std::string message, const fs::path& work, const FetchOptions& options) {
  const std::string inner = work.string();
  const std::string outer = (options.from.empty() ? options.to : options.from).string();
  for (size_t at = message.find(inner); at != std::string::npos; at = message.find(inner, at + outer.size()))
    message.replace(at, inner.size(), outer);
  return message;
}

}  // namespace

fs::path fetch_dataset(const CatalogueEntry& entry, const FetchOptions& options) {
  if (options.to.empty()) {
    throw InputError("", "where to? Neither HOME nor XDG_CACHE_HOME is set; give a folder with --to");
  }
  if (!options.from.empty() && !fs::exists(options.from)) {
    throw InputError("", "--from " + options.from.string() + ": no such file or folder");
  }
  fs::path target = options.to / entry.folders.front();
  const std::optional<FoundDataset> old = search_dataset(entry, {options.to});
  if (old) {
    options.say("checking what is in " + old->folder.string());
    const DatasetCheck check = check_dataset(entry, {options.to});
    if (check.faults.empty()) return old->folder;
    for (const std::string& fault : check.faults) options.say("  " + fault);
    options.say("it is replaced");
  }

  const WorkFolder work(options.to);
  try {
    collect(entry, options, work.path());
    options.say("checking");
    const DatasetCheck check = check_dataset(entry, {work.path()});
    if (!check.faults.empty()) {
      throw Error(entry.name + " is not what it should be" +
                  (options.from.empty() ? "" : " in " + options.from.string()) + ":" + join(check.faults));
    }
  } catch (const std::exception& e) {
    throw Error(in_users_words(e.what(), work.path(), options));
  }

  const FoundDataset made = find_dataset(entry, {work.path()});
  fs::create_directories(target);
  for (const fs::path& file : made.files) fs::rename(file, target / file.filename());
  // A damaged copy under another name (unpacked, say) would be found first.
  if (old && old->folder == target) {
    for (const fs::path& file : old->files) {
      const bool replaced = std::any_of(made.files.begin(), made.files.end(),
                                        [&](const fs::path& f) { return f.filename() == file.filename(); });
      if (!replaced) fs::remove(file);
    }
  }
  return target;
}

}  // namespace espalier
