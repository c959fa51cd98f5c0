#pragma once

#include <string>

#include <espalier/batch.h>
#include <espalier/run.h>

namespace espalier {

// Returns the eigenvalue of the largest absolute value, with its sign, of the Hessian of the recipe's loss of a batch
// in the architecture parameters (Zela et al. 2020, section 4.1): it grows where a search collapses. Products with the
// Hessian are central differences of gradients, in evaluation mode. They go into the method of Lanczos with full
// reorthogonalisation, which ends when the eigenvalue is known to a thousandth of itself, or after `most_products`
// products of two passes each. Values and gradients of the weights are afterwards as they were; the gradients of the
// architecture parameters are zero. Returns 0 if there is nothing to differentiate.
double architecture_eigenvalue(Run& run, const Batch& batch, int64_t most_products = 30);

}  // namespace espalier
