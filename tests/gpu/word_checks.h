// SPDX-License-Identifier: Apache-2.0
// The GPU's approximate functions against the bounds that the kernels assume of them, for every
// word that they can meet. Torch-free: it runs on a GPU (tests/cpp/gpu_words_test.cpp) and on the
// execution model (tests/cuda_model/word_checks_test.cpp).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace torch_gumbel::testing {

/// What a word stands for: a random word, whose fast score weighs a soft sample or filters the
/// candidates of a choice, or the bits of an argument of exp2 or log2.
enum class WordUse { kWeights, kFilter, kExp2, kLog2 };
constexpr int kWordUses = 4;
constexpr const char* kWordUseNames[kWordUses] = {"weights", "filter", "exp2", "log2"};

/// `count` words at a distance of `step`, over the end from 0 on.
struct WordRange {
  uint64_t count = uint64_t{1} << 32;
  uint32_t first = 0;
  uint32_t step = 1;
};

/// A planted fault: what the device gives for `word` is off by `by` (exp2: relative).
struct PlantedError {
  uint32_t word = 0;
  float by = 0;
};

/// The largest error found, as a share of its bound, and a word that has it.
struct WorstWord {
  float share;
  uint32_t word;
};

/// Errors are positive, so that the larger share is the larger number; NaN is the largest.
inline WorstWord unpacked(uint64_t packed) {
  return {__builtin_bit_cast(float, static_cast<uint32_t>(packed >> 32)),
          static_cast<uint32_t>(packed)};
}

constexpr int kWordThreads = 256;

/// Results of a launch: of every use, one for each thread.
constexpr int64_t word_results(int blocks) { return int64_t{kWordUses} * blocks * kWordThreads; }

/// Writes every thread's worst words, packed, to `worst` on the device: [use, thread].
cudaError_t check_words(const WordRange& range, int blocks, const PlantedError& planted,
                        uint64_t* worst, cudaStream_t stream);

}  // namespace torch_gumbel::testing
