// Loaded before a program (LD_PRELOAD) with ESPALIER_STARTER=SOCKET: instead of its main function, once all libraries
// are loaded, it serves a socket and makes a copy of the process for each request, in which main begins. README.md says
// why.
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol.h"

namespace {

using Main = int (*)(int, char**, char**);
using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);

namespace starter = espalier::starter;

struct Request {
  std::array<int, starter::files> files{};
  pid_t group = 0;
  std::string circumstances, for_loading;
  std::vector<std::string> arguments, variables;
};

bool read_string(int socket, std::string& s) {
  uint32_t size = 0;
  if (!starter::read_all(socket, &size, sizeof size)) return false;
  s.resize(size);
  return starter::read_all(socket, s.data(), size);
}

bool read_strings(int socket, std::vector<std::string>& all) {
  uint32_t count = 0;
  if (!starter::read_all(socket, &count, sizeof count)) return false;
  all.resize(count);
  for (std::string& s : all) {
    if (!read_string(socket, s)) return false;
  }
  return true;
}

bool read_request(int socket, Request& r) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof r.files)];
  iovec part{&r.group, sizeof r.group};
  msghdr message{};
  message.msg_iov = &part, message.msg_iovlen = 1, message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof r.group) return false;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_len != CMSG_LEN(sizeof r.files)) return false;
  std::memcpy(r.files.data(), CMSG_DATA(header), sizeof r.files);
  return read_string(socket, r.circumstances) && read_string(socket, r.for_loading) &&
         read_strings(socket, r.arguments) && read_strings(socket, r.variables);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> all;
  for (std::string& s : strings) all.push_back(s.data());
  all.push_back(nullptr);
  return all;
}

[[noreturn]] void begin(Main program, Request& r) {
  ::setpgid(0, r.group);  // so that signals to the client's group arrive
  for (int i = 0; i < 3; ++i) ::dup2(r.files[static_cast<size_t>(i)], i);
  if (::fchdir(r.files[3]) != 0) ::_exit(126);
  std::vector<char*> arguments = pointers(r.arguments), variables = pointers(r.variables);
  environ = variables.data();
  std::exit(program(static_cast<int>(r.arguments.size()), arguments.data(), environ));
}

// In a process for this request: starts the copy, tells the client its number and at its end its status.
void serve(Main program, int socket, const std::string& circumstances, const std::string& for_loading) {
  Request r;
  if (!read_request(socket, r)) return;
  int32_t answer = starter::refused;
  pid_t copy = -1;
  if (r.circumstances == circumstances && r.for_loading == for_loading) {
    copy = ::fork();
    if (copy == 0) {
      ::close(socket);
      begin(program, r);
    }
    answer = copy;
  }
  for (const int file : r.files) ::close(file);
  if (!starter::write_all(socket, &answer, sizeof answer) || copy < 0) return;
  const auto handle = static_cast<int>(::syscall(SYS_pidfd_open, copy, 0));
  std::array<pollfd, 2> both{{{handle, POLLIN, 0}, {socket, POLLIN, 0}}};
  while (::poll(both.data(), both.size(), -1) < 0 && errno == EINTR) {
  }
  if (both[0].revents == 0) ::kill(copy, SIGKILL);  // the client is gone: it was killed
  int32_t status = 0;
  while (::waitpid(copy, &status, 0) < 0 && errno == EINTR) {
  }
  starter::write_all(socket, &status, sizeof status);
}

std::string path_of_socket;
Main the_program = nullptr;

int serve_all(int, char**, char**) {
  const std::string circumstances = starter::circumstances(), for_loading = starter::for_loading(environ);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_of_socket.size() >= sizeof address.sun_path) return 2;
  std::memcpy(address.sun_path, path_of_socket.c_str(), path_of_socket.size() + 1);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(listener, 64) != 0)
    return 2;
  ::signal(SIGCHLD, SIG_IGN);  // nobody waits for the processes of the requests
  std::array<pollfd, 2> both{{{listener, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}}};
  while (true) {
    if (::poll(both.data(), both.size(), -1) < 0) continue;
    if (both[1].revents != 0) return 0;  // whoever started the server is gone
    const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    if (::fork() == 0) {
      ::signal(SIGCHLD, SIG_DFL);
      ::close(listener);
      serve(the_program, socket, circumstances, for_loading);
      ::_exit(0);
    }
    ::close(socket);
  }
}

}  // namespace

// The function of the C library that calls main, by its own name.
// NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" __attribute__((visibility("default"))) int __libc_start_main(Main program, int argc, char** argv,
                                                                        void (*init)(), void (*fini)(),
                                                                        void (*rtld_fini)(), void* stack_end) {
  const auto start = reinterpret_cast<Start>(::dlsym(RTLD_NEXT, "__libc_start_main"));
  if (const char* path = std::getenv(starter::socket_variable)) {
    path_of_socket = path;
    the_program = program;
    program = serve_all;
    ::unsetenv(starter::socket_variable);
    ::unsetenv("LD_PRELOAD");
  }
  return start(program, argc, argv, init, fini, rtld_fini, stack_end);
}
