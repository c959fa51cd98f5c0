#include "formats/state_dict.h"

#include <algorithm>
#include <deque>
#include <fstream>
#include <optional>
#include <utility>

#include <c10/util/Exception.h>

#include "espalier/error.h"
#include "formats/pickle.h"
#include "formats/zip_files.h"

namespace espalier {

namespace {

using Item = PickleItem;

// A dictionary of a file, with where it lies.
struct Found {
  std::string key;
  const Item* dict;
  size_t tensors;  // that it holds itself
};

// Dictionaries that hold tensors, and those in them.
void find_all(const Item& dict, const std::string& key, std::vector<Found>& all) {
  constexpr auto deepest = 3;
  size_t tensors = 0;
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Item& name = *dict.items[i];
    const Item& value = *dict.items[i + 1];
    if (name.kind != Item::Kind::text) continue;
    if (value.kind == Item::Kind::tensor) ++tensors;
    if (value.kind == Item::Kind::dict && std::ranges::count(key, '.') < deepest && all.size() < 1000)
      find_all(value, key.empty() ? name.text : key + "." + name.text, all);
  }
  if (tensors > 0) all.push_back({key, &dict, tensors});
}

// What state dicts are called in checkpoints, the likeliest first: the trained values before their averages.
size_t likelihood(const std::string& key) {
  static const std::vector<std::string> names = {"state_dict", "model_state_dict", "model",   "net",        "network",
                                                 "module",     "params",           "weights", "params_ema", "ema",
                                                 "model_ema",  "ema_state_dict"};
  size_t place = names.size();
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const auto found = std::ranges::find(names, key.substr(begin, end - begin));
    // Of "ema.state_dict" the first name counts.
    if (found != names.end()) return static_cast<size_t>(found - names.begin());
    begin = end + 1;
  }
  return place;
}

const char* kind_name(const Item& item) {
  switch (item.kind) {
    case Item::Kind::integer:
      return "a number";
    case Item::Kind::text:
      return "a text";
    case Item::Kind::list:
      return "a list";
    case Item::Kind::dict:
      return "a dictionary";
    case Item::Kind::tensor:
      return "a tensor";
    default:
      return "something else";
  }
}

// "epoch (a number), args (argparse.Namespace)"
std::string keys_text(const Item& dict) {
  constexpr size_t most = 2 * 12;
  std::string text;
  for (size_t i = 0; i + 1 < dict.items.size() && i < most; i += 2) {
    const Item& value = *dict.items[i + 1];
    text +=
        (i ? ", " : "") + (dict.items[i]->text.empty() ? std::to_string(dict.items[i]->integer) : dict.items[i]->text);
    text += std::string(" (") + (value.kind == Item::Kind::object ? value.text : kind_name(value)) + ")";
  }
  return text + (dict.items.size() > most ? ", ..." : "");
}

Found chosen(const Item& all, const std::string& key, std::vector<std::string>& others) {
  std::vector<Found> found;
  find_all(all, "", found);
  std::string names;
  for (const Found& f : found) names += (names.empty() ? "" : ", ") + (f.key.empty() ? "the file itself" : f.key);
  if (!key.empty()) {
    const auto named = std::ranges::find(found, key, &Found::key);
    if (named != found.end()) return *named;
    throw Error("'" + key + "' is no dictionary of tensors in it; " +
                (names.empty() ? "its keys are: " + keys_text(all) : "such are: " + names));
  }
  if (found.empty())
    throw Error("its dictionary holds no tensors; its keys are: " + keys_text(all) + "; save model.state_dict()");
  // A few tensors beside a state dict (counters, an optimizer's) are no rivals.
  const size_t most = std::ranges::max_element(found, {}, &Found::tensors)->tensors;
  std::erase_if(found, [&](const Found& f) { return f.tensors < (most + 1) / 2; });
  std::ranges::stable_sort(
      found, {}, [](const Found& f) { return std::pair(likelihood(f.key), -static_cast<int64_t>(f.tensors)); });
  for (size_t i = 1; i < found.size(); ++i) others.push_back(found[i].key);
  return found.front();
}

std::string first_bytes(const std::filesystem::path& path) {
  std::string start(4, '\0');
  std::ifstream(path, std::ios::binary).read(start.data(), 4);
  return start;
}

bool is_zip(const std::string& start) {
  return start.starts_with("PK");
}

}  // namespace

bool is_state_dict(const std::filesystem::path& path) {
  const std::string start = first_bytes(path);
  // A pickle of protocol 2 that begins with a long number. "\x80\x02" alone begins a safetensors file with a header of
  // 640 bytes, too.
  return is_zip(start) || start == "\x80\x02\x8a\x0a";
}

StateDict load_state_dict(const std::filesystem::path& path, const std::string& key) {
  const auto bad = [&](const std::string& why) {
    return InputError(path.string(), "cannot be read as a PyTorch state dict: " + why);
  };
  if (!is_zip(first_bytes(path)))
    throw bad("it is in the form that PyTorch wrote before 1.6; load it there and save it again with torch.save()");
  std::optional<ZipFiles> archive;
  try {
    archive.emplace(path);
  } catch (const Error& e) {
    throw bad(std::string("it is damaged or cut short (") + e.what() + ")");
  }
  StateDict result;
  std::deque<Item> items;
  try {
    if (archive->find("constants.pkl")) {
      throw Error(
          "it is a TorchScript module; in Python, torch.save(torch.jit.load(file).state_dict(), \"state.pt\") writes "
          "its "
          "values");
    }
    if (!archive->find("data.pkl")) throw Error("it is a zip archive, and not one that torch.save() wrote");
    const std::string* order = archive->find("byteorder");
    if (order && *order == "big") throw Error("it is big-endian");
    const Item& all = read_pickle(*archive, items);
    if (all.kind == Item::Kind::object)
      throw Error("it holds an object of the class " + all.text + "; save model.state_dict()");
    if (all.kind != Item::Kind::dict) throw Error("it holds no dictionary; save model.state_dict()");
    const Found dict = chosen(all, key, result.others);
    result.key = dict.key;
    for (size_t i = 0; i + 1 < dict.dict->items.size(); i += 2) {
      const std::string& name = dict.dict->items[i]->text;
      const Item& value = *dict.dict->items[i + 1];
      if (value.kind == Item::Kind::tensor) result.tensors.emplace_back(name, value.tensor);
      if (value.kind == Item::Kind::object && value.text.starts_with("torch."))
        throw Error("'" + name + "' is made by " + value.text + ", which cannot be read; save it as a plain tensor");
    }
  } catch (const c10::Error& e) {
    std::string why = e.what_without_backtrace();
    why = why.substr(0, why.find(". This is an internal"));  // guesses about the cause
    throw bad("it is damaged or cut short (" + why + ")");
  } catch (const std::exception& e) {
    throw bad(e.what());
  }
  return result;
}

}  // namespace espalier
