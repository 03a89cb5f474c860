// SPDX-License-Identifier: Apache-2.0
// A row whose classes are consecutive in memory and in random words, divided at 16-byte boundaries,
// which are boundaries of the words' blocks of four as well (plan.h checks that).
#pragma once

#include "pack.cuh"
#include "problem.h"

namespace torch_gumbel::cuda {

/// row_at() without divisions where the rows are evenly spaced.
__device__ __forceinline__ Row row_of(const Rows& rows, int64_t index) {
  if (rows.dims > 1) return row_at(rows, index);
  Row row;
  for (int operand = 0; operand < kOperands; ++operand)
    row.offset[operand] = index * rows.stride[operand][0];
  row.offset[static_cast<int>(Operand::kWord)] += static_cast<int64_t>(rows.first_word);
  return row;
}

__device__ __forceinline__ int element_size(DType type) {
  return type == DType::kFloat64 ? 8 : type == DType::kFloat32 ? 4 : 2;
}

__device__ __forceinline__ const void* row_pointer(const void* data, DType type, const Row& row,
                                                   Operand operand) {
  return static_cast<const char*>(data) + row[operand] * element_size(type);
}

/// `head` classes, then `vectors` of 16 bytes of the input, then the tail; unaligned rows are divided
/// at boundaries of the words alone. Head and tail have fewer than 2 kWidth classes, which are
/// processed one by one.
template <typename Element>
struct AlignedRow {
  using Storage = typename Element::Storage;

  const Storage* input;
  const void* grad;
  void* output;
  uint64_t word;
  int classes;
  int head;
  int vectors;

  __device__ __forceinline__ AlignedRow(const KernelParams& a, const Row& row) {
    input = static_cast<const Storage*>(a.input) + row[Operand::kInput];
    grad = row_pointer(a.grad, a.grad_type, row, Operand::kGrad);
    output = const_cast<void*>(row_pointer(a.output, a.output_type, row, Operand::kOutput));
    word = static_cast<uint64_t>(row[Operand::kWord]);
    classes = static_cast<int>(a.rows.classes);
    const uint64_t place =
        Element::kAligned ? reinterpret_cast<uintptr_t>(input) / sizeof(Storage) : word;
    const int past = static_cast<int>(place) & (Element::kWidth - 1);
    const int before = (Element::kWidth - past) & (Element::kWidth - 1);
    head = before < classes ? before : classes;
    vectors = (classes - head) / Element::kWidth;
  }

  /// The row of the hard sample that belongs to a soft one.
  __device__ __forceinline__ AlignedRow one_hot(const KernelParams& a, const Row& row) const {
    AlignedRow aligned = *this;
    aligned.output =
        const_cast<void*>(row_pointer(a.one_hot, a.output_type, row, Operand::kOutput));
    return aligned;
  }

  __device__ __forceinline__ int head_tail_count() const {
    return classes - vectors * Element::kWidth;
  }
  __device__ __forceinline__ int head_tail_class(int head_tail) const {
    return head_tail < head ? head_tail : head_tail + vectors * Element::kWidth;
  }
  __device__ __forceinline__ int class_of(int vector) const {
    return head + vector * Element::kWidth;
  }
};

/// One value of a tensor whose elements are either `Element`s or float32.
template <typename Element>
__device__ __forceinline__ float load_one(const void* data, DType type, int at) {
  if (Element::kType != DType::kFloat32 && type != DType::kFloat32)
    return Element::widen(static_cast<const typename Element::Storage*>(data)[at]);
  return static_cast<const float*>(data)[at];
}

template <typename Element>
__device__ __forceinline__ void store_one(void* data, DType type, int at, float value) {
  if (Element::kType != DType::kFloat32 && type != DType::kFloat32)
    static_cast<typename Element::Storage*>(data)[at] = Element::narrow(value);
  else
    static_cast<float*>(data)[at] = value;
}

__device__ __forceinline__ double tau_at(const KernelParams& a, const Row& row) {
  const int64_t at = row[Operand::kTau];
  switch (a.tau_type) {
    case DType::kFloat32:
      return static_cast<const float*>(a.tau)[at];
    case DType::kFloat64:
      return static_cast<const double*>(a.tau)[at];
    case DType::kFloat16:
      return half_to_float(static_cast<const uint16_t*>(a.tau)[at]);
    case DType::kBFloat16:
      return bfloat_to_float(static_cast<const uint16_t*>(a.tau)[at]);
  }
  __builtin_unreachable();
}

__device__ __forceinline__ double tau_of(const KernelParams& a, const Row& row) {
  return a.tau == nullptr ? a.host_tau : tau_at(a, row);
}

__device__ __forceinline__ Temperature temperature(const Problem& p, const Row& row) {
  return p.a.tau == nullptr ? p.temperature : temperature_of(tau_at(p.a, row));
}

}  // namespace torch_gumbel::cuda
