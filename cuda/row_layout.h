// SPDX-License-Identifier: Apache-2.0
// How the rows of a problem lie in memory and in words, which decides about the kernels for them.
#pragma once

#include <stdint.h>

#include "../csrc/math/rows.h"

namespace torch_gumbel::cuda::planning {

constexpr int64_t kMaxClasses = int64_t{1} << 30;

inline int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }
inline int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }
inline int size_of(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}
inline int width_of(DType type) { return 16 / size_of(type); }

inline bool draws(Op op) { return op != Op::kBackward; }
inline bool has_output(Op op) { return op != Op::kArgmax; }
inline bool has_one_hot(Op op) { return op == Op::kHardSoft; }
inline bool has_grad(Op op) { return op == Op::kBackward || op == Op::kHardBackward; }

/// Whether a tensor's elements are of the input's type or, beside halves, float32.
inline bool suits(DType type, DType input) { return type == input || type == DType::kFloat32; }

/// The alignment of a tensor's rows, in elements.
struct Run {
  int64_t first;  // of the first row; counts modulo the width
  const int64_t* row_stride;
};

inline Run run_of(const KernelParams& a, Operand operand, const void* data, DType type) {
  return {static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) / size_of(type)),
          a.rows.stride[static_cast<int>(operand)]};
}

/// Whether two runs are `multiple` apart in every row, modulo `multiple`.
inline bool in_step(const Rows& rows, const Run& x, const Run& y, int64_t multiple) {
  bool same = (x.first - y.first) % multiple == 0;
  for (int d = 0; d < rows.dims; ++d)
    same &= rows.size[d] == 1 || (x.row_stride[d] - y.row_stride[d]) % multiple == 0;
  return same;
}

/// Whether rows are aligned: their classes are contiguous in every tensor, and their 16-byte
/// boundaries are the same in every tensor and boundaries of the blocks of four words as well.
inline bool are_aligned(Op op, const KernelParams& a) {
  const Rows& rows = a.rows;
  if (a.input_type == DType::kFloat64 || rows.classes > kMaxClasses) return false;
  const Run input = run_of(a, Operand::kInput, a.input, a.input_type);
  const auto follows = [&](Operand operand) {
    return rows.classes == 1 || rows.step(operand) == 1;
  };
  const auto lies_like_input = [&](Operand operand, const void* data, DType type) {
    return suits(type, a.input_type) && follows(operand) &&
           in_step(rows, input, run_of(a, operand, data, type), width_of(type));
  };
  if (!follows(Operand::kInput)) return false;
  if (has_output(op) && !lies_like_input(Operand::kOutput, a.output, a.output_type)) return false;
  if (has_one_hot(op) && !lies_like_input(Operand::kOutput, a.one_hot, a.output_type)) return false;
  if (has_grad(op) && !lies_like_input(Operand::kGrad, a.grad, a.grad_type)) return false;
  const Run words = {static_cast<int64_t>(rows.first_word),
                     rows.stride[static_cast<int>(Operand::kWord)]};
  return !draws(op) || (follows(Operand::kWord) && in_step(rows, input, words, 4));
}

/// Whether rows are contiguous in the input and in words, on whatever boundaries.
inline bool are_contiguous(const KernelParams& a) {
  return a.input_type != DType::kFloat64 && a.rows.classes <= kMaxClasses &&
         a.rows.step(Operand::kInput) == 1 && a.rows.step(Operand::kWord) == 1;
}

/// Whether rows are spatial: neighbouring rows are contiguous in whole vectors, under one key, with
/// all vectors of a class at 16-byte boundaries and at boundaries of the blocks of four words.
inline bool are_spatial(Op op, const KernelParams& a) {
  const Rows& rows = a.rows;
  if (a.input_type == DType::kFloat64 || rows.classes > kMaxClasses) return false;
  const int inner = rows.dims - 1, width = width_of(a.input_type);
  if (inner < 0 || rows.size[inner] % width != 0) return false;
  const auto steps = [&](Operand operand, int64_t first, int64_t multiple) {
    const int64_t* stride = rows.stride[static_cast<int>(operand)];
    bool even = first % multiple == 0 && rows.step(operand) % multiple == 0 && stride[inner] == 1;
    for (int d = 0; d < inner; ++d) even &= stride[d] % multiple == 0;
    return even;
  };
  const auto lies_well = [&](Operand operand, const void* data, DType type) {
    const Run run = run_of(a, operand, data, type);
    return suits(type, a.input_type) && steps(operand, run.first, width_of(type));
  };
  return lies_well(Operand::kInput, a.input, a.input_type) &&
         (!has_output(op) || lies_well(Operand::kOutput, a.output, a.output_type)) &&
         (!has_one_hot(op) || lies_well(Operand::kOutput, a.one_hot, a.output_type)) &&
         (!has_grad(op) || lies_well(Operand::kGrad, a.grad, a.grad_type)) &&
         (!draws(op) || (steps(Operand::kWord, static_cast<int64_t>(rows.first_word), 4) &&
                         rows.stride[static_cast<int>(Operand::kKey)][inner] == 0));
}

/// Whether aligned rows are contiguous in every tensor, from a 16-byte boundary on, under one key.
inline bool are_flat(Op op, const KernelParams& a) {
  const Rows& rows = a.rows;
  const auto ends_meet = [&](Operand operand) {
    return rows.dims == 0 || rows.stride[static_cast<int>(operand)][0] == rows.classes;
  };
  const bool one_key =
      a.key == nullptr || rows.dims == 0 || rows.stride[static_cast<int>(Operand::kKey)][0] == 0;
  return rows.dims <= 1 && one_key && ends_meet(Operand::kInput) &&
         (!has_output(op) || ends_meet(Operand::kOutput)) &&
         (!has_grad(op) || ends_meet(Operand::kGrad)) &&
         (!draws(op) || ends_meet(Operand::kWord)) &&
         reinterpret_cast<uintptr_t>(a.input) % 16 == 0;
}

/// Noise whose words are consecutive in the order of memory as one row: outputs do not overlap, so
/// that equal strides over as many elements as there are say so.
inline KernelParams as_run(const KernelParams& a) {
  const auto stride = [&](Operand operand, int d) {
    return a.rows.stride[static_cast<int>(operand)][d];
  };
  int64_t last = (a.rows.classes - 1) * a.rows.step(Operand::kOutput);
  bool same = a.rows.classes == 1 || a.rows.step(Operand::kOutput) == a.rows.step(Operand::kWord);
  for (int d = 0; d < a.rows.dims; ++d) {
    if (a.rows.size[d] == 1) continue;
    last += (a.rows.size[d] - 1) * stride(Operand::kOutput, d);
    same &= stride(Operand::kOutput, d) == stride(Operand::kWord, d);
    same &= a.key == nullptr || stride(Operand::kKey, d) == 0;
  }
  if (!same || last != a.rows.count * a.rows.classes - 1) return a;
  KernelParams run = a;
  run.rows = Rows{};
  run.rows.count = 1;
  run.rows.classes = a.rows.count * a.rows.classes;
  for (int64_t& step : run.rows.class_stride) step = 1;
  run.rows.first_word = a.rows.first_word;
  return run;
}

}  // namespace torch_gumbel::cuda::planning
