#pragma once

#include <stdexcept>
#include <string>

#include "espalier/api.h"

namespace espalier {

// An error made for the person who can mend it: says what, where and what to do.
class ESPALIER_API Error : public std::runtime_error {
 public:
  // Makes an error with the whole message.
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  ~Error() override;
};

// Bad input: a recipe, an option, data, a checkpoint.
class ESPALIER_API InputError : public Error {
 public:
  // Makes an error. `where` is "file:line:column" or a file name; empty if there is none.
  InputError(const std::string& where, const std::string& message)
      : Error(where.empty() ? message : where + ": " + message) {}
  ~InputError() override;
};

// An error whose message already says which component, or which place of a run, it is about. Whoever passes it on adds
// no other place.
class ESPALIER_API LocatedError : public Error {
 public:
  // Makes an error with the whole message.
  explicit LocatedError(const std::string& message) : Error(message) {}
  ~LocatedError() override;
};

// An edit of the structure that cannot be carried out; nothing has changed.
class ESPALIER_API EditError : public Error {
 public:
  // Makes an error with the axis or node and the reason.
  explicit EditError(const std::string& message) : Error(message) {}
  ~EditError() override;
};

}  // namespace espalier
