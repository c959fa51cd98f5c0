#include "recipe/yaml.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "espalier/error.h"
#include "recipe/scalar.h"
#include "recipe/utf8.h"

namespace espalier {

namespace {

// Far beyond any recipe; a hostile file costs no more than these.
constexpr size_t max_bytes = 1 << 20;
constexpr size_t max_depth = 64;
constexpr size_t max_values = 100'000;
constexpr size_t max_alias_values = 10'000;
constexpr size_t max_keys = 10'000;  // of one map: they are looked up one after the other
constexpr size_t max_string = 10'000;
constexpr int max_listed = 10'000;  // files of a folder, for the nearest name

size_t values_in(const Value& v) {
  size_t n = 1;
  if (v.is_list()) {
    for (const Value& e : v.as_list()) n += values_in(e);
  } else if (v.is_map()) {
    for (const Value::Entry& e : v.as_map()) n += values_in(e.value);
  }
  return n;
}

size_t depth_of(const Value& v) {
  size_t deepest = 0;
  if (v.is_list()) {
    for (const Value& e : v.as_list()) deepest = std::max(deepest, depth_of(e));
  } else if (v.is_map()) {
    for (const Value::Entry& e : v.as_map()) deepest = std::max(deepest, depth_of(e.value));
  } else {
    return 0;
  }
  return deepest + 1;
}

// Makes a Value of the parser's events. (YAML::Node would have lost duplicate keys and the quotes of scalars.)
class Builder final : public YAML::EventHandler {
 public:
  Builder(std::shared_ptr<const std::string> file, bool with_lines) : file_(std::move(file)), with_lines_(with_lines) {}

  Value take_root() { return std::move(root_); }
  // "a list that begins in line 3 is not closed"; "" where nothing is open.
  std::string unclosed() const {
    if (open_.empty()) return "";
    return std::string(open_.back().value.is_list() ? "a list ([)" : "a map ({)") +
           (with_lines_ ? " that begins in line " + std::to_string(open_.back().mark.line + 1) : "") + " is not closed";
  }
  Location at(const YAML::Mark& mark) const {
    return with_lines_ && !mark.is_null() ? Location{file_, mark.line + 1, mark.column + 1} : Location{file_, 0, 0};
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) throw InputError(at(mark).str(), "a second document (---) begins: a recipe is one document");
  }
  void OnDocumentEnd() override {
    if (key_fault_) throw InputError(*key_fault_);
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Location where = at(mark);
    if (takes_key()) {
      refuse_key(where, "a key must be text: write it in quotes");
      open_.back().key.emplace();
      return;
    }
    // The parser's mark of a value that is left out is wherever the next thing begins.
    if (!open_.empty() && open_.back().value.is_map()) where = open_.back().key_location;
    Value value;
    value.location = where;
    add(std::move(value), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (takes_key())
      throw InputError(at(mark).str(), "a key must be text, not an alias; put quotes around names that begin with *");
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end())
      throw InputError(at(mark).str(), "the alias stands inside what it stands for; write the value out");
    spend_aliases(found->second.values, mark);
    if (open_.size() + found->second.depth > max_depth) too_deep(mark);
    count(found->second.values, mark);
    Value copy = found->second.value;
    place(std::move(copy));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    const Location where = at(mark);
    if (text.size() > max_string)
      throw InputError(where.str(), "a text longer than " + std::to_string(max_string) + " bytes");
    const bool plain = tag == "?";
    if (!plain && tag != "!") refuse_tag(tag, where);
    if (takes_key()) return take_key(text, plain, where);
    Value value = plain ? read_plain_scalar(text, where) : Value(text);
    value.location = where;
    count(1, mark);
    add(std::move(value), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(Value::list(), mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(Value::map(), mark, tag, anchor);
  }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    Value value;
    YAML::anchor_t anchor = 0;
    YAML::Mark mark;
    std::optional<std::string> key;  // read, its value is not
    Location key_location;
    bool plain_key = false;
    std::unordered_map<std::string, Location> keys;
  };
  struct Anchored {
    Value value;
    size_t values = 0;
    size_t depth = 0;
  };

  bool takes_key() const { return !open_.empty() && open_.back().value.is_map() && !open_.back().key; }

  void take_key(const std::string& text, bool plain, const Location& where) {
    if (plain) {
      if (text == "<<")
        throw InputError(where.str(), "merge keys (<<) are not read: to reuse a recipe write 'extends: FILE'");
      if (!is_name(text)) {
        refuse_key(where, "a key must be text, not " + text + ": write \"" + text + "\"" + decimal_comma(text));
      }
      if (text.size() > 1 && text[0] == '-')
        refuse_key(where, "'" + text + "': write a space after the dash, '- " + text.substr(1) + "'");
    }
    Open& map = open_.back();
    if (const auto [first, is_new] = map.keys.try_emplace(text, where); !is_new) {
      const std::string before = with_lines_ ? " (first in line " + std::to_string(first->second.line) + ")" : "";
      throw InputError(where.str(), "the key '" + text + "' is written twice" + before);
    }
    if (map.keys.size() > max_keys)
      throw InputError(where.str(), "a map of more than " + std::to_string(max_keys) + " keys: not a recipe");
    map.key = text;
    map.key_location = where;
    map.plain_key = plain;
  }

  // "[1" without its end looks like a list as a key to the parser until it finds the end missing: that is then the
  // thing to say, so this waits for the end of the document.
  void refuse_key(const Location& where, const std::string& why) {
    if (!key_fault_) key_fault_.emplace(where.str(), why);
  }

  // `on`, `yes` and the like are good keys: optimizers are `on` parameters.
  static bool is_name(const std::string& text) {
    try {
      return read_plain_scalar(text, {}).is_string();
    } catch (const InputError&) {
      return text.empty() || !(text[0] >= '0' && text[0] <= '9');
    }
  }

  // {tau: 0,05}: the comma parts entries.
  std::string decimal_comma(const std::string& text) const {
    const auto all_digits = [](const std::string& t) { return t.find_first_not_of("0123456789") == std::string::npos; };
    const Value::Map& before = open_.back().value.as_map();
    const std::string whole = before.empty() ? "" : to_json(before.back().value);
    if (whole.empty() || !all_digits(whole) || !all_digits(text)) return {};
    return ", or, where a number was meant, a point in place of the comma: " + whole + "." + text;
  }

  void begin(Value empty, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (takes_key()) refuse_key(at(mark), "a key must be text");
    if (tag != "?" && !tag.empty()) refuse_tag(tag, at(mark));
    if (open_.size() >= max_depth) too_deep(mark);
    count(1, mark);
    empty.location = at(mark);
    open_.push_back({});
    open_.back().value = std::move(empty);
    open_.back().anchor = anchor;
    open_.back().mark = mark;
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.anchor != 0) spend_aliases(values_in(done.value), done.mark);
    add(std::move(done.value), done.anchor);
  }

  void add(Value value, YAML::anchor_t anchor) {
    if (anchor != 0) anchors_[anchor] = {value, values_in(value), depth_of(value)};
    place(std::move(value));
  }

  void place(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& parent = open_.back();
    if (parent.value.is_list()) {
      parent.value.push_back(std::move(value));
      return;
    }
    if (!parent.key) {
      parent.key.emplace();
      return;
    }
    // {lr:0.1} is a key 'lr:0.1' without a value.
    if (value.is_null() && parent.plain_key && parent.key->find(':') != std::string::npos) {
      const size_t colon = parent.key->find(':');
      throw InputError(parent.key_location.str(),
                       "'" + *parent.key + "' has no value: write a space after the colon, '" +
                           parent.key->substr(0, colon) + ": " + parent.key->substr(colon + 1) + "'");
    }
    // Not operator[], which would look for the key among all others.
    parent.value.as_map().push_back({std::move(*parent.key), std::move(value), parent.key_location});
    parent.key.reset();
  }

  void count(size_t n, const YAML::Mark& mark) {
    values_ += n;
    if (values_ > max_values)
      throw InputError(at(mark).str(), "more than " + std::to_string(max_values) + " values: not a recipe");
  }
  void spend_aliases(size_t n, const YAML::Mark& mark) {
    alias_values_ += n;
    if (alias_values_ > max_alias_values) {
      throw InputError(at(mark).str(), "anchors and aliases (&, *) stand for more than " +
                                           std::to_string(max_alias_values) +
                                           " values; to reuse a recipe write 'extends: FILE'");
    }
  }
  [[noreturn]] void too_deep(const YAML::Mark& mark) const {
    throw InputError(at(mark).str(), "nested deeper than " + std::to_string(max_depth) + " levels");
  }
  [[noreturn]] static void refuse_tag(const std::string& tag, const Location& where) {
    throw InputError(where.str(),
                     "tags are not read (" + tag + "): leave it out, or put quotes around a text that begins with !");
  }

  std::shared_ptr<const std::string> file_;
  bool with_lines_;
  int documents_ = 0;
  size_t values_ = 0;
  size_t alias_values_ = 0;
  std::optional<InputError> key_fault_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  Value root_;
};

// A line up to `last` (0-based) that is indented by a tab: what the parser says of it is no help.
std::optional<Location> find_tab(std::string_view text, int last, const std::shared_ptr<const std::string>& file) {
  std::optional<Location> found;
  for (int line = 0; line <= last && !text.empty(); ++line) {
    const size_t indentation = std::min(text.find_first_not_of(" \t"), text.size());
    const size_t tab = text.find('\t');
    if (tab < indentation && indentation < text.size() && text[indentation] != '\n' && text[indentation] != '#') {
      found = Location{file, line + 1, static_cast<int>(tab) + 1};
    }
    const size_t end = text.find('\n');
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return found;
}

// The parser's words, or where they say little what to do.
std::string explain(const YAML::Exception& e, const Builder& builder) {
  const auto says = [&](const char* words) { return e.msg.find(words) != std::string::npos; };
  if (says("document indicator in scalar")) return "a quote is not closed";
  if (says("anchor is not defined") || says("alias not found"))
    return "no anchor (&) of this name stands before it; put quotes around a text that begins with *";
  if (says("unknown token")) return "a text cannot begin with this character; put quotes around it";
  if (says("illegal map value")) return "a second colon in one line; put quotes around a text that holds \": \"";
  if (says("unknown escape character"))
    return e.msg + "; in double quotes \\ begins an escape: write \\\\, or take single quotes";
  if (says("flow not found") && !builder.unclosed().empty()) return builder.unclosed();
  return e.msg;
}

}  // namespace

std::string file_suggestion(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : ".";
  if (!fs::is_directory(folder, error)) return " (there is no folder " + folder.string() + ")";
  std::vector<std::string> names;
  int listed = 0;
  for (fs::directory_iterator i(folder, error), end; !error && i != end && listed < max_listed; i.increment(error)) {
    ++listed;
    const std::string extension = i->path().extension().string();
    if (extension == ".yaml" || extension == ".yml") names.push_back(i->path().filename().string());
  }
  std::ranges::sort(names);
  std::string name = file.filename().string();
  // The extension left out, or the other one.
  for (const char* extension : {".yaml", ".yml"}) {
    for (const std::string& other : {name + extension, file.stem().string() + extension}) {
      if (std::ranges::find(names, other) != names.end()) name = other;
    }
  }
  const std::string near = nearest(name, names);
  return near.empty() ? "" : " (did you mean '" + (file.has_parent_path() ? (folder / near).string() : near) + "'?)";
}

Value parse_yaml(std::string_view text, const std::string& name, bool with_lines) {
  const auto file = std::make_shared<const std::string>(name);
  if (text.size() > max_bytes) throw InputError(name, "is larger than 1 MB: not a recipe");
  if (const auto fault = find_text_fault(text)) {
    throw InputError(with_lines ? Location{file, fault->line, fault->column}.str() : name, fault->what);
  }
  Builder builder(file, with_lines);
  try {
    // The marker of the document's end: without it the parser takes a quote that is never closed for closed.
    std::istringstream in{std::string(text) + (text.ends_with('\n') ? "...\n" : "\n...\n")};
    YAML::Parser parser(in);
    if (!parser.HandleNextDocument(builder)) return {};
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take_root();
  } catch (const YAML::Exception& e) {
    if (with_lines && !e.mark.is_null()) {
      if (const auto tab = find_tab(text, e.mark.line, file)) {
        throw InputError(tab->str(), "a tab in the indentation: YAML wants spaces (" + e.msg + ")");
      }
    }
    throw InputError(builder.at(e.mark).str(), "not valid YAML: " + explain(e, builder));
  }
}

Value read_yaml(const std::filesystem::path& file) {
  const std::string name = file.string();
  if (name.empty()) throw InputError("", "the name of the recipe's file is empty");
  std::error_code error;
  const auto type = std::filesystem::status(file, error).type();
  if (type == std::filesystem::file_type::directory) throw InputError(name, "is a folder, not a recipe");
  // A pipe or a device would be waited for.
  if (!error && type != std::filesystem::file_type::regular)
    throw InputError(name, "is a pipe or a device; a recipe is a file");
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    const int why = errno;
    throw InputError(
        name, "cannot be read: " + std::generic_category().message(why) + (why == ENOENT ? file_suggestion(file) : ""));
  }
  std::string text(max_bytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) throw InputError(name, "cannot be read to its end");
  text.resize(static_cast<size_t>(in.gcount()));
  Value value = parse_yaml(text, name);
  if (value.is_null()) throw InputError(name, "is empty: a recipe begins with espalier: 1");
  return value;
}

namespace {

// Text that needs no quotes in any place of a YAML file.
bool is_plain(const std::string& s) {
  constexpr std::string_view first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/.0123456789";
  // "..." ends a document.
  if (s.empty() || first.find(s[0]) == std::string_view::npos || s.back() == ' ' || s.starts_with("...")) return false;
  const bool safe = std::ranges::all_of(s, [&](char c) {
    return first.find(c) != std::string_view::npos || c == '-' || c == ' ' || c == '+' || c == '*';
  });
  if (!safe) return false;
  try {
    return read_plain_scalar(s, {}).is_string();
  } catch (const InputError&) {
    return false;
  }
}

std::string scalar_text(const Value& v) {
  if (!v.is_string()) return to_json(v);
  if (is_plain(v.as_string())) return v.as_string();
  // JSON's escapes are YAML's too, but DEL is a control character in YAML only.
  std::string text = to_json(v);
  for (size_t at = 0; (at = text.find('\x7f', at)) != std::string::npos;) text.replace(at, 1, "\\x7F");
  return text;
}

bool is_collection(const Value& v) {
  return (v.is_list() || v.is_map()) && v.size() > 0;
}

// A list of scalars in one line.
std::string flow_text(const Value& v) {
  if (v.is_map()) return "{}";
  std::string text = "[";
  for (const Value& e : v.as_list())
    text += (text.size() > 1 ? ", " : "") + (e.is_list() || e.is_map() ? flow_text(e) : scalar_text(e));
  return text + "]";
}

bool fits_one_line(const Value& v) {
  return !is_collection(v) || (v.is_list() && std::ranges::none_of(v.as_list(), is_collection));
}

void write_block(std::string& out, const Value& v, size_t indent);

// After "key:" or "-".
void write_after(std::string& out, const Value& v, size_t indent) {
  if (!v.is_list() && !v.is_map()) {
    out += " " + scalar_text(v) + "\n";
  } else if (fits_one_line(v)) {
    out += " " + flow_text(v) + "\n";
  } else {
    out += "\n";
    write_block(out, v, indent);
  }
}

void write_block(std::string& out, const Value& v, size_t indent) {
  const std::string margin(indent, ' ');
  if (v.is_map()) {
    for (const Value::Entry& e : v.as_map()) {
      out += margin + scalar_text(Value(e.key)) + ":";
      write_after(out, e.value, indent + 2);
    }
    return;
  }
  for (const Value& e : v.as_list()) {
    out += margin + "-";
    if (e.is_map() && is_collection(e)) {
      // The first key on the line of the dash.
      std::string block;
      write_block(block, e, indent + 2);
      out += " " + block.substr(indent + 2);
    } else {
      write_after(out, e, indent + 2);
    }
  }
}

}  // namespace

std::string to_yaml(const Value& value) {
  std::string out;
  if (value.is_map() && is_collection(value)) {
    write_block(out, value, 0);
  } else {
    write_after(out, value, 0);
    out.erase(0, 1);
  }
  return out;
}

}  // namespace espalier
