// SPDX-License-Identifier: Apache-2.0
// What the kernels of filtered draws take: logits with their classes next to each other. Torch-free.
#pragma once

#include "../include/torch_gumbel/export.h"
#include "../math/filter.h"
#include "plan.h"

namespace torch_gumbel::cpu {

/// Elements of an array of a row's scratch, and its bytes: the row, three lists, and the maxima of
/// groups.
constexpr int64_t kFilterSlack = 128;
constexpr int64_t kFilterGroup = 16;  // classes to a maximum
TG_HD constexpr int64_t filter_elements(int64_t classes) {
  return (classes + kFilterSlack + 15) / 16 * 16;
}
TG_HD constexpr int64_t filter_scratch_bytes(int64_t classes, DType opmath) {
  const int64_t n = filter_elements(classes), size = element_size(opmath);
  return n * (4 * size + 6 * 4) + filter_elements(classes / kFilterGroup + 512) * size;
}

struct Kernels;  // kernels.h

/// Filtered draws, or filtered logits, of rows [begin, end). `scratch`: filter_scratch_bytes, the
/// caller's own, 64-byte aligned.
using FilterKernel = void (*)(const FilterParams& a, int64_t begin, int64_t end, void* scratch);

/// That of the instruction set of these kernels.
TORCH_GUMBEL_API FilterKernel filter_kernel(const Kernels& kernels);

}  // namespace torch_gumbel::cpu
