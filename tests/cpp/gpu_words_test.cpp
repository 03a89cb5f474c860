// SPDX-License-Identifier: Apache-2.0
// All 2^32 words on the GPU: its exp2 and log2, and the scores made of them, within the bounds that
// the kernels assume. The choices of hard samples rest on that bound.
#include <iostream>

#include "gpu.h"
#include "gpu/word_checks.h"

namespace torch_gumbel::testing {
namespace {

class GpuWords : public Gpu {
 protected:
  static constexpr int kBlocks = 2112;

  /// The worst word of every use.
  std::vector<WorstWord> worst_words(const WordRange& range, const PlantedError& planted) {
    const at::Tensor each = at::full({kWordUses, word_results(kBlocks) / kWordUses}, -1,
                                     at::device(at::kCUDA).dtype(at::kLong));
    const cudaError_t error = check_words(range, kBlocks, planted,
                                          static_cast<uint64_t*>(each.mutable_data_ptr()), nullptr);
    EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const at::Tensor most = each.amax(1).cpu();
    std::vector<WorstWord> found;
    for (int use = 0; use < kWordUses; ++use)
      found.push_back(unpacked(static_cast<uint64_t>(most.const_data_ptr<int64_t>()[use])));
    return found;
  }
};

TEST_F(GpuWords, AllAreWithinTheBoundsThatKernelsAssume) {
  const std::vector<WorstWord> found = worst_words({}, {});
  for (int use = 0; use < kWordUses; ++use) {
    const auto [share, word] = found[use];
    std::cout << "words: " << kWordUseNames[use] << ": largest error " << share
              << " of its bound, at word 0x" << std::hex << word << std::dec << "\n";
    RecordProperty(kWordUseNames[use], std::to_string(share));
    EXPECT_GT(share, 0) << kWordUseNames[use] << ": nothing was compared";
    EXPECT_LE(share, 1) << kWordUseNames[use] << " at word " << word;
  }
}

/// 1.5 lies in the domain of every use.
TEST_F(GpuWords, AFaultOfOneWordIsFound) {
  constexpr uint32_t kWord = 0x3FC00000;
  for (const WorstWord& each : worst_words({}, {kWord, 0x1p-12f})) {
    EXPECT_GT(each.share, 1);
    EXPECT_EQ(each.word, kWord);
  }
}

}  // namespace
}  // namespace torch_gumbel::testing
