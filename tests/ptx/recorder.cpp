// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA runtime: the launching code runs as it is, on the host, and every launch
// goes to a callback instead of a device.
#include <cuda_runtime_api.h>

#include <map>
#include <string>

#include "../../cuda/device/gate_problem.h"
#include "../../cuda/device/log_prob_problem.h"
#include "../../cuda/device/problem.h"
#include "../../cuda/device/subset_problem.h"
#include "../../cuda/filter.h"
#include "../../cuda/kernels.h"
#include "../../cuda/log_prob.h"
#include "../../cuda/subset.h"

namespace {

using namespace torch_gumbel;

using OnLaunch = void (*)(const char* kernel, unsigned blocks, unsigned threads, unsigned shared,
                          unsigned cluster, void** arguments);

OnLaunch on_launch = nullptr;

std::map<const void*, std::string>& names() {
  static std::map<const void*, std::string> registered;
  return registered;
}

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaInitModule(void**) {}

void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  names()[host] = name;
}

unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, void*) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaSuccess; }

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t) {
  on_launch(names().at(kernel).c_str(), grid.x, block.x, static_cast<unsigned>(shared), 1,
            arguments);
  return cudaSuccess;
}

/// With one attribute, the blocks of a cluster.
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel,
                                void** arguments) {
  on_launch(names().at(kernel).c_str(), config->gridDim.x, config->blockDim.x,
            static_cast<unsigned>(config->dynamicSmemBytes), config->attrs[0].val.clusterDim.x,
            arguments);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) {
  return cudaErrorNotSupported;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

// Since CUDA 13 launches go by a handle: here the kernel's address on the host.
cudaError_t __cudaGetKernel(cudaKernel_t* handle, const void* kernel) {
  *handle = static_cast<cudaKernel_t>(const_cast<void*>(kernel));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared, cudaStream_t stream) {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

void set_on_launch(OnLaunch callback) { on_launch = callback; }
int64_t problem_bytes() { return sizeof(cuda::Problem); }
int64_t workspace_offset() { return offsetof(cuda::Problem, workspace); }

/// Bytes of workspace that an op asks for.
int64_t workspace_bytes(int op, const KernelParams* a, int multiprocessors, int clusters) {
  return cuda::workspace_bytes(static_cast<Op>(op), *a, multiprocessors, clusters != 0);
}

/// `op`: -1 for the backward of one-hot samples.
void run_op(int op, const KernelParams* a, void* workspace, int multiprocessors, int clusters) {
  if (op < 0) return cuda::one_hot_backward(*a, nullptr);
  cuda::run_op(static_cast<Op>(op), *a, nullptr, {workspace, multiprocessors, clusters != 0});
}

int64_t gate_problem_bytes() { return sizeof(cuda::GateProblem); }
void run_gates(int op, const GateParams* a) { cuda::gates(static_cast<GateOp>(op), *a, nullptr); }

int64_t log_prob_problem_bytes() { return sizeof(cuda::LogProbProblem); }
/// Of the first value of rows: seven pointers.
int64_t log_prob_rows_offset() { return offsetof(cuda::LogProbProblem, log_prob); }
void run_log_prob(bool backward, const LogProbParams* a) {
  (backward ? cuda::log_prob_backward : cuda::log_prob)(*a, nullptr);
}

int64_t subset_problem_bytes() { return sizeof(cuda::SubsetProblem); }
int64_t subset_workspace_bytes(const SubsetParams* a) { return cuda::subset_workspace_bytes(*a); }
void run_subset(const SubsetParams* a, void* workspace) { cuda::subset(*a, workspace, nullptr); }

void run_filtered(const FilterParams* a) { cuda::filtered(*a, nullptr); }

void run_fold_in(const uint64_t* keys, int64_t count, uint64_t first, int64_t per_key,
                 const uint64_t* number, uint64_t* out) {
  if (number == nullptr)
    cuda::fold_in(keys, count, static_cast<int64_t>(first), per_key, out, nullptr);
  else
    cuda::fold_in(keys, count, number, out, nullptr);
}

void run_noise_at(const NoiseAtParams* a, bool wide) { cuda::noise_at(*a, wide, nullptr); }

void run_write_key(const cuda::Reservation* reservation, uint64_t* key) {
  cuda::write_key(*reservation, key, nullptr);
}

}  // extern "C"
