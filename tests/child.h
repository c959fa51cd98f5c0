#pragma once

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace espalier {

// The program as a child that can be sent signals; what it says goes to a file. variables: "NAME=VALUE", beside those
// of this process.
class Child {
 public:
  Child(const std::vector<std::string>& arguments, const std::filesystem::path& says,
        std::vector<std::string> variables = {}) {
    std::vector<std::string> all{ESPALIER_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv, environment;
    for (std::string& a : all) argv.push_back(a.data());
    argv.push_back(nullptr);
    for (std::string& v : variables) environment.push_back(v.data());
    for (char** v = environ; *v; ++v) environment.push_back(*v);
    environment.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, says.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    if (posix_spawn(&pid_, ESPALIER_PROGRAM, &files, nullptr, argv.data(), environment.data()) != 0) pid_ = -1;
    posix_spawn_file_actions_destroy(&files);
  }
  // Its exit status, 128 + signal, or -1 while it is still running.
  int poll() {
    int status = 0;
    if (status_ < 0 && waitpid(pid_, &status, WNOHANG) == pid_)
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return status_;
  }
  int wait() {
    for (int status = poll();; status = poll()) {
      if (status >= 0) return status;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  void send(int signal) {
    if (poll() < 0) kill(pid_, signal);
  }

 private:
  pid_t pid_ = -1;
  int status_ = -1;
};

}  // namespace espalier
