// espalier_start PROGRAM ARGUMENTS...: does what PROGRAM ARGUMENTS... does, from a copy of the server (README.md) where
// that comes to the same, and by starting the program otherwise.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol.h"

namespace {

namespace starter = espalier::starter;

volatile pid_t process = 0;  // of the program, for the handler

void pass_on(int signal) {
  const int was = errno;
  ::kill(process, signal);
  errno = was;
}

void add(std::string& message, const std::string& s) {
  const auto size = static_cast<uint32_t>(s.size());
  message.append(reinterpret_cast<const char*>(&size), sizeof size).append(s);
}

void add(std::string& message, char** strings, size_t count) {
  const auto size = static_cast<uint32_t>(count);
  message.append(reinterpret_cast<const char*>(&size), sizeof size);
  for (size_t i = 0; i < count; ++i) add(message, strings[i]);
}

int connect_to(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) return -1;
  std::strcpy(address.sun_path, path);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return socket;
  ::close(socket);
  return -1;
}

bool send_request(int socket, int argc, char** argv) {
  const std::array<int, starter::files> files{STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO,
                                              ::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  pid_t group = ::getpgrp();
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof files)] = {};
  iovec part{&group, sizeof group};
  msghdr message{};
  message.msg_iov = &part, message.msg_iovlen = 1, message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof files);
  std::memcpy(CMSG_DATA(header), files.data(), sizeof files);
  if (::sendmsg(socket, &message, MSG_NOSIGNAL) != sizeof group) return false;  // as where a file is closed
  std::string rest;
  add(rest, starter::circumstances());
  add(rest, starter::for_loading(environ));
  add(rest, argv, static_cast<size_t>(argc));
  size_t variables = 0;
  while (environ[variables]) ++variables;
  add(rest, environ, variables);
  return starter::write_all(socket, rest.data(), rest.size());
}

// The status of the program as waitpid() gives it; -1 where the server does not carry it out.
int from_server(const char* path, int argc, char** argv) {
  const int socket = connect_to(path);
  if (socket < 0) return -1;
  // Signals wait until there is a process to which they can be passed on.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  int32_t answer = starter::refused;
  const bool carried_out = send_request(socket, argc, argv) && starter::read_all(socket, &answer, sizeof answer) &&
                           answer != starter::refused;
  if (carried_out) {
    process = answer;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2}) {
      struct sigaction action {};
      ::sigaction(signal, nullptr, &action);
      if (action.sa_handler == SIG_IGN) continue;
      action.sa_handler = pass_on, action.sa_flags = SA_RESTART;
      ::sigaction(signal, &action, nullptr);
    }
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  int32_t status = -1;
  if (carried_out && !starter::read_all(socket, &status, sizeof status)) ::_exit(255);  // the server was killed
  ::close(socket);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (const char* path = std::getenv(starter::socket_variable)) {
    const std::string server = path;
    ::unsetenv(starter::socket_variable);
    const int status = from_server(server.c_str(), argc - 1, argv + 1);
    if (status >= 0 && WIFEXITED(status)) return WEXITSTATUS(status);
    if (status >= 0) {  // ends as the program did
      const rlimit none{0, 0};
      ::setrlimit(RLIMIT_CORE, &none);
      ::signal(WTERMSIG(status), SIG_DFL);
      ::raise(WTERMSIG(status));
      return 128 + WTERMSIG(status);
    }
  }
  ::execv(argv[1], argv + 1);
  return 127;
}
