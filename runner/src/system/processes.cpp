#include "system/processes.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "espalier/error.h"
#include "espalier/log.h"

namespace espalier {

namespace {

// Of the one run_processes() at work, for its signal handlers.
volatile std::sig_atomic_t first_signal = 0;
volatile std::sig_atomic_t signals = 0;
int wake_pipe[2] = {-1, -1};

void wake() {
  const int was = errno;
  const char byte = 0;
  // Full: it is awake already.
  static_cast<void>(!::write(wake_pipe[1], &byte, 1));
  errno = was;
}

void on_stop(int signal) {
  if (first_signal == 0) first_signal = signal;
  signals = signals + 1;
  wake();
}

void on_child(int) {
  wake();
}

// Handlers for a scope. Waiting on a pipe, unlike blocking the signals, also works where libraries have threads.
class Handlers {
 public:
  Handlers() {
    first_signal = 0;
    signals = 0;
    if (::pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0) throw Error(std::string("no pipe: ") + std::strerror(errno));
    for (size_t i = 0; i < numbers.size(); ++i) {
      struct sigaction action {};
      action.sa_handler = numbers[i] == SIGCHLD ? on_child : on_stop;
      action.sa_flags = SA_RESTART;
      sigemptyset(&action.sa_mask);
      ::sigaction(numbers[i], nullptr, &before_[i]);
      // Started by nohup, or in the background of a script: stays as it was told.
      const bool ignored = before_[i].sa_handler == SIG_IGN && numbers[i] != SIGCHLD;
      if (!ignored) ::sigaction(numbers[i], &action, nullptr);
    }
  }
  Handlers(const Handlers&) = delete;
  Handlers& operator=(const Handlers&) = delete;
  ~Handlers() {
    for (size_t i = 0; i < numbers.size(); ++i) ::sigaction(numbers[i], &before_[i], nullptr);
    ::close(wake_pipe[0]);
    ::close(wake_pipe[1]);
  }
  // In a copy of this process: what the system does by itself.
  void leave() const {
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (before_[i].sa_handler != SIG_IGN) ::signal(numbers[i], SIG_DFL);
    }
  }
  static void wait() {
    pollfd p{wake_pipe[0], POLLIN, 0};
    ::poll(&p, 1, 250);
    std::array<char, 64> bytes{};
    while (::read(wake_pipe[0], bytes.data(), bytes.size()) > 0) {
    }
  }

 private:
  static constexpr std::array<int, 4> numbers = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};
  std::array<struct sigaction, 4> before_{};
};

// Frees what posix_spawn is told.
struct SpawnSettings {
  posix_spawn_file_actions_t files{};
  posix_spawnattr_t attributes{};
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
  }
};

[[noreturn]] void carry_out(const ProcessCommand& command) {
  const auto put = [](int file, int place) { return file >= 0 && ::dup2(file, place) >= 0; };
  const bool opened = put(::open("/dev/null", O_RDONLY), STDIN_FILENO) &&
                      put(::open(command.output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666), STDOUT_FILENO) &&
                      put(STDOUT_FILENO, STDERR_FILENO);
  int status = 1;
  try {
    if (opened) status = command.body();
  } catch (const std::exception& e) {
    log::error(e.what());
  }
  std::fflush(nullptr);
  ::_exit(status);  // what this process would do at its end is for the original
}

pid_t copy(const ProcessCommand& command, const Handlers& handlers) {
  std::fflush(nullptr);  // so that the copy does not write it again
  const pid_t pid = ::fork();
  if (pid < 0) throw Error(std::string("no further process can be started: ") + std::strerror(errno));
  ::setpgid(pid, pid == 0 ? 0 : pid);  // by both, whoever comes first
  if (pid > 0) return pid;
  handlers.leave();
  carry_out(command);
}

pid_t spawn(const ProcessCommand& command) {
  SpawnSettings settings;
  ::posix_spawn_file_actions_addopen(&settings.files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&settings.files, STDOUT_FILENO, command.output.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0666);
  ::posix_spawn_file_actions_adddup2(&settings.files, STDOUT_FILENO, STDERR_FILENO);
  ::posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETPGROUP);
  ::posix_spawnattr_setpgroup(&settings.attributes, 0);

  std::vector<std::string> arguments{"espalier"};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  std::vector<char*> pointers;
  for (std::string& a : arguments) pointers.push_back(a.data());
  pointers.push_back(nullptr);
  pid_t pid = 0;
  const int error =
      ::posix_spawn(&pid, command.program.c_str(), &settings.files, &settings.attributes, pointers.data(), environ);
  if (error != 0) {
    throw Error(command.program.string() + " (output to " + command.output.string() +
                "): cannot be started: " + std::strerror(error));
  }
  return pid;
}

struct Running {
  size_t index;
  pid_t pid;
};

// The status of an ended child; nothing while it runs.
std::optional<int> status_of(pid_t pid) {
  int status = 0;
  const pid_t ended = ::waitpid(pid, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return std::nullopt;
  if (ended < 0) return 255;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int run_processes(const ProcessQueue& queue) {
  const Handlers handlers;
  std::vector<Running> running;
  std::exception_ptr fault;
  size_t begun = 0;
  int passed_on = 0;
  bool over = false;
  const auto next = [&]() -> std::optional<size_t> {
    if (queue.next) return queue.next();
    return begun < queue.count ? std::optional(begun) : std::nullopt;
  };
  const auto stop = [&](int signal) {
    for (const Running& r : running) ::kill(signal == SIGKILL ? -r.pid : r.pid, signal);
  };
  while (true) {
    while (!fault && signals == 0 && !over && running.size() < queue.at_a_time) {
      try {
        const std::optional<size_t> index = next();
        if (!index) break;
        const ProcessCommand command = queue.start(*index);
        running.push_back({*index, command.body ? copy(command, handlers) : spawn(command)});
        ++begun;
      } catch (...) {
        fault = std::current_exception();
        stop(SIGTERM);
      }
    }
    if (running.empty()) break;
    queue.tick(running.size());
    Handlers::wait();
    if (!over && queue.over && queue.over()) {
      over = true;
      stop(SIGTERM);
    }
    if (signals > passed_on) {
      stop(passed_on == 0 ? SIGTERM : SIGKILL);
      passed_on = signals;
    }
    for (size_t i = 0; i < running.size();) {
      const std::optional<int> status = status_of(running[i].pid);
      if (!status) {
        ++i;
        continue;
      }
      const size_t index = running[i].index;
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
      try {
        queue.ended(index, *status);
      } catch (...) {
        if (!fault) fault = std::current_exception();
        stop(SIGTERM);
      }
    }
  }
  if (fault) std::rethrow_exception(fault);
  return first_signal;
}

}  // namespace espalier
