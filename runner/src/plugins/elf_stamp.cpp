#include "plugins/elf_stamp.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <elf.h>

#include "espalier/error.h"

namespace espalier {

namespace {

#if defined(__aarch64__)
constexpr Elf64_Half native_machine = EM_AARCH64;
#else
constexpr Elf64_Half native_machine = EM_X86_64;
#endif

const char* machine_name(Elf64_Half machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "32-bit ARM";
    case EM_AARCH64:
      return "64-bit ARM";
    case EM_PPC64:
      return "64-bit POWER";
    case EM_RISCV:
      return "RISC-V";
    case EM_S390:
      return "IBM Z";
    default:
      return "an unknown processor";
  }
}

// A file of which only ranges inside it can be read.
class Image {
 public:
  explicit Image(std::istream& in) : in_(in) {
    in_.seekg(0, std::ios::end);
    const auto end = static_cast<std::streamoff>(in_.tellg());
    if (!in_ || end < 0) throw Error("cannot be read");
    size_ = static_cast<uint64_t>(end);
  }

  uint64_t size() const { return size_; }
  // Written so that no sum can overflow.
  bool holds(uint64_t offset, uint64_t size) const { return offset <= size_ && size <= size_ - offset; }

  void read(uint64_t offset, void* to, size_t size) {
    if (!holds(offset, size)) throw Error("is truncated");
    in_.seekg(static_cast<std::streamoff>(offset));
    in_.read(static_cast<char*>(to), static_cast<std::streamsize>(size));
    if (!in_) throw Error("cannot be read to its end");
  }

  template <class T>
  std::vector<T> table(uint64_t offset, size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    // Before the memory is taken: a garbled count must not cost gigabytes.
    if (!holds(offset, static_cast<uint64_t>(count) * sizeof(T))) throw Error("is truncated");
    std::vector<T> result(count);
    if (count > 0) read(offset, result.data(), count * sizeof(T));
    return result;
  }

 private:
  std::istream& in_;
  uint64_t size_ = 0;
};

Elf64_Ehdr read_header(Image& image) {
  if (image.size() == 0) throw Error("is an empty file");
  std::array<unsigned char, EI_NIDENT> ident{};
  image.read(0, ident.data(), std::min<uint64_t>(ident.size(), image.size()));
  if (std::memcmp(ident.data(), ELFMAG, std::min<uint64_t>(SELFMAG, image.size())) != 0) {
    throw Error("is not a shared library (it does not begin as an ELF file does)");
  }
  if (image.size() < EI_NIDENT) throw Error("is truncated");
  if (ident[EI_CLASS] == ELFCLASS32) throw Error("is a 32-bit library; plugins are 64-bit ones");
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_VERSION] != EV_CURRENT) throw Error("has a garbled ELF header");
  if (ident[EI_DATA] != ELFDATA2LSB) throw Error("is built for a big-endian processor");

  Elf64_Ehdr header;
  image.read(0, &header, sizeof header);
  if (header.e_machine != native_machine) {
    throw Error(std::string("is built for ") + machine_name(header.e_machine) + ", this program for " +
                machine_name(native_machine));
  }
  if (header.e_type == ET_REL) throw Error("is an object file, not a shared library");
  if (header.e_type == ET_EXEC) throw Error("is a program, not a shared library");
  if (header.e_type == ET_CORE) throw Error("is a core dump, not a shared library");
  if (header.e_type != ET_DYN) throw Error("has a garbled ELF header");
  return header;
}

// What the system's loader maps into memory has to be in the file: a page beyond its end ends the process when it is
// touched.
void check_segments(Image& image, const Elf64_Ehdr& header) {
  if (header.e_phnum == 0 || header.e_phentsize != sizeof(Elf64_Phdr)) throw Error("has a garbled ELF header");
  bool loads = false;
  for (const Elf64_Phdr& segment : image.table<Elf64_Phdr>(header.e_phoff, header.e_phnum)) {
    if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) continue;
    loads |= segment.p_type == PT_LOAD;
    if (!image.holds(segment.p_offset, segment.p_filesz)) {
      throw Error("is truncated: the file ends before what it says to load");
    }
    if (segment.p_filesz > segment.p_memsz) throw Error("has a garbled segment");
  }
  if (!loads) throw Error("has nothing to load");
}

template <size_t N>
void check_text(const char (&text)[N], const char* what) {
  const char* end = std::find(text, text + N, '\0');
  const bool printable = std::all_of(text, end, [](char c) { return c > ' ' && c < 127; });
  // make_stamp() leaves zeros behind the text.
  const bool padded = end != text + N && std::all_of(end, text + N, [](char c) { return c == '\0'; });
  if (!printable || !padded) throw Error(std::string("has a garbled plugin stamp (") + what + ")");
}

Stamp read_section(Image& image, const Elf64_Shdr& section) {
  // The magic and the layout's number come first in every layout.
  constexpr size_t common = offsetof(Stamp, sdk_abi);
  if (section.sh_type != SHT_PROGBITS || section.sh_size < common) throw Error("has a garbled plugin stamp (section)");
  Stamp stamp{};
  image.read(section.sh_offset, &stamp, common);
  if (std::memcmp(stamp.magic, stamp_magic, sizeof stamp_magic) != 0) throw Error("has a garbled plugin stamp (magic)");
  if (stamp.stamp_version != stamp_version) {
    const bool newer = stamp.stamp_version > stamp_version;
    throw Error("is built with " + std::string(newer ? "a newer" : "an older") + " Espalier: its stamp has layout " +
                std::to_string(stamp.stamp_version) + ", this program reads " + std::to_string(stamp_version) +
                (newer ? "; update Espalier, or" : ";") + " rebuild the plugin with this program's SDK");
  }
  if (section.sh_size != sizeof stamp) throw Error("has a garbled plugin stamp (size)");
  image.read(section.sh_offset, &stamp, sizeof stamp);
  check_text(stamp.compiler, "compiler");
  check_text(stamp.libtorch, "LibTorch version");
  check_text(stamp.cuda, "CUDA version");
  check_text(stamp.name, "name");
  check_text(stamp.version, "version");
  if (stamp.name[0] == 0) throw Error("has a garbled plugin stamp (empty name)");
  return stamp;
}

// Among the names of the libraries that it needs.
std::string sanitizer_in(Image& image, const std::vector<Elf64_Shdr>& sections) {
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_DYNAMIC || section.sh_link >= sections.size()) continue;
    const Elf64_Shdr& table = sections[section.sh_link];
    if (table.sh_type != SHT_STRTAB) continue;
    const auto bytes = image.table<char>(table.sh_offset, table.sh_size);
    const std::string_view names(bytes.data(), bytes.size());
    const size_t begin = names.find("libasan.so");
    if (begin != std::string_view::npos) return std::string(names.substr(begin, names.find('\0', begin) - begin));
  }
  return {};
}

}  // namespace

StampInFile find_stamp(std::istream& library) {
  Image image(library);
  const Elf64_Ehdr header = read_header(image);
  check_segments(image, header);

  if (header.e_shoff == 0 || header.e_shnum == 0)
    throw Error("is not an Espalier plugin: it has no sections, so no stamp");
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shstrndx >= header.e_shnum)
    throw Error("has a garbled ELF header");
  const auto sections = image.table<Elf64_Shdr>(header.e_shoff, header.e_shnum);
  const Elf64_Shdr& names_section = sections[header.e_shstrndx];
  if (names_section.sh_type != SHT_STRTAB) throw Error("has a garbled table of section names");
  const auto names = image.table<char>(names_section.sh_offset, names_section.sh_size);

  const Elf64_Shdr* found = nullptr;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_NOBITS && section.sh_type != SHT_NULL &&
        !image.holds(section.sh_offset, section.sh_size)) {
      throw Error("is truncated: a section ends beyond the file");
    }
    if (section.sh_name >= names.size()) throw Error("has a garbled table of section names");
    const char* name = names.data() + section.sh_name;
    if (std::string_view(name, strnlen(name, names.size() - section.sh_name)) != stamp_section) continue;
    if (found) throw Error("has two plugin stamps");
    found = &section;
  }
  if (!found) throw Error("is not an Espalier plugin: it has no stamp (does a source file say ESPALIER_PLUGIN(...)?)");
  return {read_section(image, *found), found->sh_offset, sanitizer_in(image, sections)};
}

StampInFile find_stamp(const std::filesystem::path& library) {
  std::error_code error;
  const auto type = std::filesystem::status(library, error).type();
  if (type == std::filesystem::file_type::directory) throw Error("is a folder, not a shared library");
  // A pipe or a device would be waited for.
  if (!error && type != std::filesystem::file_type::regular) throw Error("is not a file");
  errno = 0;
  std::ifstream in(library, std::ios::binary);
  if (!in) throw Error("cannot be read: " + std::generic_category().message(errno));
  return find_stamp(in);
}

Stamp read_stamp(const std::filesystem::path& library) {
  return find_stamp(library).stamp;
}

}  // namespace espalier
