// SPDX-License-Identifier: Apache-2.0
// Atomic functions: threads run one after another, so that no other one comes between.
#include "model.h"

namespace cuda_model {

unsigned add_atomically(unsigned* at, unsigned value, [[maybe_unused]] const void* instruction) {
#ifdef CUDA_MODEL_CHECKED
  see_atomic(at, sizeof *at, instruction);
#endif
  const unsigned old = *at;
  *at = old + value;
  return old;
}

}  // namespace cuda_model
