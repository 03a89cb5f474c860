// SPDX-License-Identifier: Apache-2.0
// nvcc compiles these kernels beside the others: they are for some architectures only.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>

#include "cluster.h"
#include "kernels.h"
#include "kernels/cluster.cuh"

namespace torch_gumbel::cuda {

namespace {

using ClusterKernel = void (*)(Problem);

template <typename Element>
ClusterKernel kernel_of(const KernelParams& a) {
  constexpr int kVectors = planning::kMaxItemsPerThread / Element::kWidth;
  return a.key != nullptr ? soft_cluster_kernel<Element, kVectors, true>
                          : soft_cluster_kernel<Element, kVectors, false>;
}

ClusterKernel kernel_of_type(const KernelParams& a) {
  if (a.input_type == DType::kFloat32) return kernel_of<Float32>(a);
  if (a.input_type == DType::kFloat16) return kernel_of<Float16>(a);
  return kernel_of<BFloat16>(a);
}

}  // namespace

void launch_cluster(const Problem& problem, const Plan& plan, cudaStream_t stream) {
  cudaLaunchAttribute size = {};
  size.id = cudaLaunchAttributeClusterDimension;
  size.val.clusterDim.x = static_cast<unsigned>(plan.blocks_per_row);
  size.val.clusterDim.y = size.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(plan.blocks));
  config.blockDim = dim3(static_cast<unsigned>(plan.threads));
  config.stream = stream;
  config.attrs = &size;
  config.numAttrs = 1;
  (void)cudaLaunchKernelEx(&config, kernel_of_type(problem.a), problem);
}

bool has_clusters(int capability) {
  static const bool wanted = [] {
    const char* set = std::getenv("TORCH_GUMBEL_CUDA_CLUSTERS");
    return set != nullptr && std::strcmp(set, "1") == 0;
  }();
  if (!wanted || capability < 9) return false;
  // Of code for older devices, or of their PTX, the kernels are empty.
  static const bool compiled = [] {
    cudaFuncAttributes found = {};
    const bool known = cudaFuncGetAttributes(&found, kernel_of_type({})) == cudaSuccess;
    if (!known) (void)cudaGetLastError();
    return known && found.ptxVersion >= 90;
  }();
  return compiled;
}

}  // namespace torch_gumbel::cuda
