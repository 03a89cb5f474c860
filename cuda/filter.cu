// SPDX-License-Identifier: Apache-2.0
// How the kernels of filtered draws are launched.
#include <cuda_runtime.h>

#include "filter.h"
#include "kernels/filter.cuh"

namespace torch_gumbel::cuda {

namespace {

/// A thread takes four classes or more, but histograms want two warps.
int threads_of(int64_t classes) {
  int threads = 2 * kWarpSize;
  while (threads < kFilterThreads && int64_t{8} * threads <= classes) threads *= 2;
  return threads;
}

}  // namespace

void filtered(const FilterParams& a, cudaStream_t stream) {
  constexpr int64_t kMostBlocks = int64_t{1} << 20;
  const Rows& rows = a.rows;
  if (rows.count == 0 || rows.classes == 0) return;
  const int64_t blocks = rows.count < kMostBlocks ? rows.count : kMostBlocks;
  auto* kernel = a.input_type == DType::kFloat64 ? filter_generic_kernel<double>
                                                 : filter_generic_kernel<float>;
  FilterParams given = a;
  void* arguments[] = {&given};
  (void)cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)),
                         dim3(static_cast<unsigned>(threads_of(rows.classes))), arguments, 0,
                         stream);
}

}  // namespace torch_gumbel::cuda
