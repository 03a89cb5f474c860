// SPDX-License-Identifier: Apache-2.0
// Arguments for plans: shapes and types without memory, which a plan does not read.
#pragma once

#include <limits>

#include "cpu/plan.h"

namespace torch_gumbel::testing {

constexpr int64_t kAlways = 0, kNever = std::numeric_limits<int64_t>::max();

inline float any_float;
inline uint64_t any_key[2];

/// Rows along the last dimension, [rows, classes], or, with `inner`, along the middle one of
/// [rows, classes, inner].
struct Shape {
  int64_t rows = 1, classes = 1, inner = 0;
};

inline KernelParams params(Shape shape, DType type = DType::kFloat32) {
  KernelParams a;
  const bool spatial = shape.inner > 0;
  a.rows.count = shape.rows * (spatial ? shape.inner : 1);
  a.rows.classes = shape.classes;
  a.rows.dims = spatial ? 2 : 1;
  a.rows.size[0] = shape.rows;
  a.rows.size[1] = spatial ? shape.inner : 0;
  for (int i = 0; i < kOperands; ++i) {
    a.rows.stride[i][0] = shape.classes * (spatial ? shape.inner : 1);
    a.rows.stride[i][1] = spatial ? 1 : 0;
    a.rows.class_stride[i] = spatial ? shape.inner : 1;
  }
  a.input_type = a.grad_type = a.output_type = type;
  return a;
}

inline cpu::Plan plan(Op op, const KernelParams& a, int64_t nontemporal_bytes = kNever,
                      int threads = 1) {
  return cpu::make_plan(op, a, threads, nontemporal_bytes);
}

}  // namespace torch_gumbel::testing
