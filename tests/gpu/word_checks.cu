// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>
#include <math.h>

#include "../../cuda/device/fast_noise.cuh"
#include "word_checks.h"

namespace torch_gumbel::testing {

namespace {

using cuda::Scoring;

/// The larger one of two packed errors.
__device__ __forceinline__ void note(uint64_t& worst, double error, double bound, uint32_t word) {
  float share = static_cast<float>(error / bound);
  if (share != share) share = __builtin_inff();
  const uint64_t packed = static_cast<uint64_t>(math::bits_of(share)) << 32 | word;
  if (packed > worst) worst = packed;
}

/// |fast - exact| against the bound of cuda/device/fast_noise.cuh, at a logit. Extended words have
/// exact scores.
template <Scoring kFor>
__device__ __forceinline__ void check_score(uint64_t& worst, float logit, uint32_t word,
                                            float planted) {
  if (word < math::kExtendBelow) return;
  const double fast =
      cuda::fast_score<kFor>(logit, word, cuda::reflected_bits(word)) + double{planted};
  const double exact = cuda::among_fast<kFor>(logit + math::gumbel(word, 0));
  note(worst, fabs(fast - exact), double{cuda::kScoreError} + 0x1p-22 * fabs(exact), word);
}

/// exp2_fast(), relative, of arguments from -126 on; below, 0.
__device__ __forceinline__ void check_exp2(uint64_t& worst, uint32_t word, float planted) {
  const float x = math::float_of(word);
  if (x != x || x >= 128.0f) return;
  const double got = cuda::exp2_fast(x) * (1.0 + double{planted});
  const double exact = x < -126.0f ? 0.0 : exp2(static_cast<double>(x));
  note(worst, fabs(got - exact), exact == 0.0 ? 1e-300 : exact * 0x1p-22, word);
}

/// log2_fast(): absolute in [1/2, 2], relative elsewhere; -inf below 2^-126.
__device__ __forceinline__ void check_log2(uint64_t& worst, uint32_t word, float planted) {
  const float x = math::float_of(word);
  if (!(x >= 0.0f && x < __builtin_inff())) return;
  const double got = cuda::log2_fast(x) + double{planted};
  if (x < 0x1p-126f) {
    note(worst, got == -__builtin_inff() ? 0.0 : 2.0, 1.0, word);
    return;
  }
  const double exact = log2(static_cast<double>(x));
  const bool near_one = x >= 0.5f && x <= 2.0f;
  note(worst, fabs(got - exact), (near_one ? 1.0 : fabs(exact)) * 0x1p-22, word);
}

/// A logit of up to 64 that a word decides, for the roundings of larger scores.
__device__ __forceinline__ float some_logit(uint32_t word) {
  return math::signed_float(word * 0x9E3779B9u) * 0x1p-25f;
}

__global__ void checked_words_kernel(WordRange range, PlantedError planted, uint64_t* worst) {
  const uint64_t threads = uint64_t{gridDim.x} * blockDim.x;
  const uint64_t thread = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  uint64_t found[kWordUses] = {};
  for (uint64_t i = thread; i < range.count; i += threads) {
    const uint32_t word = range.first + static_cast<uint32_t>(i) * range.step;
    const float by = word == planted.word ? planted.by : 0.0f;
    for (const float logit : {0.0f, some_logit(word)}) {
      check_score<Scoring::kWeights>(found[0], logit, word, by);
      check_score<Scoring::kFilter>(found[1], logit, word, by);
    }
    check_exp2(found[2], word, by);
    check_log2(found[3], word, by);
  }
  for (int use = 0; use < kWordUses; ++use) worst[use * threads + thread] = found[use];
}

}  // namespace

cudaError_t check_words(const WordRange& range, int blocks, const PlantedError& planted,
                        uint64_t* worst, cudaStream_t stream) {
  void* arguments[] = {const_cast<WordRange*>(&range), const_cast<PlantedError*>(&planted), &worst};
  return cudaLaunchKernel(checked_words_kernel, dim3(static_cast<unsigned>(blocks)),
                          dim3(kWordThreads), arguments, 0, stream);
}

}  // namespace torch_gumbel::testing
