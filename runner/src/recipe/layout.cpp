#include "recipe/layout.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <ATen/ops/cat.h>

#include "espalier/declare.h"
#include "espalier/error.h"
#include "espalier/graph.h"
#include "recipe/yaml.h"
#include "system/program_paths.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

void expect_map(const Value& v, const std::string& what, const std::string& expected) {
  if (!v.is_map()) throw InputError(v.location.str(), what + " must be " + expected + ", got " + v.describe());
}

NameTemplate name_at(const Value& value) {
  if (!value.is_string()) throw InputError(value.location.str(), "expected a name, got " + value.describe());
  try {
    return NameTemplate(value.as_string());
  } catch (const Error& e) {
    throw InputError(value.location.str(), e.what());
  }
}

std::vector<NameTemplate> names_at(const Value& value) {
  std::vector<NameTemplate> names;
  if (!value.is_list()) {
    names.push_back(name_at(value));
    return names;
  }
  for (const Value& v : value.as_list()) names.push_back(name_at(v));
  if (names.empty()) throw InputError(value.location.str(), "the list of the parts is empty");
  return names;
}

// How a row is arranged, where it is more than names.
struct RowKeys {
  int64_t along = 0;
  std::vector<int64_t> blocks;
  int64_t blocks_along = 0;
  std::vector<int64_t> permute;
  int64_t ones = 0;
  bool flat = false;
  static void declare(Declare<RowKeys>& p) {
    p("along", &RowKeys::along, at_least(0), at_most(7), "Dimension along which the tensor is split into its parts.");
    p("blocks", &RowKeys::blocks, at_least(0),
      "Order in which the equal blocks of a dimension are taken: [0, 2, 1, 3] exchanges the middle ones.");
    p("blocks_along", &RowKeys::blocks_along, at_least(0), at_most(7), "Dimension of the blocks.");
    p("permute", &RowKeys::permute, at_least(0), "The file's dimensions in the network's order.");
    p("ones", &RowKeys::ones, at_least(0), at_most(7), "Dimensions of size one in front of the file's tensor.");
    p("flat", &RowKeys::flat, "Whether the file's tensor has one dimension.");
  }
};

void require_permutation(const std::vector<int64_t>& order, const Value& at, const char* what) {
  std::vector<int64_t> sorted = order;
  std::ranges::sort(sorted);
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != static_cast<int64_t>(i))
      throw InputError(at.location.str(), std::string("'") + what + "' must hold each number from 0 on once");
  }
}

LayoutRow row_at(const Value::Entry& e, bool computed) {
  Value key(e.key);
  key.location = e.key_location;
  const Value* to = &e.value;
  Value keys = Value::map();
  if (e.value.is_map()) {
    to = e.value.find("to");
    if (!to) throw InputError(e.value.location.str(), "'" + e.key + "' needs 'to', what it is in the network");
    keys = e.value;
    keys.erase("to");
  }
  const RowKeys k = Declare<RowKeys>().read(keys, "'" + e.key + "'");
  require_permutation(k.blocks, e.value, "blocks");
  require_permutation(k.permute, e.value, "permute");
  LayoutRow row{.file = name_at(key),
                .own = names_at(*to),
                .along = k.along,
                .blocks_along = k.blocks_along,
                .blocks = k.blocks,
                .permute = k.permute,
                .ones = k.ones,
                .flat = k.flat,
                .computed = computed};
  for (const NameTemplate& own : row.own) {
    if (own.letters() != row.file.letters())
      throw InputError(e.key_location.str(), "'" + row.file.str() + "' and '" + own.str() +
                                                 "' must have the same places, so that the row can be read from both "
                                                 "sides");
  }
  return row;
}

void read_rows(const Value& tree, const char* key, bool computed, Layout& layout) {
  const Value* rows = tree.find(key);
  if (!rows) return;
  expect_map(*rows, std::string("'") + key + "'", "a map {NAME IN THE FILE: NAME IN THE NETWORK}");
  for (const Value::Entry& e : rows->as_map()) layout.rows.push_back(row_at(e, computed));
}

std::vector<std::string> strings_at(const Value& tree, const char* key) {
  std::vector<std::string> all;
  const Value* given = tree.find(key);
  if (!given) return all;
  if (!given->is_list()) return {given->as_string()};
  for (const Value& v : given->as_list()) all.push_back(v.as_string());
  return all;
}

std::vector<int64_t> inverse(const std::vector<int64_t>& order) {
  std::vector<int64_t> result(order.size());
  for (size_t i = 0; i < order.size(); ++i) result[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  return result;
}

at::Tensor reordered(const at::Tensor& t, int64_t along, const std::vector<int64_t>& order) {
  if (order.empty()) return t;
  const std::vector<at::Tensor> blocks = t.chunk(static_cast<int64_t>(order.size()), along);
  std::vector<at::Tensor> result;
  for (const int64_t i : order) result.push_back(blocks[static_cast<size_t>(i)]);
  return at::cat(result, along);
}

}  // namespace

std::string LayoutRow::str() const {
  if (own.empty()) return file.str() + " (passed over)";
  std::string text = file.str() + " -> ";
  for (size_t i = 0; i < own.size(); ++i) text += (i ? ", " : "") + own[i].str();
  std::string how;
  const auto add = [&](const std::string& what) { how += (how.empty() ? "" : ", ") + what; };
  if (own.size() > 1) add("split in " + std::to_string(own.size()));
  if (!blocks.empty()) add("blocks " + to_string(blocks));
  if (!permute.empty()) add("dimensions " + to_string(permute));
  if (computed) add("computed");
  return text + (how.empty() ? "" : " (" + how + ")");
}

bool Layout::is(const std::string& word) const {
  return name == word || name.starts_with(word + "-") || std::ranges::find(also, word) != also.end();
}

std::optional<Layout::Mapped> Layout::of_file(const std::string& tensor) const {
  for (const LayoutRow& row : rows) {
    const auto filling = row.file.match(tensor);
    const auto allowed = [&](const NameTemplate& own) { return own.allows(*filling); };
    if (!filling || !std::ranges::all_of(row.own, allowed)) continue;
    Mapped mapped{&row, {}};
    for (const NameTemplate& own : row.own) mapped.own.push_back(own.fill(*filling));
    return mapped;
  }
  return std::nullopt;
}

std::optional<Layout::Written> Layout::of_network(const std::string& parameter) const {
  for (const LayoutRow& row : rows) {
    for (size_t part = 0; part < row.own.size(); ++part) {
      const auto filling = row.own[part].match(parameter);
      if (!filling || !row.file.allows(*filling)) continue;
      Written written{&row, part, row.file.fill(*filling), {}};
      for (const NameTemplate& own : row.own) written.parts.push_back(own.fill(*filling));
      return written;
    }
  }
  return std::nullopt;
}

std::shared_ptr<const Layout> read_layout(const fs::path& file) {
  const Value tree = read_yaml(file);
  expect_map(tree, "a layout", "a map with 'rows'");
  static const std::set<std::string> known{"of",      "also", "backbones", "by_name_only",
                                           "options", "rows", "computed",  "ignore"};
  for (const Value::Entry& e : tree.as_map()) {
    if (!known.contains(e.key)) {
      throw InputError(e.key_location.str(),
                       "a layout has no key '" + e.key + "'" + suggestion(e.key, {known.begin(), known.end()}));
    }
  }
  auto layout = std::make_shared<Layout>();
  layout->name = file.stem().string();
  layout->path = file;
  layout->also = strings_at(tree, "also");
  layout->backbones = strings_at(tree, "backbones");
  if (const Value* of = tree.find("of")) layout->of = of->as_string();
  if (const Value* by_name = tree.find("by_name_only")) layout->by_name_only = by_name->as_bool();
  if (const Value* options = tree.find("options")) {
    expect_map(*options, "'options'", "a map {OPTION OF THE BACKBONE: VALUE}");
    for (const Value::Entry& e : options->as_map()) layout->options.emplace_back(e.key, e.value);
  }
  read_rows(tree, "rows", false, *layout);
  read_rows(tree, "computed", true, *layout);
  if (const Value* ignored = tree.find("ignore")) {
    for (NameTemplate& name : names_at(*ignored))
      layout->rows.push_back({.file = std::move(name), .own = {}, .blocks = {}, .permute = {}, .computed = true});
  }
  if (layout->rows.empty()) {
    throw InputError(file.string(),
                     "a layout needs 'rows', a map {NAME IN THE FILE: NAME IN THE NETWORK}, such as "
                     "{'layers.{n}.qkv.{*}': ['blocks.{n}.q.{*}', 'blocks.{n}.k.{*}', 'blocks.{n}.v.{*}']}");
  }
  return layout;
}

std::vector<std::shared_ptr<const Layout>> layouts_for(const std::string& backbone) {
  static const std::vector<std::shared_ptr<const Layout>> all = [] {
    std::vector<fs::path> files;
    std::error_code error;
    const fs::path root = program_prefix() / "share/espalier/layouts";
    for (fs::directory_iterator folder(root, error), end; !error && folder != end; folder.increment(error)) {
      std::error_code inner;
      for (fs::directory_iterator i(folder->path(), inner), last; !inner && i != last; i.increment(inner)) {
        if (i->path().extension() == ".yaml") files.push_back(i->path());
      }
    }
    std::ranges::sort(files);
    std::vector<std::shared_ptr<const Layout>> read;
    for (const fs::path& file : files) read.push_back(read_layout(file));
    return read;
  }();
  std::vector<std::shared_ptr<const Layout>> own;
  for (const auto& layout : all) {
    if (std::ranges::find(layout->backbones, backbone) != layout->backbones.end()) own.push_back(layout);
  }
  return own;
}

bool can_be(const LayoutRow& row, const std::vector<int64_t>& sizes) {
  if (row.computed) return true;
  const auto rank = static_cast<int64_t>(sizes.size());
  const auto divides = [&](int64_t along, size_t n) {
    return along < rank && sizes[static_cast<size_t>(along)] % static_cast<int64_t>(n) == 0;
  };
  if (rank < row.ones || std::any_of(sizes.begin(), sizes.begin() + row.ones, [](int64_t n) { return n != 1; }))
    return false;
  if (!row.permute.empty() && static_cast<int64_t>(row.permute.size()) != rank - row.ones) return false;
  if (!row.blocks.empty() && !divides(row.blocks_along, row.blocks.size())) return false;
  // After the dimensions were put into the network's order.
  const int64_t along = row.permute.empty() || row.along >= static_cast<int64_t>(row.permute.size())
                            ? row.along
                            : row.permute[static_cast<size_t>(row.along)];
  return row.own.size() == 1 || divides(row.ones + along, row.own.size());
}

std::vector<at::Tensor> from_file(const LayoutRow& row, const at::Tensor& tensor) {
  if (row.computed) return {tensor};
  if (!can_be(row, tensor.sizes().vec()))
    throw Error("a tensor of " + to_string(tensor.sizes().vec()) + " cannot be read as " + row.str());
  at::Tensor t = reordered(tensor, row.blocks_along, row.blocks);
  for (int64_t i = 0; i < row.ones; ++i) t = t.squeeze(0);
  if (!row.permute.empty()) t = t.permute(row.permute);
  if (row.own.size() == 1) return {t};
  return t.chunk(static_cast<int64_t>(row.own.size()), row.along);
}

at::Tensor to_file(const LayoutRow& row, const std::vector<at::Tensor>& parts) {
  at::Tensor t = parts.size() > 1 ? at::cat(parts, row.along) : parts.at(0);
  if (!row.permute.empty()) t = t.permute(inverse(row.permute));
  for (int64_t i = 0; i < row.ones; ++i) t = t.unsqueeze(0);
  t = reordered(t, row.blocks_along, inverse(row.blocks));
  return (row.flat ? t.flatten() : t).contiguous();
}

}  // namespace espalier
