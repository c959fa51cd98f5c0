#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "system/scratch_folder.h"

namespace espalier {

// Starts a server for a program (README.md), which ends with this process, and gives the words of a shell command that
// stand for the program. Where there is no server, as under a sanitizer, they are the program itself.
inline std::string start_server([[maybe_unused]] const std::string& program) {
  std::string itself = "'" + program + "'";
#ifdef ESPALIER_STARTER_LIBRARY
  static const ScratchFolder folder;
  const std::filesystem::path socket = folder.path() / "socket";
  int alive[2];  // the server sees that this process has ended
  if (::pipe2(alive, O_CLOEXEC) != 0) return itself;
  std::string words[] = {program};
  char* arguments[] = {words[0].data(), nullptr};
  std::string preload = "LD_PRELOAD=" ESPALIER_STARTER_LIBRARY, path = "ESPALIER_STARTER=" + socket.string();
  std::vector<char*> environment{preload.data(), path.data()};
  for (char** v = environ; *v; ++v) {
    if (!std::string_view(*v).starts_with("LD_PRELOAD=")) environment.push_back(*v);
  }
  environment.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, alive[0], STDIN_FILENO);
  pid_t server = -1;
  const int error = ::posix_spawn(&server, program.c_str(), &files, nullptr, arguments, environment.data());
  ::posix_spawn_file_actions_destroy(&files);
  ::close(alive[0]);
  if (error != 0) return itself;
  while (!std::filesystem::exists(socket)) {
    if (::waitpid(server, nullptr, WNOHANG) != 0) return itself;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::setenv("ESPALIER_STARTER", socket.c_str(), 1);
  return "'" ESPALIER_STARTER_CLIENT "' " + itself;
#else
  return itself;
#endif
}

}  // namespace espalier
