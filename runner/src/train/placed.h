#pragma once

#include <c10/util/Exception.h>

#include "espalier/edit.h"
#include "espalier/error.h"
#include "system/interrupt.h"
#include "train/trainer.h"

namespace espalier {

template <class Body>
auto Trainer::placed(const Body& body) const {
  const auto where = [&] { return " (" + place() + ")"; };
  try {
    return body();
  } catch (const InputError&) {
    throw;
  } catch (const LocatedError&) {
    throw;
  } catch (const EditError&) {
    throw;
  } catch (const Interrupted&) {
    throw;
  } catch (const c10::Error& e) {
    throw LocatedError(e.what_without_backtrace() + where());
  } catch (const std::exception& e) {
    throw LocatedError(e.what() + where());
  }
}

}  // namespace espalier
