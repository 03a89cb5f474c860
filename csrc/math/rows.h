// SPDX-License-Identifier: Apache-2.0
// The rows of an op: where each row's elements lie in every operand, and which random words they
// take.
//
// A row is one vector along the class dimension. Everything that varies from row to row (memory
// offsets, word positions, temperature, key) is a linear function of the row's index in the other
// dimensions, so one table of strides serves any layout, any `dim`, shards of a larger tensor,
// batched keys, and per-row temperatures.
#pragma once

#include "philox.h"

namespace torch_gumbel {

/// What a kernel computes, forward and backward. kHardSoft: the soft sample, and the one-hot of the
/// same noise in KernelParams::one_hot.
enum class Op { kSoft, kHard, kHardSoft, kArgmax, kBackward, kHardBackward, kNoise };

/// What the backward of a one-hot sample computes: estimators.h.
enum class Estimator : int32_t { kStraightThrough, kZgr, kReinMax, kGapped, kGumbelRao };

/// Element types that the kernels read and write.
enum class DType : int32_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

/// The tensors of an op, as far as rows are concerned. Their strides are in elements; kWord's are
/// in words, kKey's in 64-bit halves of keys. kLogPrior: of relative entropy, whose gradients are one
/// per row, so that it needs no kGrad.
enum class Operand : int32_t { kInput, kGrad, kOutput, kTau, kKey, kWord, kLogPrior = kGrad };
constexpr int kOperands = 6;

/// Row dimensions left after merging. More than any layout needs that is not contrived; the builder
/// copies an input that would need more.
constexpr int kMaxRowDims = 12;

struct Rows {
  int64_t count = 0;    // rows
  int64_t classes = 0;  // elements in a row, K
  int32_t dims = 0;     // row dimensions after merging, outermost first
  int64_t size[kMaxRowDims] = {};
  int64_t stride[kOperands][kMaxRowDims] = {};
  int64_t class_stride[kOperands] = {};
  uint64_t first_word = 0;  // position of the first class of the first row

  TG_HD int64_t step(Operand operand) const { return class_stride[static_cast<int>(operand)]; }
};

/// One row: the offset of its first class in each operand.
struct Row {
  int64_t offset[kOperands] = {};

  TG_HD int64_t operator[](Operand operand) const { return offset[static_cast<int>(operand)]; }
};

/// Row `index` (row-major over the row dimensions). Word positions wrap modulo 2^64, as unsigned
/// arithmetic does.
TG_HD Row row_at(const Rows& rows, int64_t index) {
  Row row;
  row.offset[static_cast<int>(Operand::kWord)] = static_cast<int64_t>(rows.first_word);
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
  for (int d = rows.dims - 1; d >= 0; --d) {
    const int64_t quotient = index / rows.size[d];
    const int64_t coordinate = index - quotient * rows.size[d];
    index = quotient;
    for (int operand = 0; operand < kOperands; ++operand)
      row.offset[operand] += coordinate * rows.stride[operand][d];
  }
  return row;
}

/// A private op's arguments without Torch: what every kernel, CPU or CUDA, takes. Unused pointers
/// are null.
struct KernelParams {
  Rows rows;
  const void* input = nullptr;  // logits, or the soft sample y in the backward from y
  const void* grad = nullptr;   // gradient of the loss at the output
  void* output = nullptr;       // sample, noise, or gradient at the logits
  void* one_hot = nullptr;      // type and strides of `output`: kHardSoft; kHard, on a CPU: a copy
                                // of the input, which lies so as well. Else null
  const void* tau = nullptr;    // temperature: one value, or one per row
  const uint64_t* key = nullptr;
  void* row_value = nullptr;  // [rows] log-sum-exp, d loss / d tau, or best score: float, double
                              // for float64 logits
  int64_t* index = nullptr;   // [rows] argmax; read by the one-hot backward
  math::Key host_key;         // the key when it was read on the host (`key` is null then)
  double host_tau = 1.0;      // the temperature when it was read on the host (`tau` is null then)
  DType input_type = DType::kFloat32;
  DType grad_type = DType::kFloat32;
  DType output_type = DType::kFloat32;
  DType tau_type = DType::kFloat64;
  Estimator estimator = Estimator::kStraightThrough;  // one-hot backward, from input, grad, index
  int32_t draws = 1;                                  // kGumbelRao
  double gap = 1;                                     // kGapped
};

TG_HD math::Key key_of(const KernelParams& a, const Row& row) {
  if (a.key == nullptr) return a.host_key;
  const uint64_t* key = a.key + row[Operand::kKey];
  return {key[0], key[1]};
}

}  // namespace torch_gumbel
