// SPDX-License-Identifier: Apache-2.0
// Atomic functions.
#pragma once

#include "../model/model.h"

__attribute__((noinline)) inline unsigned atomicAdd(unsigned* at, unsigned value) {
  return cuda_model::add_atomically(at, value, __builtin_return_address(0));
}
