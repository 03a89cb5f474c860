// SPDX-License-Identifier: Apache-2.0
// Which kernels run for which shape, found by asking for launches that do not run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "math/rows.h"

namespace torch_gumbel::testing {

/// A contiguous [rows, classes] problem without memory.
struct Sketch {
  Op op = Op::kSoft;
  DType type = DType::kFloat32;
  int64_t rows = 1, classes = 1;
  int64_t inner = 1;  // distance of two classes: `dim` is not the last one where it is above 1
  int lead = 0;       // elements that every tensor begins behind a multiple of 16 bytes
};

/// The kernels in the order of their launches, joined by " + ".
std::string kernels_of(const Sketch& sketch);

/// Every number of classes up to `most` at which other kernels run than for the number before it
/// of the same kind: multiples of 8, and multiples of 8 and 1 more. For few rows and for many.
std::vector<int64_t> switches(Op op, DType type, int64_t most);

}  // namespace torch_gumbel::testing
