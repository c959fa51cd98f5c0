#include "formats/pickle.h"

#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include <ATen/ops/_validate_sparse_coo_tensor_args.h>
#include <ATen/ops/_validate_sparse_csr_tensor_args.h>
#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sparse_coo_tensor.h>
#include <ATen/ops/sparse_csr_tensor.h>

#include "espalier/error.h"

namespace espalier {

namespace {

using Item = PickleItem;

Item* find(const Item& dict, const std::string& key) {
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    if (dict.items[i]->kind == Item::Kind::text && dict.items[i]->text == key) return dict.items[i + 1];
  }
  return nullptr;
}

// A reader of pickles of protocol 2 and later (Lib/pickletools.py). What it holds is read as data: nothing in it is
// called or imported.
class Pickle {
 public:
  Pickle(const ZipFiles& archive, std::deque<Item>& all) : archive_(archive), all_(all) {}

  const Item& read() {
    text_ = record("data.pkl");
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
        push(add(Item::Kind::other));
        break;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push_integer(code == 0x88);
        break;
      case '1':  // POP_MARK
        pop_to_mark();
        break;
      case '2':  // DUP
        push(top());
        break;
      case 0x91:  // FROZENSET
        pop_to_mark();
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
      case 0x8a:  // LONG1
        long_integer(number(1));
        break;
      case 0x8b:  // LONG4
        long_integer(number(4));
        break;
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
      case 0x8e:  // BINBYTES8
      case 0x96:  // BYTEARRAY8
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
      case 't':
      case 'l':
      case 'd': {
        std::vector<Item*> items = pop_to_mark();
        push(add(code == 'd' ? Item::Kind::dict : Item::Kind::list))->items = std::move(items);
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
      case 0x92:  // NEWOBJ_EX
        pop();
        [[fallthrough]];
      case 0x81:  // NEWOBJ
        pop();
        push(add(Item::Kind::object))->text = pop()->text;
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

  void long_integer(uint64_t bytes) {
    if (bytes > 8) {  // a seed, say; nothing here needs such a number
      take(bytes);
      push(add(Item::Kind::other));
      return;
    }
    const uint64_t n = number(bytes);
    const uint64_t unused = 64 - 8 * bytes;
    push_integer(bytes == 0 ? 0 : static_cast<int64_t>(n << unused) >> unused);
  }

  void reduce() {
    const Item* arguments = pop();
    const Item* function = pop();
    push(call(function->text, arguments->items));
  }

  // What PyTorch's functions of these names make of their arguments.
  Item* call(const std::string& function, const std::vector<Item*>& a, int depth = 0) {
    constexpr const char* prefix = "torch._utils._rebuild_";
    const std::string rebuilt = function.starts_with(prefix) ? function.substr(std::strlen(prefix)) : "";
    if (function == "collections.OrderedDict" && a.empty()) return add(Item::Kind::dict);
    // A parameter, and one with attributes of its own: the tensor is the first.
    if ((rebuilt == "parameter" || rebuilt == "parameter_with_state") && !a.empty()) return a[0];
    // A subclass: (the function that makes the tensor, class, the function's arguments, state).
    if ((function == "torch._tensor._rebuild_from_type_v2" || function == "torch._tensor._rebuild_from_type") &&
        a.size() >= 3 && depth < 10) {
      return call(a[0]->text, a[2]->items, depth + 1);
    }
    if ((function == "torch.serialization._get_layout" || function == "torch.Size") && !a.empty()) return a[0];
    const bool stored = a.size() >= 4 && a[0]->kind == Item::Kind::storage;
    if (stored && (rebuilt == "tensor" || rebuilt == "tensor_v2")) return tensor(a, a[0]->tensor, 6);
    if (stored && rebuilt == "tensor_v3" && a.size() >= 7) {
      const std::string& type = a[6]->text;
      const auto known = dtypes().find(type.starts_with("torch.") ? type.substr(6) : type);
      const at::Tensor& bytes = a[0]->tensor;
      if (known != dtypes().end() && bytes.nbytes() % at::elementSize(known->second) == 0)
        return tensor(a, bytes.view(known->second), 7);
    }
    if (rebuilt == "sparse_tensor" && a.size() >= 2) {
      if (Item* dense = sparse(a[0]->text, a[1]->items)) return dense;
    }
    Item* unknown = add(Item::Kind::object);
    unknown->text = function;
    return unknown;
  }

  // (storage, offset, sizes, strides, ...); at `metadata` a dictionary may say that the values are stored negated.
  Item* tensor(const std::vector<Item*>& a, const at::Tensor& values, size_t metadata) {
    Item* made = add(Item::Kind::tensor);
    made->tensor = view(values, a[1]->integer, integers(*a[2]), integers(*a[3]));
    const Item* negated =
        metadata < a.size() && a[metadata]->kind == Item::Kind::dict ? find(*a[metadata], "neg") : nullptr;
    if (negated && negated->integer) made->tensor = made->tensor.neg();
    return made;
  }

  // Dense. Null: a layout that is not known.
  Item* sparse(const std::string& layout, const std::vector<Item*>& parts) {
    const auto is_tensor = [&](size_t i) { return i < parts.size() && parts[i]->kind == Item::Kind::tensor; };
    const bool coo = layout == "torch.sparse_coo" && is_tensor(0) && is_tensor(1) && parts.size() >= 3;
    const bool csr = layout == "torch.sparse_csr" && is_tensor(0) && is_tensor(1) && is_tensor(2) && parts.size() >= 4;
    if (!coo && !csr) return nullptr;
    const std::vector<int64_t> sizes = integers(*parts[coo ? 2 : 3]);
    int64_t count = 1;
    for (const int64_t n : sizes) {
      if (n < 0 || (n > 0 && count > most_of_sparse / n)) throw Error("a sparse tensor is too large");
      count *= std::max<int64_t>(n, 1);
    }
    const at::Tensor first = parts[0]->tensor, second = parts[1]->tensor;
    // Not checked otherwise.
    coo ? at::_validate_sparse_coo_tensor_args(first, second, sizes)
        : at::_validate_sparse_csr_tensor_args(first, second, parts[2]->tensor, sizes);
    Item* made = add(Item::Kind::tensor);
    made->tensor = coo ? at::sparse_coo_tensor(first, second, sizes, second.options().layout(at::kSparse)).to_dense()
                       : at::sparse_csr_tensor(first, second, parts[2]->tensor, sizes,
                                               parts[2]->tensor.options().layout(at::kSparseCsr))
                             .to_dense();
    return made;
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
    static const std::map<std::string, at::ScalarType> types = {{"Float", at::kFloat},
                                                                {"Double", at::kDouble},
                                                                {"Half", at::kHalf},
                                                                {"Long", at::kLong},
                                                                {"Int", at::kInt},
                                                                {"Short", at::kShort},
                                                                {"Char", at::kChar},
                                                                {"Byte", at::kByte},
                                                                {"Bool", at::kBool},
                                                                {"Untyped", at::kByte},
                                                                {"BFloat16", at::kBFloat16},
                                                                {"ComplexFloat", at::kComplexFloat},
                                                                {"ComplexDouble", at::kComplexDouble}};
    if (id.items.size() < 3) throw Error("its pickle is damaged");
    // "torch.FloatStorage", "torch.storage.UntypedStorage"
    std::string type = id.items[1]->text;
    type.erase(0, type.rfind('.') + 1);
    if (type.ends_with("Storage")) type.resize(type.size() - 7);
    const std::string& key = id.items[2]->text;
    const auto known = types.find(type);
    if (known == types.end()) {
      Item* unknown = add(Item::Kind::object);
      unknown->text = id.items[1]->text;
      return unknown;
    }
    Item*& made = storages_[type + key];
    if (!made) {
      const std::string_view data = record("data/" + key);
      made = add(Item::Kind::storage);
      made->tensor = at::empty({static_cast<int64_t>(data.size() / at::elementSize(known->second))}, known->second);
      std::memcpy(made->tensor.mutable_data_ptr(), data.data(), made->tensor.nbytes());
    }
    return made;
  }

  // Types that have no storage of their own.
  static const std::map<std::string, at::ScalarType>& dtypes() {
    static const std::map<std::string, at::ScalarType> types = {{"float8_e4m3fn", at::kFloat8_e4m3fn},
                                                                {"float8_e5m2", at::kFloat8_e5m2},
                                                                {"float8_e4m3fnuz", at::kFloat8_e4m3fnuz},
                                                                {"float8_e5m2fnuz", at::kFloat8_e5m2fnuz},
                                                                {"float8_e8m0fnu", at::kFloat8_e8m0fnu},
                                                                {"uint16", at::kUInt16},
                                                                {"uint32", at::kUInt32},
                                                                {"uint64", at::kUInt64}};
    return types;
  }

  std::string_view record(const std::string& name) const {
    const std::string* found = archive_.find(name);
    if (!found) throw Error("its part '" + name + "' is missing");
    return *found;
  }

  static constexpr int64_t most_of_sparse = int64_t{1} << 30;  // elements
  const ZipFiles& archive_;
  std::deque<Item>& all_;  // owns them: nested ones would be freed one in another
  std::string_view text_;
  std::vector<Item*> stack_;
  std::map<uint64_t, Item*> memo_;
  std::map<std::string, Item*> storages_;
};

}  // namespace

const PickleItem& read_pickle(const ZipFiles& archive, std::deque<PickleItem>& all) {
  return Pickle(archive, all).read();
}

}  // namespace espalier
