#include "output/state_dict.h"

#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <string_view>

#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>
#include <caffe2/serialize/inline_container.h>

#include "espalier/error.h"

namespace espalier {

namespace {

using caffe2::serialize::PyTorchStreamReader;

// What an opcode of the pickle made. `other`: of no interest here.
struct Item {
  enum class Kind { other, mark, integer, text, global, list, dict, storage, tensor };
  Kind kind = Kind::other;
  int64_t integer = 0;
  std::string text;
  std::vector<Item*> items;  // of a list or tuple; of a dict: key, value, key, value ...
  at::Tensor tensor;         // of a storage: all of its values
};

// A reader of pickles of protocol 2 and later (Lib/pickletools.py), as far as torch.save() writes them. Objects of
// classes that it does not know become `other`.
class Pickle {
 public:
  Pickle(PyTorchStreamReader& archive, size_t file_size) : archive_(archive), file_size_(file_size) {}

  const Item& read() {
    const auto [data, size] = record("data.pkl");
    text_ = std::string_view(static_cast<const char*>(data.get()), size);
    while (true) {
      const auto code = static_cast<uint8_t>(take(1)[0]);
      if (code == '.') return *pop();
      step(code);
    }
  }

 private:
  std::string_view take(size_t n) {
    if (n > text_.size()) throw Error("its pickle ends early");
    const std::string_view part = text_.substr(0, n);
    text_.remove_prefix(n);
    return part;
  }
  // Little-endian.
  uint64_t number(size_t bytes) {
    uint64_t n = 0;
    std::memcpy(&n, take(bytes).data(), bytes);
    return n;
  }
  std::string line() {
    const size_t end = text_.find('\n');
    if (end == std::string_view::npos) throw Error("its pickle ends early");
    const std::string part(take(end + 1));
    return part.substr(0, end);
  }

  Item* add(Item::Kind kind) {
    Item& item = all_.emplace_back();
    item.kind = kind;
    return &item;
  }
  Item* push(Item* item) {
    stack_.push_back(item);
    return item;
  }
  void push_integer(int64_t n) { push(add(Item::Kind::integer))->integer = n; }
  void push_text(size_t length) { push(add(Item::Kind::text))->text = take(length); }
  Item* pop() {
    if (stack_.empty() || stack_.back()->kind == Item::Kind::mark) throw Error("its pickle is damaged");
    Item* item = stack_.back();
    stack_.pop_back();
    return item;
  }
  Item* top() {
    Item* item = pop();
    return push(item);
  }
  std::vector<Item*> pop_to_mark() {
    size_t at = stack_.size();
    while (at > 0 && stack_[at - 1]->kind != Item::Kind::mark) --at;
    if (at == 0) throw Error("its pickle is damaged");
    std::vector<Item*> items(stack_.begin() + static_cast<std::ptrdiff_t>(at), stack_.end());
    stack_.resize(at - 1);
    return items;
  }
  void tuple(size_t n) {
    std::vector<Item*> items(n);
    while (n-- > 0) items[n] = pop();
    push(add(Item::Kind::list))->items = std::move(items);
  }
  void get(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) throw Error("its pickle is damaged");
    push(found->second);
  }

  void step(uint8_t code) {
    switch (code) {
      case 0x80:  // PROTO
        take(1);
        break;
      case 0x95:  // FRAME
        take(8);
        break;
      case '(':
        push(add(Item::Kind::mark));
        break;
      case '0':
        pop();
        break;
      case '}':
        push(add(Item::Kind::dict));
        break;
      case ']':
      case ')':
        push(add(Item::Kind::list));
        break;
      case 0x8f:  // EMPTY_SET
      case 'N':
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push(add(Item::Kind::other));
        break;
      case 'G':
        take(8);
        push(add(Item::Kind::other));
        break;
      case 'J':
        push_integer(static_cast<int32_t>(number(4)));
        break;
      case 'K':
        push_integer(static_cast<int64_t>(number(1)));
        break;
      case 'M':
        push_integer(static_cast<int64_t>(number(2)));
        break;
      case 0x8a: {  // LONG1
        const uint64_t bytes = number(1);
        if (bytes > 8) throw Error("a number in its pickle is too large");
        const uint64_t n = number(bytes);
        const uint64_t unused = 64 - 8 * bytes;
        push_integer(bytes == 0 ? 0 : static_cast<int64_t>(n << unused) >> unused);
        break;
      }
      case 'X':
      case 'T':
      case 'B':
        push_text(number(4));
        break;
      case 0x8c:  // SHORT_BINUNICODE
      case 'U':
      case 'C':
        push_text(number(1));
        break;
      case 0x8d:  // BINUNICODE8
        push_text(number(8));
        break;
      case 'c': {
        const std::string module = line();
        push(add(Item::Kind::global))->text = module + "." + line();
        break;
      }
      case 0x93: {  // STACK_GLOBAL
        const std::string name = pop()->text;
        const std::string module = pop()->text;
        push(add(Item::Kind::global))->text = module + "." + name;
        break;
      }
      case 't': {
        std::vector<Item*> items = pop_to_mark();
        push(add(Item::Kind::list))->items = std::move(items);
        break;
      }
      case 0x85:  // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        tuple(code - 0x84);
        break;
      case 'a': {
        Item* item = pop();
        top()->items.push_back(item);
        break;
      }
      case 's': {
        Item* value = pop();
        Item* key = pop();
        top()->items.insert(top()->items.end(), {key, value});
        break;
      }
      case 'e':
      case 'u':
      case 0x90: {  // ADDITEMS
        const std::vector<Item*> items = pop_to_mark();
        top()->items.insert(top()->items.end(), items.begin(), items.end());
        break;
      }
      case 'b':  // BUILD: the state of an object
        pop();
        break;
      case 'R':
        reduce();
        break;
      case 0x81:  // NEWOBJ
        pop();
        pop();
        push(add(Item::Kind::other));
        break;
      case 'Q':
        push(storage(*pop()));
        break;
      case 'q':
        memo_[number(1)] = top();
        break;
      case 'r':
        memo_[number(4)] = top();
        break;
      case 0x94:  // MEMOIZE
        memo_[memo_.size()] = top();
        break;
      case 'h':
        get(number(1));
        break;
      case 'j':
        get(number(4));
        break;
      default:
        throw Error("its pickle holds the opcode " + std::to_string(code) + ", which state dicts have no use for");
    }
  }

  void reduce() {
    const Item* arguments = pop();
    const std::string function = pop()->text;
    const std::vector<Item*>& a = arguments->items;
    if (function == "collections.OrderedDict") {
      push(add(Item::Kind::dict));
    } else if (function == "torch._utils._rebuild_parameter" && !a.empty()) {
      push(a[0]);
    } else if (function == "torch._utils._rebuild_tensor_v2" && a.size() >= 4 && a[0]->kind == Item::Kind::storage) {
      push(add(Item::Kind::tensor))->tensor = view(a[0]->tensor, a[1]->integer, integers(*a[2]), integers(*a[3]));
    } else {
      push(add(Item::Kind::other));
    }
  }

  static std::vector<int64_t> integers(const Item& list) {
    std::vector<int64_t> numbers;
    for (const Item* i : list.items) numbers.push_back(i->integer);
    return numbers;
  }

  static at::Tensor view(const at::Tensor& values, int64_t offset, const std::vector<int64_t>& sizes,
                         const std::vector<int64_t>& strides) {
    const int64_t count = values.numel();
    bool fits = sizes.size() == strides.size() && offset >= 0 && offset <= count;
    bool empty = false;
    int64_t last = offset;
    for (size_t d = 0; fits && d < sizes.size(); ++d) {
      fits = sizes[d] >= 0 && strides[d] >= 0 && (sizes[d] < 2 || strides[d] <= count / (sizes[d] - 1));
      if (!fits) break;
      empty = empty || sizes[d] == 0;
      last += sizes[d] < 2 ? 0 : strides[d] * (sizes[d] - 1);
    }
    if (!fits || (!empty && last >= count)) throw Error("a tensor lies outside of its values");
    return at::as_strided(values, sizes, strides, offset);
  }

  // ("storage", torch.FloatStorage, key, device, count)
  Item* storage(const Item& id) {
    static const std::map<std::string, at::ScalarType> types = {
        {"torch.FloatStorage", at::kFloat}, {"torch.DoubleStorage", at::kDouble},
        {"torch.HalfStorage", at::kHalf},   {"torch.BFloat16Storage", at::kBFloat16},
        {"torch.LongStorage", at::kLong},   {"torch.IntStorage", at::kInt},
        {"torch.ShortStorage", at::kShort}, {"torch.CharStorage", at::kChar},
        {"torch.ByteStorage", at::kByte},   {"torch.BoolStorage", at::kBool}};
    if (id.items.size() < 3) throw Error("its pickle is damaged");
    const std::string& type = id.items[1]->text;
    const std::string& key = id.items[2]->text;
    const auto known = types.find(type);
    if (known == types.end()) return add(Item::Kind::other);
    Item*& made = storages_[type + key];
    if (!made) {
      const auto [data, size] = record("data/" + key);
      made = add(Item::Kind::storage);
      made->tensor = at::empty({static_cast<int64_t>(size / at::elementSize(known->second))}, known->second);
      std::memcpy(made->tensor.mutable_data_ptr(), data.get(), made->tensor.nbytes());
    }
    return made;
  }

  std::tuple<at::DataPtr, size_t> record(const std::string& name) {
    // torch.save() does not compress: what would be larger than the file is damaged.
    if (archive_.getRecordSize(name) > file_size_) throw Error("its part '" + name + "' is larger than the file");
    return archive_.getRecord(name);
  }

  PyTorchStreamReader& archive_;
  size_t file_size_;
  std::string_view text_;
  std::deque<Item> all_;  // owns them: nested ones would be freed one in another
  std::vector<Item*> stack_;
  std::map<uint64_t, Item*> memo_;
  std::map<std::string, Item*> storages_;
};

const Item* find(const Item& dict, const char* key) {
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    if (dict.items[i]->kind == Item::Kind::text && dict.items[i]->text == key) return dict.items[i + 1];
  }
  return nullptr;
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

NamedTensors load_state_dict(const std::filesystem::path& path) {
  const auto bad = [&](const std::string& why) {
    return InputError(path.string(), "cannot be read as a PyTorch state dict: " + why);
  };
  if (!is_zip(first_bytes(path)))
    throw bad("it is in the form that PyTorch wrote before 1.6; load it there and save it again with torch.save()");
  NamedTensors tensors;
  try {
    PyTorchStreamReader archive(path.string());
    if (archive.hasRecord("byteorder")) {
      const auto [order, size] = archive.getRecord("byteorder");
      if (std::string_view(static_cast<const char*>(order.get()), size) == "big") throw Error("it is big-endian");
    }
    Pickle pickle(archive, std::filesystem::file_size(path));
    const Item* dict = &pickle.read();
    for (const char* key : {"state_dict", "model_state_dict", "model"}) {
      const Item* inner = dict->kind == Item::Kind::dict ? find(*dict, key) : nullptr;
      if (inner && inner->kind == Item::Kind::dict) dict = inner;
    }
    if (dict->kind != Item::Kind::dict) throw Error("it holds no dictionary; save model.state_dict()");
    for (size_t i = 0; i + 1 < dict->items.size(); i += 2) {
      const Item& value = *dict->items[i + 1];
      if (value.kind == Item::Kind::tensor) tensors.emplace_back(dict->items[i]->text, value.tensor);
    }
  } catch (const c10::Error& e) {
    std::string why = e.what_without_backtrace();
    why = why.substr(0, why.find(". This is an internal"));  // guesses about the cause
    throw bad("it is damaged or cut short (" + why + ")");
  } catch (const std::exception& e) {
    throw bad(e.what());
  }
  if (tensors.empty()) throw bad("its dictionary holds no tensors; save model.state_dict()");
  return tensors;
}

}  // namespace espalier
