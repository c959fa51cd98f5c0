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

// The base of everything that a component creates: backbones, data sets, operations, regularizers, optimizers,
// controllers, schedules, augmentations. Objects are not copied.
class ESPALIER_API Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();
};

// Something that a component needs of the others in its stage. It is checked before anything is trained.
struct Need {
  std::string what;  // a word that another component provides: "state:gamma", "groups"
  std::string why;   // for the message: "the support of the filters is read from it"
};

// An artefact that a component hands on (Run::publish): recipes refer to it as STAGE.NAME.
struct Published {
  std::string name;  // without the stage: "genotype"
  std::string doc;   // what it is: "the operations of the normal and the reduction cell"
};

// What a plugin offers under one name: how it is described, checked and made.
struct Component {
  std::string kind;                       // backbone, dataset, operation, regularizer, optimizer, controller, ...
  std::string name;                       // what recipes call it: `use: NAME`
  std::string doc;                        // one line for `espalier plugins`
  std::vector<ParameterInfo> parameters;  // the options that it takes
  std::vector<Need> needs;                // what it needs of others in its stage
  std::vector<std::string> provides;      // words for what it offers to others: "state:momentum"
  // The artefacts that it hands on; recipes are checked by this.
  std::vector<Published> publishes{};
  // Why it cannot work where several processes train one network, each with a part of every batch; empty if it can.
  std::string one_process{};
  // Options with which `espalier check` tries it, where required ones cannot be made up: maps without `use`.
  std::vector<Value> examples{};
  // Checks the options and creates the object. Throws InputError if an option does not fit.
  std::function<std::unique_ptr<Object>(const Value& options)> create;

  // Adds a need: component<AdeNel>(...).need("state:support", "which filters are selected is read from it").
  Component& need(std::string what, std::string why) & {
    needs.push_back({std::move(what), std::move(why)});
    return *this;
  }
  // Adds a need.
  Component&& need(std::string what, std::string why) && { return std::move(need(std::move(what), std::move(why))); }
  // Adds a word for what it offers: component<Sgd>(...).provide("state:momentum").
  Component& provide(std::string what) & {
    provides.push_back(std::move(what));
    return *this;
  }
  // Adds a word for what it offers.
  Component&& provide(std::string what) && { return std::move(provide(std::move(what))); }
  // Adds an artefact: component<Search>(...).publish("genotype", "the operations that were chosen").
  Component& publish(std::string what, std::string of_what) & {
    publishes.push_back({std::move(what), std::move(of_what)});
    return *this;
  }
  // Adds an artefact.
  Component&& publish(std::string what, std::string of_what) && {
    return std::move(publish(std::move(what), std::move(of_what)));
  }
  // Adds options for `espalier check`: component<Replay>(...).example(from_json(R"({"layers": [3, 5]})")).
  Component& example(Value options) & {
    examples.push_back(std::move(options));
    return *this;
  }
  // Adds options for `espalier check`.
  Component&& example(Value options) && { return std::move(example(std::move(options))); }
  // Says that it is of no use where several processes train one network, and why: "its loss compares all samples of a
  // batch with each other". Recipes that name it are then refused there. What uses the batch of a step by itself, other
  // than by Run::add_gradients and Run::train_step, sees a part of the batch and has to say so.
  Component& in_one_process(std::string why) & {
    one_process = std::move(why);
    return *this;
  }
  // Says the same.
  Component&& in_one_process(std::string why) && { return std::move(in_one_process(std::move(why))); }
};

// Returns the component of a class that derives from the base of a kind (Regularizer, Optimizer, ...), has a nested
// struct `Options` with declare(), and a constructor that takes it.
template <class T>
Component component(std::string name, std::string doc) {
  Component c;
  c.kind = T::kind;
  c.name = std::move(name);
  c.doc = std::move(doc);
  c.parameters = Declare<typename T::Options>().parameters();
  // What a kind says of its classes: Controller, whether the class has a step of its own.
  if constexpr (requires { T::template describe<T>(c); }) T::template describe<T>(c);
  c.create = [what = c.kind + " '" + c.name + "'"](const Value& options) -> std::unique_ptr<Object> {
    return std::make_unique<T>(Declare<typename T::Options>().read(options, what));
  };
  return c;
}

}  // namespace espalier
