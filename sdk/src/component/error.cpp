#include "espalier/error.h"

#include "espalier/component.h"

// Destructors out of line: one typeinfo for the whole process, so that plugins' exceptions are caught by type.
namespace espalier {
Error::~Error() = default;
InputError::~InputError() = default;
LocatedError::~LocatedError() = default;
EditError::~EditError() = default;
Object::~Object() = default;
}  // namespace espalier
