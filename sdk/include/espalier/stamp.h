#pragma once

#include <cstdint>

#include "espalier/build_config.h"

namespace espalier {

// The build stamp of a plugin: plain bytes in the ELF section ".espalier.stamp", read before the library is loaded
// (loading would already run its code). All strings end with a zero byte. A change of this layout is a new
// stamp_version.
struct Stamp {
  char magic[16];          // "espalier-plugin"
  uint32_t stamp_version;  // of this struct
  uint32_t sdk_abi;        // ESPALIER_SDK_ABI: must be equal
  uint32_t cxx_abi;        // __GXX_ABI_VERSION
  uint32_t cxx11_strings;  // _GLIBCXX_USE_CXX11_ABI
  uint64_t cxx_standard;   // __cplusplus
  char compiler[16];       // family: "gcc", "clang"
  char libtorch[24];       // "2.11.0"
  char cuda[16];           // "13.0", "" without CUDA
  char name[64];           // of the plugin
  char version[24];        // of the plugin
};

// What begins every stamp.
inline constexpr char stamp_magic[16] = "espalier-plugin";
// The version of the layout of Stamp.
inline constexpr uint32_t stamp_version = 1;
// The ELF section that holds the stamp.
inline constexpr char stamp_section[] = ".espalier.stamp";

namespace detail {
template <unsigned N>
constexpr void copy_text(char (&to)[N], const char* from) {
  unsigned i = 0;
  for (; from[i] != 0; ++i) {
    if (i + 1 >= N) throw "text too long for the plugin stamp";  // a compile error in constant evaluation
    to[i] = from[i];
  }
}
}  // namespace detail

// Returns the stamp of what is being compiled. Texts that are too long are an error of the compiler.
constexpr Stamp make_stamp(const char* name, const char* version) {
  Stamp s{};
  detail::copy_text(s.magic, stamp_magic);
  s.stamp_version = stamp_version;
  s.sdk_abi = ESPALIER_SDK_ABI;
  s.cxx_abi = __GXX_ABI_VERSION;
#ifdef _GLIBCXX_USE_CXX11_ABI
  s.cxx11_strings = _GLIBCXX_USE_CXX11_ABI;
#endif
  s.cxx_standard = __cplusplus;
#ifdef __clang__
  detail::copy_text(s.compiler, "clang");
#else
  detail::copy_text(s.compiler, "gcc");
#endif
  detail::copy_text(s.libtorch, ESPALIER_TORCH_VERSION);
  detail::copy_text(s.cuda, ESPALIER_CUDA_VERSION);
  detail::copy_text(s.name, name);
  detail::copy_text(s.version, version);
  return s;
}

}  // namespace espalier
