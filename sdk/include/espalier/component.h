#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/error.h"
#include "espalier/value.h"

namespace espalier {

// The base of everything that a component makes: backbones, datasets, operations, regularizers, optimizers,
// controllers, schedules, augmentations.
class ESPALIER_API Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();
};

// Something that a component wants of the others in its stage, checked before anything is trained.
struct Need {
  std::string what;  // a word that another component provides: "state:gamma", "groups"
  std::string why;   // for the message: "the support of the filters is read from it"
};

// An artefact that a component hands on (Run::publish): recipes refer to it as STAGE.NAME.
struct Published {
  std::string name;
  std::string doc;  // what it is: "the operations of the normal and the reduction cell"
};

// What a plugin offers under one name: how it is described, checked and made.
struct Component {
  std::string kind;  // backbone, dataset, operation, regularizer, optimizer, controller, schedule, augmentation
  std::string name;
  std::string doc;  // one line
  std::vector<ParameterInfo> parameters;
  std::vector<Need> needs;
  std::vector<std::string> provides;
  std::vector<Published> publishes{};
  // Checks the options (throws InputError) and makes the object.
  std::function<std::unique_ptr<Object>(const Value& options)> create;

  // Fluent: component<Threshold>(...).need("state:gamma", "...").provide("state:momentum").
  Component& need(std::string what, std::string why) & {
    needs.push_back({std::move(what), std::move(why)});
    return *this;
  }
  Component&& need(std::string what, std::string why) && { return std::move(need(std::move(what), std::move(why))); }
  Component& provide(std::string what) & {
    provides.push_back(std::move(what));
    return *this;
  }
  Component&& provide(std::string what) && { return std::move(provide(std::move(what))); }
  Component& publish(std::string what, std::string of_what) & {
    publishes.push_back({std::move(what), std::move(of_what)});
    return *this;
  }
  Component&& publish(std::string what, std::string of_what) && {
    return std::move(publish(std::move(what), std::move(of_what)));
  }
};

// A component whose class derives from one of the kinds' bases (Regularizer, Optimizer, ...), has a nested struct
// `Options` with declare(), and a constructor that takes it.
template <class T>
Component component(std::string name, std::string doc) {
  Component c;
  c.kind = T::kind;
  c.name = std::move(name);
  c.doc = std::move(doc);
  c.parameters = Declare<typename T::Options>().parameters();
  c.create = [what = c.kind + " '" + c.name + "'"](const Value& options) -> std::unique_ptr<Object> {
    return std::make_unique<T>(Declare<typename T::Options>().read(options, what));
  };
  return c;
}

}  // namespace espalier
