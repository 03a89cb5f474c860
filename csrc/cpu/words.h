// SPDX-License-Identifier: Apache-2.0
// Philox in vectors: one block per 64-bit lane.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace torch_gumbel::cpu::TG_ISA {

constexpr int kBlocks = kVectorBytes / 8;  // blocks in one vector

typedef uint64_t Wide __attribute__((vector_size(kVectorBytes)));
typedef uint64_t WideMemory __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));

/// Words that fill_words may write past the last one asked for.
constexpr int kWordSlack = 4 * kBlocks;

/// Product of the low halves. The high halves may hold anything, so nothing ever masks them.
static inline Wide multiply_low(Wide a, Wide b) {
#if defined(__AVX512F__)
  return (Wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF);
#endif
}

static inline Wide broadcast(uint64_t value) { return Wide{} + value; }

/// Lane j holds block (j % 2) kBlocks/2 + j/2, so that two interleavings put the words in order.
static inline Wide lane_blocks() {
  Wide lanes;
  for (int j = 0; j < kBlocks; ++j) lanes[j] = (j % 2) * kBlocks / 2 + j / 2;
  return lanes;
}

#if defined(__AVX512F__)
static inline Wide interleave_even(Wide a, Wide b) {
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
}
static inline Wide interleave_odd(Wide a, Wide b) {
  return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}
#elif defined(__AVX2__)
static inline Wide interleave_even(Wide a, Wide b) {
  return __builtin_shufflevector(a, b, 0, 4, 2, 6);
}
static inline Wide interleave_odd(Wide a, Wide b) {
  return __builtin_shufflevector(a, b, 1, 5, 3, 7);
}
#else
static inline Wide interleave_even(Wide a, Wide b) { return __builtin_shufflevector(a, b, 0, 2); }
static inline Wide interleave_odd(Wide a, Wide b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

/// The ten round keys of a seed, widened once per run.
struct RoundKeys {
  uint64_t key0[math::philox::kRounds];
  uint64_t key1[math::philox::kRounds];

  explicit RoundKeys(uint64_t seed) {
    for (uint32_t round = 0; round < math::philox::kRounds; ++round) {
      key0[round] = static_cast<uint32_t>(seed) + round * math::philox::kWeyl0;
      key1[round] = static_cast<uint32_t>(seed >> 32) + round * math::philox::kWeyl1;
      key0[round] &= 0xFFFFFFFF;
      key1[round] &= 0xFFFFFFFF;
    }
  }
};

/// `groups` vectors of blocks from one counter on; the low counter word must not wrap among them.
template <int groups>
static inline void philox_groups(const RoundKeys& keys, uint64_t counter, math::Plane plane,
                                 uint32_t* out) {
  const Wide multiplier0 = broadcast(math::philox::kMultiplier0);
  const Wide multiplier1 = broadcast(math::philox::kMultiplier1);
  Wide c0[groups], c1[groups], c2[groups], c3[groups];
  for (int g = 0; g < groups; ++g) {
    c0[g] = lane_blocks() + broadcast((counter & 0xFFFFFFFF) + g * kBlocks);
    c1[g] = broadcast(counter >> 32);
    c2[g] = broadcast(static_cast<uint32_t>(plane));
    c3[g] = broadcast(0);
  }
  for (int round = 0; round < math::philox::kRounds; ++round) {
    const Wide key0 = broadcast(keys.key0[round]), key1 = broadcast(keys.key1[round]);
    for (int g = 0; g < groups; ++g) {
      const Wide a = multiply_low(c0[g], multiplier0);
      const Wide b = multiply_low(c2[g], multiplier1);
      c0[g] = (b >> 32) ^ (c1[g] ^ key0);
      c2[g] = (a >> 32) ^ (c3[g] ^ key1);
      c1[g] = b;
      c3[g] = a;
    }
  }
  for (int g = 0; g < groups; ++g) {
    const Wide low = (c0[g] & 0xFFFFFFFF) | (c1[g] << 32);
    const Wide high = (c2[g] & 0xFFFFFFFF) | (c3[g] << 32);
    // Not `auto`: it would drop the typedef's alignment, and the stores would be aligned ones.
    WideMemory* to = reinterpret_cast<WideMemory*>(out + g * 4 * kBlocks);
    to[0] = interleave_even(low, high);
    to[1] = interleave_odd(low, high);
  }
}

/// Words of blocks [first, first + blocks) of a key. May write up to kWordSlack words more.
static inline void fill_words(math::Key key, uint64_t first, int64_t blocks, math::Plane plane,
                              uint32_t* out) {
  constexpr int kGroups = 4;
  const RoundKeys keys(key.seed);
  int64_t done = 0;
  while (done < blocks) {
    const uint64_t counter = key.offset + first + static_cast<uint64_t>(done);
    const uint64_t room = (uint64_t{1} << 32) - (counter & 0xFFFFFFFF);
    uint32_t* to = out + 4 * done;
    if (blocks - done > (kGroups - 1) * kBlocks && room >= kGroups * kBlocks) {
      philox_groups<kGroups>(keys, counter, plane, to);
      done += kGroups * kBlocks;
    } else if (room >= kBlocks) {
      philox_groups<1>(keys, counter, plane, to);
      done += kBlocks;
    } else {
      const math::Block block = math::key_block(key, first + static_cast<uint64_t>(done), plane);
      memcpy(to, block.word, sizeof block.word);
      done += 1;
    }
  }
}

}  // namespace torch_gumbel::cpu::TG_ISA
