#include "export/drawing.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "system/files.h"
#include "system/text.h"

namespace espalier {

namespace {

// "20 × 24 × 24"
std::string sizes_text(const Graph& graph, Edge e) {
  std::string text;
  for (const int64_t n : graph.sizes(graph[e].shape)) text += (text.empty() ? "" : " × ") + std::to_string(n);
  return text;
}

// A string of Graphviz's; "\n" in it stays a line break.
std::string quoted(std::string text) {
  replace_all(text, "\"", "\\\"");
  return "\"" + text + "\"";
}

const char* colour_of(const Graph& graph, const Node& node) {
  if (graph.macs(node) > 0) return "lightblue";
  return node.parameters.empty() ? "white" : "lightyellow";
}

// Nodes by the parts of their names: frames in frames.
struct Frame {
  std::map<std::string, Frame> inner;
  std::string nodes;
};

void write(const Frame& frame, const std::string& path, std::string& out) {
  out += frame.nodes;
  for (const auto& [name, inner] : frame.inner) {
    const std::string whole = path.empty() ? name : path + "." + name;
    out += "subgraph " + quoted("cluster_" + whole) + " {\nlabel = " + quoted(whole) + ";\n";
    write(inner, whole, out);
    out += "}\n";
  }
}

struct CloseFile {
  void operator()(FILE* f) const { std::fclose(f); }
};

// Runs `dot` with the text as its input.
void run_graphviz(const std::string& format, const std::string& text, const std::filesystem::path& file) {
  const std::unique_ptr<FILE, CloseFile> input(std::tmpfile());
  if (!input || std::fwrite(text.data(), 1, text.size(), input.get()) != text.size() || std::fflush(input.get()) != 0)
    throw Error(std::string("a temporary file cannot be written: ") + std::strerror(errno));
  std::rewind(input.get());
  std::vector<std::string> words{"dot", "-T" + format, "-o", file.string()};
  std::vector<char*> arguments;
  for (std::string& w : words) arguments.push_back(w.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, fileno(input.get()), STDIN_FILENO);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, "dot", &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    throw Error("drawing ." + format +
                " needs Graphviz's program dot, which is not installed: apt-get install graphviz; "
                "a .dot file needs nothing");
  if (error != 0) throw Error(std::string("dot cannot be started: ") + std::strerror(error));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw Error("Graphviz's dot could not draw " + file.string());
}

}  // namespace

std::string network_dot(const Graph& graph, const std::string& title) {
  Frame all;
  std::string edges;
  for (size_t i = 0; i < graph.inputs().size(); ++i)
    all.nodes += "i" + std::to_string(i) + " [label = " + quoted(graph.inputs()[i].name) + ", shape = ellipse];\n";
  for (size_t i = 0; i < graph.outputs().size(); ++i) {
    const Port& port = graph.outputs()[i];
    all.nodes += "o" + std::to_string(i) + " [label = " + quoted(port.name) + ", shape = ellipse];\n";
    edges += "n" + std::to_string(graph[port.edge].producer) + " -> o" + std::to_string(i) +
             " [label = " + quoted(sizes_text(graph, port.edge)) + "];\n";
  }
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    Frame* frame = &all;
    std::string name = node.name;
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.')) {
      frame = &frame->inner[name.substr(0, dot)];
      name.erase(0, dot + 1);
    }
    const int64_t params = graph.parameter_count(node);
    const std::string label = (name == node.op->type() ? "" : name + "\\n") + node.op->type() +
                              (params ? "\\n" + count_text(params) + " params" : "");
    frame->nodes += "n" + std::to_string(n) + " [label = " + quoted(label) + ", tooltip = " + quoted(node.name) +
                    ", fillcolor = " + colour_of(graph, node) + "];\n";
    for (const Edge e : node.inputs) {
      std::string from = "n" + std::to_string(graph[e].producer);
      for (size_t i = 0; i < graph.inputs().size(); ++i) {
        if (graph.inputs()[i].edge == e) from = "i" + std::to_string(i);
      }
      edges += from + " -> n" + std::to_string(n) + " [label = " + quoted(sizes_text(graph, e)) + "];\n";
    }
  }
  std::string text = "digraph " + quoted(title) + " {\n" + "graph [labelloc = t, label = " +
                     quoted(title + ": " + count_text(graph.parameter_count()) + " parameters, " +
                            count_text(graph.macs()) + " MACs") +
                     ", fontname = sans, color = gray];\n"
                     "node [shape = box, style = \"rounded,filled\", fillcolor = white, fontname = sans];\n"
                     "edge [fontname = sans, fontsize = 10];\n";
  write(all, "", text);
  return text + edges + "}\n";
}

void draw_network(const Graph& graph, const std::string& title, const std::filesystem::path& file) {
  const std::string ending = file.extension().string();
  if (ending != ".svg" && ending != ".png" && ending != ".dot")
    throw InputError("--draw " + file.string(), "the name must end in .svg, .png or .dot");
  const std::string text = network_dot(graph, title);
  if (ending == ".dot") return write_file(file, text);
  const std::filesystem::path part = file.string() + ".part";
  run_graphviz(ending.substr(1), text, part);
  std::filesystem::rename(part, file);
}

}  // namespace espalier
