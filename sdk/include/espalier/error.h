#pragma once

#include <stdexcept>
#include <string>

#include "espalier/api.h"

namespace espalier {

// An error made for the person who can mend it: says what, where and what to do.
class ESPALIER_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  ~Error() override;
};

// Bad input (recipe, option, data, checkpoint): `where` is "file:line:column" or a file name, empty where there is
// none.
class ESPALIER_API InputError : public Error {
 public:
  InputError(const std::string& where, const std::string& message)
      : Error(where.empty() ? message : where + ": " + message) {}
  ~InputError() override;
};

// An Error whose message says already which component, or which place of a run, it is about: whoever passes it on adds
// no other.
class ESPALIER_API LocatedError : public Error {
 public:
  explicit LocatedError(const std::string& message) : Error(message) {}
  ~LocatedError() override;
};

// An edit of the structure that cannot be carried out; nothing has changed.
class ESPALIER_API EditError : public Error {
 public:
  explicit EditError(const std::string& message) : Error(message) {}
  ~EditError() override;
};

}  // namespace espalier
