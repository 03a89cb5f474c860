// SPDX-License-Identifier: Apache-2.0
// Which kernels run for which shape.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "../../cuda/plan.h"

namespace torch_gumbel::testing {

/// A contiguous problem without memory: [rows, classes], or [rows / inner, classes, inner].
struct Sketch {
  Op op = Op::kSoft;
  DType type = DType::kFloat32;
  int64_t rows = 1, classes = 1;
  int64_t inner = 1;       // spatial rows, contiguous
  int lead = 0;            // elements from a multiple of 16 bytes to every tensor's first
  bool workspace = false;  // and 132 multiprocessors
  bool clusters = false;
  bool device_key = false;        // one for all rows
  DType other = DType::kFloat32;  // output's and gradients' type where `mixed`
  bool mixed = false;
  int one_hot_lead = 0;            // elements that the one-hot lies off the output's boundaries
  int64_t words_between_rows = 0;  // a shard's rows: words that lie between them
};

/// The kernels in the order of their launches, joined by " + ", found by launches that do not run.
std::string kernels_of(const Sketch& sketch);

cuda::Plan plan_of(const Sketch& sketch);

/// Every number of classes up to `most` that is planned otherwise than the number before it (other
/// kernels, threads, or threads per row), for some number of rows, with a workspace or without.
std::set<int64_t> switches(Op op, DType type, int64_t most);

}  // namespace torch_gumbel::testing
