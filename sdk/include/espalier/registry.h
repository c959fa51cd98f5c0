#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/component.h"

namespace espalier {

// Where a component comes from.
struct Origin {
  std::string plugin = "espalier";  // the name of the plugin; "espalier" for components of the SDK itself
  std::string version;              // the version of the plugin
  std::string path;                 // the library; empty for components of the SDK itself
};

// A component in the registry.
struct Registered {
  Component component;  // what it is
  Origin origin;        // where it comes from

  // Returns words for messages: "regularizer 'l1' of plugin l1 1.0.0 (/path/libl1.so)".
  ESPALIER_API std::string str() const;
};

// Holds all components of the process. The runner fills it from plugins; nothing is ever removed.
class ESPALIER_API Registry {
 public:
  // Returns the registry of the process, which holds the built-in operations from the beginning.
  static Registry& instance();

  // Adds a component. Throws Error if kind and name are taken, an option is declared twice, or the declaration is
  // otherwise unusable.
  void add(Component component, const Origin& origin);
  // Returns the component of this kind and name, or null.
  const Registered* find(const std::string& kind, const std::string& name) const;
  // Returns the component of this kind and name. Throws InputError at `where`, with the nearest known name, if there is
  // none.
  const Registered& at(const std::string& kind, const std::string& name, const Location& where) const;
  // Returns all components, sorted by kind and name.
  std::vector<const Registered*> all() const;
  // Returns the names of all components of a kind, sorted.
  std::vector<std::string> names(const std::string& kind) const;

  // Creates a component from {use: NAME, option: ...} or from the bare string NAME; T is the base class of its kind.
  // Throws InputError if the spec does not fit. To what the constructor throws, the origin of the component and the
  // place in the recipe are added.
  template <class T>
  std::unique_ptr<T> create(const Value& spec) const {
    std::unique_ptr<Object> object = create_object(T::kind, spec);
    auto* typed = dynamic_cast<T*>(object.get());
    if (!typed) throw_wrong_type(T::kind, spec);
    static_cast<void>(object.release());
    return std::unique_ptr<T>(typed);
  }

  // Checks the spec of a component against its declaration, nested components too, and returns it with all defaults.
  // Nothing is created. Throws InputError if it does not fit.
  Value check(const std::string& kind, const Value& spec) const;

 private:
  void check_nested(const std::vector<ParameterInfo>& parameters, Value& options) const;
  std::unique_ptr<Object> create_object(const std::string& kind, const Value& spec) const;
  [[noreturn]] static void throw_wrong_type(const std::string& kind, const Value& spec);

  std::vector<std::unique_ptr<Registered>> components_;
};

// Returns the name of the component in a spec: the string itself or the value of `use`. Throws InputError if there is
// none.
ESPALIER_API const std::string& name_of(const Value& spec, const std::string& kind);

// Calls `body`. What it throws becomes a LocatedError that begins with the component, its plugin and where the recipe
// uses it. An InputError or a LocatedError stays as it is, so that of components that call each other the innermost one
// leads.
ESPALIER_API void labelled(const Registered& component, const Location& where, const std::function<void()>& body);

}  // namespace espalier
