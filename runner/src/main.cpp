#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <unistd.h>

#include "commands/bench.h"
#include "commands/check.h"
#include "commands/data.h"
#include "commands/describe.h"
#include "commands/export.h"
#include "commands/install.h"
#include "commands/latency.h"
#include "commands/new.h"
#include "commands/plugins.h"
#include "commands/prune.h"
#include "commands/recipe_commands.h"
#include "commands/report.h"
#include "commands/reproduce.h"
#include "commands/resume.h"
#include "commands/runs.h"
#include "commands/schema.h"
#include "commands/show.h"
#include "espalier/build_config.h"
#include "espalier/log.h"
#include "espalier/value.h"
#include "system/interrupt.h"
#include "system/tensor_memory.h"

namespace {

// What is wrong with the name of the command, or of the part of one such as `data`; empty: nothing.
std::string unknown_command(const CLI::App& app, const std::string& so_far, int argc, char** argv) {
  const std::string given = argc > 1 ? argv[1] : "";
  if (given.empty() || given.starts_with('-')) return "";
  std::vector<std::string> names;
  const CLI::App* found = nullptr;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    names.push_back(command->get_name());
    if (names.back() == given) found = command;
  }
  if (names.empty()) return "";
  if (found) return unknown_command(*found, so_far + given + " ", argc - 1, argv + 1);
  return "there is no command '" + so_far + given + "'" + espalier::suggestion(given, names);
}

int carry_out(int argc, char** argv) {
  // Tensors come and go every step: keep their memory instead of handing it back to the system and faulting it in
  // again.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
  espalier::keep_tensor_memory();

  CLI::App app("Espalier trains neural networks and their structure at once, from recipes, through plugins.",
               "espalier");
  app.set_version_flag("--version", "espalier " ESPALIER_VERSION " (LibTorch " ESPALIER_TORCH_VERSION ")");
  app.require_subcommand(1);
  espalier::add_recipe_commands(app);
  espalier::add_resume_command(app);
  espalier::add_reproduce_command(app);
  espalier::add_runs_command(app);
  espalier::add_report_command(app);
  espalier::add_prune_command(app);
  espalier::add_export_command(app);
  espalier::add_show_command(app);
  espalier::add_bench_command(app);
  espalier::add_latency_command(app);
  espalier::add_plugins_command(app);
  espalier::add_install_commands(app);
  espalier::add_describe_command(app);
  espalier::add_new_command(app);
  espalier::add_check_command(app);
  espalier::add_data_command(app);
  espalier::add_schema_command(app);
  app.footer(
      "Examples:\n"
      "  espalier run recipes/quickstart.yaml           trains what the recipe describes\n"
      "  espalier plan recipes/quickstart.yaml          what it would do: layers, parameters, MACs\n"
      "  espalier resume runs/quickstart-seed0          goes on with a run that was stopped\n"
      "  espalier reproduce recipes/paper --scale smoke many recipes, in the order of their needs\n"
      "  espalier runs list --sort accuracy             all runs that were made\n"
      "  espalier report runs --out report.html         what they came to, beside the papers, as a page\n"
      "  espalier prune runs/quickstart-seed0 --target macs=0.5    a smaller network of it\n"
      "  espalier export runs/quickstart-seed0 --to onnx    the trained network for other programs\n"
      "  espalier show runs/quickstart-seed0            its stages, edits and checkpoints\n"
      "  espalier latency resnet20 --dataset cifar10    what its operations take on this machine, as a table\n"
      "  espalier plugins                               which components there are\n"
      "  espalier describe threshold                    what one of them can be told\n"
      "  espalier check build/libmy_penalty.so          whether a plugin does what its kind promises\n"
      "  espalier COMMAND --help                        more about a command\n");
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();  // a command that has said what is wrong
  } catch (const CLI::ParseError& e) {
    if (const std::string unknown = unknown_command(app, "", argc, argv); !unknown.empty()) {
      espalier::log::error(unknown);
      return 2;
    }
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const espalier::Interrupted& e) {
    return 128 + e.signal();  // as shells report it
  } catch (const c10::Error& e) {
    espalier::log::error(e.what_without_backtrace());
    return 1;
  } catch (const std::exception& e) {
    espalier::log::error(e.what());
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int status = carry_out(argc, argv);
  std::cout.flush();
  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && status == 0) {
    espalier::log::error(std::string("what was to be printed could not be written: ") + std::strerror(errno));
    status = 1;
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return status;
#else
  // All files are closed. LibTorch would take a fifth of a second to take its registers of operators apart.
  std::fflush(nullptr);
  ::_exit(status);
#endif
}
