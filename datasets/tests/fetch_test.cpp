#include "espalier/datasets/fetch.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include "espalier/datasets/check.h"
#include "sample_sets.h"

namespace espalier {
namespace {

using samples::Bytes;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

// A .tar.gz of files under the names given.
Bytes tar(const std::vector<std::pair<std::string, Bytes>>& files) {
  Bytes bytes(1U << 20);
  size_t used = 0;
  archive* a = archive_write_new();
  archive_write_add_filter_gzip(a);
  archive_write_set_format_ustar(a);
  archive_write_open_memory(a, bytes.data(), bytes.size(), &used);
  for (const auto& [name, content] : files) {
    archive_entry* e = archive_entry_new();
    archive_entry_set_pathname(e, name.c_str());
    archive_entry_set_size(e, static_cast<la_int64_t>(content.size()));
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_write_header(a, e);
    archive_write_data(a, content.data(), content.size());
    archive_entry_free(e);
  }
  archive_write_close(a);
  archive_write_free(a);
  bytes.resize(used);
  return bytes;
}

Bytes archive_of(const samples::TinyCifar& little) {
  return tar({{"little-binary/readme.html", {1}},
              {"little-binary/train.bin", little.files.at("train.bin")},
              {"little-binary/test.bin", little.files.at("test.bin")}});
}

class Fetch : public testing::Test {
 protected:
  FetchOptions options() {
    FetchOptions o;
    o.to = to_.path();
    o.from = from_;
    o.say = [this](const std::string& line) { said_ += line + "\n"; };
    return o;
  }
  fs::path fetch(const CatalogueEntry& entry) { return fetch_dataset(entry, options()); }

  // A program of that name, the only one in $PATH.
  void install(const std::string& name, const std::string& script) {
    const fs::path program = samples::write(bin_ / name, {});
    std::ofstream(program) << "#!/bin/sh\n" << script;
    ::chmod(program.c_str(), 0755);
  }
  // Answers to any URL with the file of that name in server_.
  void install_curl() {
    install("curl",
            "while [ $# -gt 1 ]; do [ \"$1\" = --output ] && to=$2; shift; done\n"
            "/bin/cat \"" +
                server_.path().string() +
                "/${1##*/}\" >\"$to\" 2>/dev/null || { echo 'curl: (22) 404' >&2; exit 22; }\n");
  }

  samples::Folder to_, server_, bin_;
  samples::Variable path_{"PATH", bin_.path().string()};
  fs::path from_;
  std::string said_;
};

TEST_F(Fetch, DownloadsVerifiesAndPutsIntoPlace) {
  const samples::TinyIdx tiny;
  tiny.write_downloads(server_.path());
  install_curl();
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");
  EXPECT_EQ(samples::read(to_ / "tiny/train-images.gz"), samples::gzip(tiny.files.at("train-images")));
  EXPECT_THAT(check_dataset(tiny.entry, {to_.path()}).faults, testing::IsEmpty());
  EXPECT_THAT(said_, HasSubstr("downloading https://example.invalid/train-images.gz (1 kB)"));
  // Nothing else is left.
  EXPECT_EQ(std::distance(fs::directory_iterator(to_.path()), {}), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(to_ / "tiny"), {}), 4);
}

TEST_F(Fetch, UnpacksArchives) {
  samples::TinyCifar little;
  const Bytes archive = archive_of(little);
  little.entry.downloads = {samples::download_of("little.tar.gz", archive)};
  samples::write(server_ / "little.tar.gz", archive);
  install_curl();
  EXPECT_EQ(fetch(little.entry), to_ / "little-binary");
  EXPECT_EQ(samples::read(to_ / "little-binary/train.bin"), little.files.at("train.bin"));
  EXPECT_EQ(std::distance(fs::directory_iterator(to_.path()), {}), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(to_ / "little-binary"), {}), 2);
}

TEST_F(Fetch, UsesWgetWhereThereIsNoCurl) {
  const samples::TinyIdx tiny;
  tiny.write_downloads(server_.path());
  install("wget",
          "for a; do case $a in --output-document=*) to=${a#*=};; esac; url=$a; done\n"
          "/bin/cat \"" +
              server_.path().string() + "/${url##*/}\" >\"$to\"\n");
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");
}

TEST_F(Fetch, KeepsWhatIsThereAndWhole) {
  const samples::TinyIdx tiny;
  tiny.write(to_ / "tiny");
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");  // and there is no curl
}

TEST_F(Fetch, ReplacesWhatIsThereAndDamaged) {
  samples::TinyIdx damaged;
  damaged.files["train-images"].pop_back();
  damaged.write(to_ / "tiny");
  const samples::TinyIdx tiny;
  tiny.write_downloads(server_.path());
  install_curl();
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");
  EXPECT_THAT(said_, HasSubstr("is cut short"));
  EXPECT_THAT(check_dataset(tiny.entry, {to_.path()}).faults, testing::IsEmpty());
}

TEST_F(Fetch, TriesEveryAddress) {
  samples::TinyIdx tiny;
  tiny.write_downloads(server_.path());
  for (CatalogueDownload& d : tiny.entry.downloads) d.urls.insert(d.urls.begin(), "https://first.invalid/gone");
  install_curl();
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");
}

TEST_F(Fetch, SaysWhatToDoWithoutANetwork) {
  const samples::TinyIdx tiny;
  install("curl", "echo 'curl: (6) Could not resolve host: example.invalid' >&2\nexit 6\n");
  const std::string message = error_of([&] { fetch(tiny.entry); });
  EXPECT_THAT(message, AllOf(HasSubstr("train-images.gz could not be downloaded"),
                             HasSubstr("https://example.invalid/train-images.gz: curl: (6) Could not resolve host"),
                             HasSubstr("    https://example.invalid/test-labels.gz\n"),
                             HasSubstr("espalier data fetch tiny --from FOLDER")));
  EXPECT_TRUE(fs::is_empty(to_.path()));
}

TEST_F(Fetch, SaysThatThereIsNoProgramToDownloadWith) {
  EXPECT_THAT(error_of([&] { fetch(samples::TinyIdx().entry); }), HasSubstr("neither curl nor wget is installed"));
}

TEST_F(Fetch, RejectsWhatIsNotTheOriginal) {
  const samples::TinyIdx tiny;
  tiny.write_downloads(server_.path());
  Bytes other = samples::read(server_ / "train-images.gz");
  other[12] ^= 1;
  samples::write(server_ / "train-images.gz", other);
  install_curl();
  EXPECT_THAT(error_of([&] { fetch(tiny.entry); }), HasSubstr("what came has the md5 " + samples::sum_of(other, "md5") +
                                                              "; expected " + tiny.entry.downloads[0].md5));
  // A captive portal's page, say.
  samples::write(server_ / "train-images.gz", {'<', 'h', 't', 'm', 'l', '>'});
  EXPECT_THAT(error_of([&] { fetch(tiny.entry); }), HasSubstr("what came holds 6 bytes; expected"));
  EXPECT_TRUE(fs::is_empty(to_.path()));
}

TEST_F(Fetch, TakesArchivesFromAFolder) {
  samples::TinyIdx tiny;
  samples::TinyCifar little;
  const Bytes archive = archive_of(little);
  little.entry.downloads = {samples::download_of("little.tar.gz", archive)};
  tiny.write_downloads(server_.path());
  samples::write(server_ / "little.tar.gz", archive);
  from_ = server_.path();
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");
  EXPECT_EQ(fetch(little.entry), to_ / "little-binary");
  // The archives stay where they are.
  EXPECT_EQ(std::distance(fs::directory_iterator(server_.path()), {}), 5);
}

TEST_F(Fetch, TakesTheOneArchiveAsAFile) {
  samples::TinyCifar little;
  const Bytes archive = archive_of(little);
  little.entry.downloads = {samples::download_of("little.tar.gz", archive)};
  from_ = samples::write(server_ / "renamed", archive);
  EXPECT_EQ(fetch(little.entry), to_ / "little-binary");
  EXPECT_THAT(error_of([&] { fetch(samples::TinyIdx().entry); }),
              HasSubstr("tiny has 4 archives; give the folder that holds them"));
  from_ = server_ / "nothing";
  EXPECT_THAT(error_of([&] { fetch(samples::TinyIdx().entry); }), HasSubstr("nothing: no such file or folder"));
}

TEST_F(Fetch, TakesACopyThatIsCompressedInAnotherWay) {
  const samples::TinyIdx tiny;
  tiny.write(server_ / "tiny");
  from_ = server_.path();
  EXPECT_EQ(fetch(tiny.entry), to_ / "tiny");
  EXPECT_EQ(samples::read(to_ / "tiny/test-images"), tiny.files.at("test-images"));
}

TEST_F(Fetch, RejectsACopyWithOtherContent) {
  samples::TinyIdx tiny;
  tiny.files["test-images"].back() ^= 1;
  tiny.write(server_.path());
  from_ = server_.path();
  EXPECT_THAT(error_of([&] { fetch(tiny.entry); }),
              AllOf(HasSubstr("tiny is not what it should be"), HasSubstr("SHA-256"),
                    HasSubstr(" in " + server_.path().string() + ":"), Not(HasSubstr(".fetch-"))));
  EXPECT_TRUE(fs::is_empty(to_.path()));
}

TEST_F(Fetch, RejectsDamagedArchives) {
  samples::TinyCifar little;
  Bytes archive = archive_of(little);
  little.entry.downloads = {samples::download_of("little.tar.gz", archive)};
  samples::write(server_ / "little.tar.gz", {archive.begin(), archive.end() - 20});
  from_ = server_.path();
  EXPECT_THAT(error_of([&] { fetch(little.entry); }), HasSubstr("is not the original archive: it holds"));
  // One that is what the catalogue says, and no archive all the same.
  for (const Bytes& bad : {Bytes{1, 2, 3}, Bytes(archive.begin(), archive.end() - 20),
                           tar({{"a/train.bin", little.files.at("train.bin")}})}) {
    little.entry.downloads = {samples::download_of("little.tar.gz", bad)};
    samples::write(server_ / "little.tar.gz", bad);
    EXPECT_THAT(error_of([&] { fetch(little.entry); }), HasSubstr("little.tar.gz: the archive"));
    EXPECT_TRUE(fs::is_empty(to_.path()));
  }
}

TEST_F(Fetch, WritesNowhereElse) {
  samples::TinyCifar little;
  const Bytes archive =
      tar({{"../../train.bin", little.files.at("train.bin")}, {"/etc/test.bin", little.files.at("test.bin")}});
  little.entry.downloads = {samples::download_of("little.tar.gz", archive)};
  from_ = samples::write(server_ / "little.tar.gz", archive);
  EXPECT_EQ(fetch(little.entry), to_ / "little-binary");
  EXPECT_FALSE(fs::exists(to_.path().parent_path().parent_path() / "train.bin"));
  EXPECT_EQ(std::distance(fs::directory_iterator(to_ / "little-binary"), {}), 2);
}

TEST_F(Fetch, SaysThatItCannotWrite) {
  FetchOptions o = options();
  o.to = samples::write(server_ / "file", {1});
  EXPECT_THAT(error_of([&] { fetch_dataset(samples::TinyIdx().entry, o); }),
              HasSubstr((server_ / "file").string() + " cannot be"));
  o.to = "";
  EXPECT_THAT(error_of([&] { fetch_dataset(samples::TinyIdx().entry, o); }), HasSubstr("give a folder with --to"));
}

}  // namespace
}  // namespace espalier
