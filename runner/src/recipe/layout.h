#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/value.h"
#include "recipe/name_template.h"

namespace espalier {

// A row of a layout: a tensor of the file, and the parameters of the network that it holds.
struct LayoutRow {
  NameTemplate file;
  // Several: the tensor is them one after the other along dimension `along`. None: it is passed over.
  std::vector<NameTemplate> own;
  int64_t along = 0;
  // Of the file's tensor, before it is split: the dimension whose equal blocks are put into another order, and the
  // block that comes at each place. Empty: none.
  int64_t blocks_along = 0;
  std::vector<int64_t> blocks;
  std::vector<int64_t> permute;  // the file's dimensions in the network's order; empty: as they are
  int64_t ones = 0;              // how many dimensions of size one the file has in front
  bool flat = false;             // the file's tensor has one dimension
  bool computed = false;  // a buffer that follows from the structure: passed over, and written as the node has it

  std::string str() const;  // "layers.{i}.attn.qkv.{*} -> layers.{i}.attn.q.{*}, ... (split)"
};

// How a library names and arranges the values of a backbone: a table, so that it can be read in both directions.
struct Layout {
  std::string name;                    // "timm"; of a user's own table, its path
  std::vector<std::string> also;       // other libraries with just the same names
  std::vector<std::string> backbones;  // what it is for; empty: any
  std::filesystem::path path;
  std::string of;                                      // what writes such files
  bool by_name_only = false;                           // is not found by names and shapes
  std::vector<std::pair<std::string, Value>> options;  // what the backbone must be made with to compute the same
  std::vector<LayoutRow> rows;                         // the first that matches counts

  // Whether `layout: WORD` means it: its name, that of a variant (huggingface-5 is one of huggingface), or another
  // library's.
  bool is(const std::string& word) const;
  // A name of the file, and what it is in the network.
  struct Mapped {
    const LayoutRow* row = nullptr;
    std::vector<std::string> own;  // one name, or the parts' in order
  };
  std::optional<Mapped> of_file(const std::string& tensor) const;
  // The name in the file of a parameter or buffer, its row, and which of the row's parts it is.
  struct Written {
    const LayoutRow* row = nullptr;
    size_t part = 0;
    std::string file;
    std::vector<std::string> parts;
  };
  std::optional<Written> of_network(const std::string& parameter) const;
};

// Reads a table. Throws InputError naming the place in the file.
std::shared_ptr<const Layout> read_layout(const std::filesystem::path& file);
// The program's own tables for a backbone, by name. Those beside the plugins of others are found where these are.
std::vector<std::shared_ptr<const Layout>> layouts_for(const std::string& backbone);

// The parts of a file's tensor, as many as the row has, arranged as in the network. Throws Error where it cannot be
// split.
std::vector<at::Tensor> from_file(const LayoutRow& row, const at::Tensor& tensor);
// The inverse.
at::Tensor to_file(const LayoutRow& row, const std::vector<at::Tensor>& parts);
// Whether a tensor of these sizes can be what the row says.
bool can_be(const LayoutRow& row, const std::vector<int64_t>& sizes);

}  // namespace espalier
