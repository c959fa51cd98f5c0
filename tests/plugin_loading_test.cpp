#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "espalier/plugin.h"
#include "plugins/compatibility.h"
#include "plugins/elf_stamp.h"
#include "plugins/loader.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

fs::path fixture(const std::string& name) {
  return fs::path(ESPALIER_FIXTURE_DIR) / ("lib" + name + ".so");
}

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

StampInFile stamp_in(const std::string& bytes) {
  std::istringstream in(bytes);
  return find_stamp(in);
}

// What is said about these bytes as a library; empty: nothing is wrong.
std::string complaint(const std::string& bytes) {
  try {
    stamp_in(bytes);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

// A fixture with another stamp.
std::string with_stamp(const fs::path& library, const std::function<void(Stamp&)>& change) {
  std::string bytes = bytes_of(library);
  StampInFile found = stamp_in(bytes);
  change(found.stamp);
  std::memcpy(bytes.data() + found.offset, &found.stamp, sizeof found.stamp);
  return bytes;
}

template <class T>
std::string with_bytes(std::string bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  return bytes;
}

template <size_t N>
void set_text(char (&to)[N], const std::string& text) {
  std::memset(to, 0, N);
  std::memcpy(to, text.data(), text.size());
}

std::string reasons(const PluginReport& report) {
  std::string all;
  for (const PluginProblem& p : report.problems) all += p.path.filename().string() + ": " + p.reason + "\n";
  return all;
}

TEST(ElfStamp, ReadsWhatThePluginWasBuiltWith) {
  const Stamp stamp = read_stamp(fixture("good"));
  EXPECT_STREQ(stamp.name, "good");
  EXPECT_STREQ(stamp.version, "1.2.3");
  EXPECT_EQ(stamp.sdk_abi, uint32_t{ESPALIER_SDK_ABI});
  EXPECT_STREQ(stamp.libtorch, ESPALIER_TORCH_VERSION);
  EXPECT_THAT(differences(stamp, program_stamp()), IsEmpty());
}

TEST(ElfStamp, SaysWhatAFileIsInstead) {
  const std::string good = bytes_of(fixture("good"));
  EXPECT_EQ(complaint(good), "");
  EXPECT_EQ(complaint(""), "is an empty file");
  EXPECT_THAT(complaint("INPUT(libother.so)\n"), HasSubstr("is not a shared library"));
  EXPECT_THAT(complaint("\x7f"), HasSubstr("is truncated"));
  EXPECT_THAT(complaint(good.substr(0, 40)), HasSubstr("is truncated"));
  EXPECT_THAT(complaint(with_bytes<unsigned char>(good, EI_CLASS, ELFCLASS32)), HasSubstr("32-bit"));
  EXPECT_THAT(complaint(with_bytes<unsigned char>(good, EI_DATA, ELFDATA2MSB)), HasSubstr("big-endian"));
  EXPECT_THAT(complaint(with_bytes<Elf64_Half>(good, offsetof(Elf64_Ehdr, e_machine), EM_RISCV)),
              HasSubstr("built for RISC-V"));
  EXPECT_THAT(complaint(with_bytes<Elf64_Half>(good, offsetof(Elf64_Ehdr, e_type), ET_REL)), HasSubstr("object file"));
  EXPECT_THAT(complaint(with_bytes<Elf64_Half>(good, offsetof(Elf64_Ehdr, e_type), ET_EXEC)),
              HasSubstr("is a program"));
  EXPECT_THAT(complaint(with_bytes<Elf64_Off>(good, offsetof(Elf64_Ehdr, e_shoff), 0)),
              HasSubstr("not an Espalier plugin"));
  EXPECT_THAT(complaint(with_bytes<Elf64_Off>(good, offsetof(Elf64_Ehdr, e_shoff), ~0ull - 63)),
              HasSubstr("truncated"));
  EXPECT_THAT(complaint(with_bytes<Elf64_Off>(good, offsetof(Elf64_Ehdr, e_phoff), ~0ull)), HasSubstr("truncated"));
}

// A hole in the middle: the file's end, with the table of sections, is there, and what is to be loaded is not.
TEST(ElfStamp, RefusesSegmentsBeyondTheFile) {
  const std::string good = bytes_of(fixture("good"));
  Elf64_Ehdr header;
  std::memcpy(&header, good.data(), sizeof header);
  int segments = 0;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    const size_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
    Elf64_Phdr segment;
    std::memcpy(&segment, good.data() + at, sizeof segment);
    if (segment.p_type != PT_LOAD) continue;
    ++segments;
    for (const uint64_t size : {uint64_t{good.size()} + 1, ~uint64_t{0}}) {
      Elf64_Phdr large = segment;
      large.p_filesz = large.p_memsz = size;
      EXPECT_THAT(complaint(with_bytes(good, at, large)), HasSubstr("is truncated"));
      if (segment.p_filesz == 0) continue;
      large = segment;
      large.p_offset = size;
      EXPECT_THAT(complaint(with_bytes(good, at, large)), HasSubstr("is truncated"));
      large = segment;
      large.p_memsz = 0;
      EXPECT_THAT(complaint(with_bytes(good, at, large)), HasSubstr("garbled segment"));
    }
  }
  EXPECT_GT(segments, 1);
}

TEST(ElfStamp, TellsOtherLayoutsAndGarbledStamps) {
  const fs::path good = fixture("good");
  auto changed = [&](const std::function<void(Stamp&)>& change) { return complaint(with_stamp(good, change)); };
  EXPECT_THAT(changed([](Stamp& s) { s.stamp_version = 9; }), AllOf(HasSubstr("newer"), HasSubstr("layout 9")));
  EXPECT_THAT(changed([](Stamp& s) { s.stamp_version = 0; }), AllOf(HasSubstr("older"), HasSubstr("rebuild")));
  EXPECT_THAT(changed([](Stamp& s) { s.magic[3] = 'x'; }), HasSubstr("magic"));
  EXPECT_THAT(changed([](Stamp& s) { std::memset(s.name, 'a', sizeof s.name); }),
              HasSubstr("garbled plugin stamp (name)"));
  EXPECT_THAT(changed([](Stamp& s) { s.version[0] = '\n'; }), HasSubstr("garbled plugin stamp (version)"));
  EXPECT_THAT(changed([](Stamp& s) { s.cuda[15] = 'x'; }), HasSubstr("garbled plugin stamp (CUDA version)"));
  EXPECT_THAT(changed([](Stamp& s) { set_text(s.name, ""); }), HasSubstr("empty name"));
}

TEST(ElfStamp, RefusesFilesThatCannotBeRead) {
  const TempFolder folder;
  EXPECT_THAT([&] { read_stamp(folder / "nothing.so"); }, ::testing::ThrowsMessage<Error>(HasSubstr("No such file")));
  EXPECT_THAT([&] { read_stamp(folder.path()); }, ::testing::ThrowsMessage<Error>(HasSubstr("is a folder")));
  EXPECT_THAT([&] { read_stamp("/dev/null"); }, ::testing::ThrowsMessage<Error>(HasSubstr("is not a file")));
}

TEST(ElfStamp, RefusesEveryTruncation) {
  const std::string good = bytes_of(fixture("good"));
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    const size_t size = i < 200 ? static_cast<size_t>(i) : random() % good.size();
    EXPECT_NE(complaint(good.substr(0, size)), "") << "of " << good.size() << " bytes only " << size;
  }
}

// Flipped bytes anywhere, mostly in the headers and tables: an Error or a stamp, never anything else.
TEST(ElfStamp, SurvivesEveryGarbledFile) {
  const std::string good = bytes_of(fixture("good"));
  Elf64_Ehdr header;
  std::memcpy(&header, good.data(), sizeof header);
  const size_t stamp = stamp_in(good).offset;
  std::vector<std::pair<size_t, size_t>> places = {{0, sizeof header},
                                                   {header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr)},
                                                   {header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr)},
                                                   {stamp, sizeof(Stamp)},
                                                   {0, good.size()}};
  std::mt19937 random(2);
  const unsigned char extremes[] = {0, 1, 0x7f, 0x80, 0xff};
  int refused = 0;
  for (int i = 0; i < 8000; ++i) {
    std::string bytes = good;
    const auto [from, size] = places[static_cast<size_t>(i) % places.size()];
    for (unsigned flips = 1 + random() % 8; flips > 0; --flips) {
      const unsigned char b = random() % 2 ? extremes[random() % 5] : static_cast<unsigned char>(random());
      // A run of bytes, so that whole numbers become huge.
      const size_t at = from + random() % size;
      for (size_t k = at; k < std::min(bytes.size(), at + 1 + random() % 8); ++k) bytes[k] = static_cast<char>(b);
    }
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    refused += !complaint(bytes).empty();
  }
  EXPECT_GT(refused, 3000);
}

TEST(PluginLoading, RegistersComponentsWithTheirOrigin) {
  const TempFolder folder;
  fs::copy_file(fixture("good"), folder / "libgood.so");
  folder.write("notes.txt", "not a library");
  Registry registry;
  const PluginReport report = load_plugins({folder.path()}, registry);
  EXPECT_EQ(reasons(report), "");
  ASSERT_EQ(report.plugins.size(), 1u);
  EXPECT_THAT(report.plugins[0].components,
              ElementsAre("regularizer 'fixture_fine'", "controller 'fixture_also_fine'"));
  const Registered& fine = registry.at("regularizer", "fixture_fine", {});
  EXPECT_EQ(fine.origin.plugin, "good");
  EXPECT_EQ(fine.origin.version, "1.2.3");
  EXPECT_EQ(fine.origin.path, (folder / "libgood.so").string());
  EXPECT_THROW(registry.check("regularizer", Value::map({{"use", "fixture_fine"}, {"weight", -1}})), InputError);
  EXPECT_EQ(registry.at("controller", "fixture_also_fine", {}).component.needs.size(), 1u);
}

TEST(PluginLoading, AcceptsASingleLibraryAndLoadsAFileOnce) {
  const TempFolder folder;
  fs::copy_file(fixture("good"), folder / "libgood.so");
  fs::create_symlink(folder / "libgood.so", folder / "libsame.so");
  Registry registry;
  const PluginReport report =
      load_plugins({folder / "libgood.so", folder.path(), folder / "." / "libgood.so"}, registry);
  EXPECT_EQ(reasons(report), "");
  EXPECT_EQ(report.plugins.size(), 1u);
  EXPECT_THAT(report.notes, IsEmpty());
}

TEST(PluginLoading, OfTwoPluginsOfOneNameTheFirstCounts) {
  const TempFolder first, second;
  fs::copy_file(fixture("good"), first / "libgood.so");
  fs::copy_file(fixture("good"), second / "libother.so");
  Registry registry;
  const PluginReport report = load_plugins({first.path(), second.path()}, registry);
  EXPECT_EQ(reasons(report), "");
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_EQ(report.notes[0].path, second / "libother.so");
  EXPECT_THAT(report.notes[0].reason, HasSubstr((first / "libgood.so").string()));
  EXPECT_EQ(registry.at("regularizer", "fixture_fine", {}).origin.path, (first / "libgood.so").string());
}

TEST(PluginLoading, APluginThatFailsDoesNotHideAnotherOfItsName) {
  const TempFolder first, second;
  first.write("libgood.so", with_stamp(fixture("null_descriptor"), [](Stamp& s) { set_text(s.name, "good"); }));
  fs::copy_file(fixture("good"), second / "libgood.so");
  Registry registry;
  const PluginReport report = load_plugins({first.path(), second.path()}, registry);
  EXPECT_EQ(report.problems.size(), 1u);
  EXPECT_NE(registry.find("regularizer", "fixture_fine"), nullptr);
}

TEST(PluginLoading, KeepsTheGoodComponentsOfAPluginWithBadOnes) {
  Registry registry;
  const PluginReport report = load_plugins({fixture("one_bad_component")}, registry);
  EXPECT_THAT(registry.names("optimizer"), ElementsAre("fixture_first", "fixture_last"));
  const std::string said = reasons(report);
  EXPECT_EQ(report.problems.size(), 5u) << said;
  EXPECT_THAT(said, HasSubstr("skipped optimizer 'fixture_first': optimizer 'fixture_first' is already offered by "
                              "plugin one_bad_component"));
  EXPECT_THAT(
      said,
      HasSubstr("skipped optimizer 'fixture_twice': optimizer 'fixture_twice' declares the parameter 'lr' twice"));
  EXPECT_THAT(said, HasSubstr("is of an unknown kind (did you mean 'optimizer'?)"));
  EXPECT_THAT(said, HasSubstr("has no factory"));
  EXPECT_THAT(said, HasSubstr("its own default is not allowed"));
}

TEST(PluginLoading, ReportsFaultsOfOnePluginAndLoadsTheOthers) {
  const TempFolder folder;
  for (const char* name : {"throwing_entry", "null_descriptor", "no_entry", "undefined_symbol", "good"}) {
    fs::copy_file(fixture(name), folder / ("lib" + std::string(name) + ".so"));
  }
  folder.write("libtext.so", "INPUT(libgood.so)\n");
  folder.write("libempty.so", "");
  folder.write("libhalf.so", bytes_of(fixture("good")).substr(0, bytes_of(fixture("good")).size() / 2));
  fs::create_directory(folder / "libfolder.so");
  fs::create_symlink(folder / "nowhere", folder / "libdangling.so");
  Dl_info sdk{};
  ASSERT_NE(dladdr(reinterpret_cast<const void*>(&Registry::instance), &sdk), 0);
  fs::copy_file(sdk.dli_fname, folder / "libordinary.so");

  Registry registry;
  const PluginReport report = load_plugins({folder.path()}, registry);
  const std::string said = reasons(report);
  EXPECT_NE(registry.find("regularizer", "fixture_fine"), nullptr);
  EXPECT_EQ(report.plugins.size(), 1u);
  EXPECT_EQ(report.problems.size(), 10u) << said;
  EXPECT_THAT(said, HasSubstr("libthrowing_entry.so: espalier_plugin() threw: no component today"));
  EXPECT_THAT(said, HasSubstr("libnull_descriptor.so: espalier_plugin() returned nothing"));
  EXPECT_THAT(said, HasSubstr("libno_entry.so: does not export espalier_plugin()"));
  EXPECT_THAT(said, HasSubstr("libundefined_symbol.so: cannot be loaded: "));
  EXPECT_THAT(said, HasSubstr("defined_nowhere"));
  EXPECT_THAT(said, Not(HasSubstr("boost")));
  EXPECT_THAT(said, HasSubstr("libtext.so: is not a shared library"));
  EXPECT_THAT(said, HasSubstr("libempty.so: is an empty file"));
  EXPECT_THAT(said, HasSubstr("libhalf.so: is truncated"));
  EXPECT_THAT(said, HasSubstr("libfolder.so: is a folder"));
  EXPECT_THAT(said, HasSubstr("libdangling.so: cannot be read: No such file"));
  EXPECT_THAT(said, HasSubstr("libordinary.so: is not an Espalier plugin"));
}

TEST(PluginLoading, NamesEveryDifferenceAndTheCommandThatRebuilds) {
  const Stamp mine = program_stamp();
  auto change = [](Stamp& s) {
    s.sdk_abi = ESPALIER_SDK_ABI + 2;
    set_text(s.libtorch, "1.13.1");
    set_text(s.cuda, *ESPALIER_CUDA_VERSION ? "" : "11.8");
    set_text(s.compiler, "icc");
    s.cxx_standard = 201703;
    s.cxx11_strings ^= 1;
    s.cxx_abi += 1;
  };
  const TempFolder folder;
  folder.write("libgood.so", with_stamp(fixture("good"), change));
  Registry registry;
  const PluginReport report = load_plugins({folder.path()}, registry);
  EXPECT_THAT(registry.all(), IsEmpty());
  EXPECT_THAT(report.plugins, IsEmpty());
  const std::string said = reasons(report);
  EXPECT_THAT(said, HasSubstr("plugin good 1.2.3"));
  EXPECT_THAT(said, HasSubstr("SDK ABI " + std::to_string(ESPALIER_SDK_ABI + 2) + ", this program has " +
                              std::to_string(ESPALIER_SDK_ABI)));
  EXPECT_THAT(said, HasSubstr("LibTorch 1.13.1, this program has " ESPALIER_TORCH_VERSION));
  EXPECT_THAT(said, HasSubstr(*ESPALIER_CUDA_VERSION ? "no CUDA, this program has " ESPALIER_CUDA_VERSION
                                                     : "CUDA 11.8, this program has none"));
  EXPECT_THAT(said, HasSubstr("compiler icc, this program has " + std::string(mine.compiler)));
  EXPECT_THAT(said, HasSubstr("C++ standard 17, this program has 20"));
  EXPECT_THAT(said, HasSubstr("C++ ABI"));
  EXPECT_THAT(said, HasSubstr("_GLIBCXX_USE_CXX11_ABI"));
  EXPECT_THAT(said, HasSubstr("cmake --build build"));
}

TEST(PluginLoading, EachDifferenceAloneIsEnough) {
  const std::vector<std::function<void(Stamp&)>> changes = {[](Stamp& s) { s.sdk_abi -= 1; },
                                                            [](Stamp& s) { s.sdk_abi += 1; },
                                                            [](Stamp& s) { set_text(s.libtorch, "9.9"); },
                                                            [](Stamp& s) { set_text(s.cuda, "9.9"); },
                                                            [](Stamp& s) { s.cxx_abi += 1; },
                                                            [](Stamp& s) { s.cxx11_strings ^= 1; },
                                                            [](Stamp& s) { s.cxx_standard += 1; },
                                                            [](Stamp& s) { set_text(s.compiler, "other"); }};
  for (size_t i = 0; i < changes.size(); ++i) {
    Stamp plugin = program_stamp();
    changes[i](plugin);
    EXPECT_EQ(differences(plugin, program_stamp()).size(), 1u) << i;
  }
}

TEST(PluginLoading, RunsNoCodeOfARejectedLibrary) {
  const TempFolder folder;
  const fs::path marker = folder / "marker";
  setenv("ESPALIER_TEST_MARKER", marker.c_str(), 1);
  folder.write("rejected/libstatic_initialiser.so",
               with_stamp(fixture("static_initialiser"), [](Stamp& s) { s.sdk_abi += 1; }));
  Registry registry;
  EXPECT_EQ(load_plugins({folder / "rejected"}, registry).problems.size(), 1u);
  EXPECT_FALSE(fs::exists(marker));
  // The same library does write it where its stamp fits.
  folder.write("accepted/libstatic_initialiser.so", bytes_of(fixture("static_initialiser")));
  EXPECT_THAT(load_plugins({folder / "accepted"}, registry).problems, IsEmpty());
  EXPECT_TRUE(fs::exists(marker));
  unsetenv("ESPALIER_TEST_MARKER");
}

struct AnyController : Object {
  static constexpr const char* kind = "controller";
};

TEST(PluginLoading, LabelsWhatAFactoryThrows) {
  Registry registry;
  EXPECT_EQ(reasons(load_plugins({fixture("throwing_factory")}, registry)), "");
  Value spec = Value::map({{"use", "fixture_throws"}});
  spec.location = {std::make_shared<std::string>("a.yaml"), 7, 3};
  EXPECT_THAT(
      [&] { registry.create<AnyController>(spec); },
      ::testing::ThrowsMessage<Error>(AllOf(HasSubstr("a.yaml:7:3: "), HasSubstr("controller 'fixture_throws'"),
                                            HasSubstr("plugin throwing_factory 2.0.0"), HasSubstr("wrong phase"))));
  spec["use"] = "fixture_throws_number";
  EXPECT_THAT([&] { registry.create<AnyController>(spec); },
              ::testing::ThrowsMessage<Error>(HasSubstr("no std::exception")));
}

TEST(PluginLoading, AMissingFolderIsAnErrorThatNamesIt) {
  Registry registry;
  EXPECT_THAT([&] { load_plugins({"/no/such/folder"}, registry); },
              ::testing::ThrowsMessage<Error>(HasSubstr("/no/such/folder")));
}

TEST(PluginSearchPath, FlagsThenVariableThenTheProgramsOwn) {
  setenv("ESPALIER_PLUGINS", "/one::/two", 1);
  const auto path = plugin_search_path({"/flag"});
  unsetenv("ESPALIER_PLUGINS");
  ASSERT_GE(path.size(), 3u);
  EXPECT_EQ(path[0], "/flag");
  EXPECT_EQ(path[1], "/one");
  EXPECT_EQ(path[2], "/two");
  ASSERT_EQ(path.size(), 4u);
  EXPECT_TRUE(fs::equivalent(path[3], ESPALIER_PLUGIN_DIR));
}

}  // namespace
}  // namespace espalier
