// SPDX-License-Identifier: Apache-2.0
// The parameter of the kernels of gates.
#pragma once

#include "../../csrc/math/gate.h"

namespace torch_gumbel::cuda {

struct GateProblem {
  GateParams a;
  math::RoundKeys<> keys;  // of a.host_key
  int64_t vectors = 0;     // flat: whole ones; the elements after them are taken one by one
};

}  // namespace torch_gumbel::cuda
