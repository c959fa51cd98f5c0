#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <set>
#include <string>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

// What the two halves of the starter say to each other (README.md): the client sends a request, the server answers with
// the number of the process or `refused`, and at its end with the status that waitpid() gave.
namespace espalier::starter {

constexpr int32_t refused = -1;
constexpr const char* socket_variable = "ESPALIER_STARTER";  // path of the server's socket
constexpr size_t files = 4;                                  // standard input, output, error; working folder

// What a process hands on to a program that it starts, and what the copy of the server could not take over: limits,
// processors, rights, ignored signals, namespaces. Two processes that say the same start the same.
inline std::string circumstances() {
  std::string all;
  const auto add = [&](const char* file, auto&& wanted) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      if (wanted(line)) all += line + "\n";
    }
  };
  add("/proc/self/limits", [](const std::string&) { return true; });
  add("/proc/self/status", [](const std::string& line) {
    for (const char* name : {"Umask:", "Uid:", "Gid:", "Groups:", "SigIgn:", "CapEff:", "CapBnd:", "NoNewPrivs:",
                             "Seccomp:", "Cpus_allowed:"}) {
      if (line.starts_with(name)) return true;
    }
    return false;
  });
  for (const char* link : {"ns/mnt", "ns/net", "ns/user", "ns/pid", "root"}) {
    std::array<char, 256> target{};
    static_cast<void>(!::readlink((std::string("/proc/self/") + link).c_str(), target.data(), target.size() - 1));
    all += std::string(target.data()) + "\n";
  }
  return all + std::to_string(::getpriority(PRIO_PROCESS, 0)) + "\n";
}

// Whether libraries look at an environment variable while they are loaded, which the server did long ago.
inline bool is_for_loading(const std::string& variable) {
  for (const char* name : {"LD_", "OMP_", "GOMP_", "KMP_", "MKL_", "GLIBC_", "MALLOC_", "ATEN_", "ONEDNN_", "DNNL_",
                           "ASAN_", "UBSAN_", "LSAN_", "TSAN_", "TORCH_", "PYTORCH_", "CUDA_", "ESPALIER_ISA"}) {
    if (variable.starts_with(name)) return true;
  }
  return false;
}

// These variables, in an order of its own: shells change it.
inline std::string for_loading(char** variables) {
  std::set<std::string> wanted;
  for (char** v = variables; *v; ++v) {
    if (is_for_loading(*v)) wanted.insert(*v);
  }
  std::string all;
  for (const std::string& v : wanted) all += v + "\n";
  return all;
}

inline bool write_all(int socket, const void* data, size_t size) {
  const char* p = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::send(socket, p, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    p += n, size -= static_cast<size_t>(n);
  }
  return true;
}

inline bool read_all(int socket, void* data, size_t size) {
  char* p = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = ::recv(socket, p, size, 0);
    if (n <= 0) return false;
    p += n, size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace espalier::starter
