#include "espalier/isa.h"

#include <cstdlib>
#include <string>

#include "espalier/error.h"

namespace espalier {

namespace {

constexpr const char* names[] = {"baseline", "v3", "v4"};

Isa best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return Isa::v4;
  if (__builtin_cpu_supports("x86-64-v3")) return Isa::v3;
#endif
  return Isa::baseline;
}

Isa choose() {
  const char* wanted = std::getenv("ESPALIER_ISA");
  if (!wanted || !*wanted) return best();
  for (int i = 0; i < 3; ++i) {
    if (std::string(wanted) != names[i]) continue;
    if (static_cast<Isa>(i) > best())
      throw Error("ESPALIER_ISA=" + std::string(wanted) + ": this machine has no more than " +
                  names[static_cast<int>(best())]);
    return static_cast<Isa>(i);
  }
  throw Error("ESPALIER_ISA=" + std::string(wanted) + " is none of baseline, v3, v4");
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name() {
  return names[static_cast<int>(isa())];
}

}  // namespace espalier
