// Python scripts for tests. Python needs seconds to load PyTorch, so one process loads it and makes a copy of itself
// for each script.
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "espalier/error.h"
#include "espalier/testkit.h"
#include "espalier/value.h"

namespace espalier::testkit {

namespace {

// Reads requests as lines of JSON: {script, arguments, folder, output, errors}, the last two being files; answers each
// with a line: the status of the copy.
constexpr const char* server = R"py(
import json, os, sys, traceback
try:
    import torch
    torch.optim.SGD([torch.zeros(1)])  # the first optimizer loads much more
except ImportError:
    pass

def carry_out(r):
    os.chdir(r["folder"])
    for stream, file in ((0, os.devnull), (1, r["output"]), (2, r["errors"])):
        os.dup2(os.open(file, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    sys.argv = ["script.py", *r["arguments"]]
    try:
        module = type(sys)("__main__")
        sys.modules["__main__"] = module
        exec(compile(r["script"], "script.py", "exec"), module.__dict__)
        return 0
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return e.code or 0
        print(e.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1

for line in sys.stdin:
    copy = os.fork()
    if copy == 0:
        status = carry_out(json.loads(line))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitpid(copy, 0)[1], flush=True)
)py";

std::string text_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

class Python {
 public:
  explicit Python(const std::string& program) {
    int in[2], out[2];  // of the process
    if (::pipe2(in, O_CLOEXEC) != 0) throw Error("no pipe: " + std::string(std::strerror(errno)));
    if (::pipe2(out, O_CLOEXEC) != 0) {
      ::close(in[0]), ::close(in[1]);
      throw Error("no pipe: " + std::string(std::strerror(errno)));
    }
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    std::vector<std::string> words{program, "-c", server};
    std::vector<char*> arguments, variables;
    for (std::string& w : words) arguments.push_back(w.data());
    arguments.push_back(nullptr);
    // Threads that spin while they wait take the cores from those they wait for, where other programs run too.
    std::string passive = "OMP_WAIT_POLICY=passive";
    variables.push_back(passive.data());
    for (char** v = environ; *v; ++v) variables.push_back(*v);
    variables.push_back(nullptr);
    const int error = ::posix_spawnp(&pid_, program.c_str(), &files, nullptr, arguments.data(), variables.data());
    ::posix_spawn_file_actions_destroy(&files);
    ::close(in[0]), ::close(out[1]);
    requests_ = ::fdopen(in[1], "w"), answers_ = ::fdopen(out[0], "r");
    if (error != 0) throw Error(program + ": cannot be started: " + std::strerror(error));
  }
  Python(const Python&) = delete;
  Python& operator=(const Python&) = delete;
  ~Python() {
    std::fclose(requests_);  // at which it ends
    std::fclose(answers_);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  }

  // The status of the script as waitpid() gives it.
  int run(const Value& request) {
    const auto before = ::signal(SIGPIPE, SIG_IGN);
    const bool sent = std::fputs((to_json(request) + "\n").c_str(), requests_) >= 0 && std::fflush(requests_) == 0;
    ::signal(SIGPIPE, before);
    char line[32];
    if (!sent || !std::fgets(line, sizeof line, answers_)) throw Error("Python ended before the script");
    return std::stoi(line);
  }

 private:
  pid_t pid_ = -1;
  FILE *requests_ = nullptr, *answers_ = nullptr;
};

}  // namespace

std::string run_python(const std::string& python, const std::string& script,
                       const std::vector<std::string>& arguments) {
  // Of this process: a copy of it cannot share the pipes.
  static std::map<std::pair<pid_t, std::string>, std::unique_ptr<Python>> all;
  std::unique_ptr<Python>& process = all[{::getpid(), python}];
  if (!process) process = std::make_unique<Python>(python);
  const std::string here = std::filesystem::temp_directory_path() / ("espalier-test-" + std::to_string(::getpid()));
  const std::string output = here + ".out", errors = here + ".err";
  Value words = Value::list();
  for (const std::string& a : arguments) words.push_back(a);
  int status = -1;
  try {
    status = process->run(Value::map({{"script", script},
                                      {"arguments", words},
                                      {"folder", std::filesystem::current_path().string()},
                                      {"output", output},
                                      {"errors", errors}}));
  } catch (...) {
    process.reset();  // the next script gets another
    throw;
  }
  const std::string complaint = text_of(errors);
  std::string printed = text_of(output);
  std::filesystem::remove(output);
  std::filesystem::remove(errors);
  if (status != 0) throw Error("the Python script failed: " + complaint + printed);
  return printed;
}

}  // namespace espalier::testkit
