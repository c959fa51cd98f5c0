#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/component.h"

namespace espalier {

// Where a component comes from.
struct Origin {
  std::string plugin = "espalier";  // "espalier" for those of the SDK itself
  std::string version;
  std::string path;
};

struct Registered {
  Component component;
  Origin origin;
  // "regularizer 'group_lasso' of plugin group_lasso 1.0.0 (/path/libgroup_lasso.so)"
  ESPALIER_API std::string str() const;
};

// All components of the process. The runner fills it from plugins; nothing is ever removed.
class ESPALIER_API Registry {
 public:
  static Registry& instance();

  // Throws Error where kind and name are taken, a parameter is declared twice, or the declaration is otherwise
  // unusable.
  void add(Component component, const Origin& origin);
  const Registered* find(const std::string& kind, const std::string& name) const;
  // Throws InputError at `where` naming the nearest known one.
  const Registered& at(const std::string& kind, const std::string& name, const Location& where) const;
  std::vector<const Registered*> all() const;
  std::vector<std::string> names(const std::string& kind) const;

  // Makes a component from {use: NAME, option: ...} (or the bare string NAME). What its constructor throws is labelled
  // with its origin and the place in the recipe; T is the base class of its kind.
  template <class T>
  std::unique_ptr<T> create(const Value& spec) const {
    std::unique_ptr<Object> object = create_object(T::kind, spec);
    auto* typed = dynamic_cast<T*>(object.get());
    if (!typed) throw_wrong_type(T::kind, spec);
    static_cast<void>(object.release());
    return std::unique_ptr<T>(typed);
  }

  // Checks a component's spec against its declaration, nested components too; returns it with all defaults. Nothing is
  // made.
  Value check(const std::string& kind, const Value& spec) const;

 private:
  std::unique_ptr<Object> create_object(const std::string& kind, const Value& spec) const;
  [[noreturn]] static void throw_wrong_type(const std::string& kind, const Value& spec);

  std::vector<std::unique_ptr<Registered>> components_;
};

// The component's name in a spec: the string itself or the value of `use`. Throws InputError.
ESPALIER_API const std::string& name_of(const Value& spec, const std::string& kind);

// Calls `body`; what it throws becomes a LocatedError that begins with the component, its plugin and where the recipe
// uses it. An InputError or a LocatedError stays as it is: of components that call each other the innermost leads.
ESPALIER_API void labelled(const Registered& component, const Location& where, const std::function<void()>& body);

}  // namespace espalier
