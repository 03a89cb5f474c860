// SPDX-License-Identifier: Apache-2.0
// Philox in vectors: one block per 64-bit lane.
#pragma once

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

static inline Wide swapped_halves(Wide a) {
#if defined(__AVX512F__)
  return (Wide)_mm512_rol_epi64((__m512i)a, 32);
#elif defined(__AVX2__)
  return (Wide)_mm256_shuffle_epi32((__m256i)a, 0xB1);
#elif defined(__x86_64__)
  return (Wide)_mm_shuffle_epi32((__m128i)a, 0xB1);
#else
  return (a >> 32) | (a << 32);
#endif
}

/// The last round's words of a pair: (product >> 32) ^ c ^ key in the low half, above it the
/// product's own low half.
static inline Wide last_pair(Wide product, Wide c, uint64_t key) {
#if defined(__AVX512F__)
  return (Wide)_mm512_mask_ternarylogic_epi32((__m512i)swapped_halves(product), 0x5555, (__m512i)c,
                                              (__m512i)broadcast(key), 0x96);
#else
  return swapped_halves(product) ^ (c & 0xFFFFFFFF) ^ broadcast(key);
#endif
}

/// The ten round keys of a seed, widened once per run.
struct WideRoundKeys {
  uint64_t key0[math::philox::kRounds];
  uint64_t key1[math::philox::kRounds];

  explicit WideRoundKeys(uint64_t seed) {
    for (uint32_t round = 0; round < math::philox::kRounds; ++round) {
      key0[round] = static_cast<uint32_t>(seed) + round * math::philox::kWeyl0;
      key1[round] = static_cast<uint32_t>(seed >> 32) + round * math::philox::kWeyl1;
      key0[round] &= 0xFFFFFFFF;
      key1[round] &= 0xFFFFFFFF;
    }
  }
};

/// The first two rounds, of everything but the low counter word. The counter's upper half is nearly
/// constant, so most of these rounds is the same for all blocks: 17 products instead of 20.
struct FoldedRounds {
  uint64_t c2_key;       // round 1: c2 = high(c0 M0) ^ this
  uint64_t c0_key;       // round 2: c0 = high(c2 M1) ^ this
  uint64_t next_c2_key;  // round 2: c2 = c3 ^ this
  uint64_t next_c3;

  FoldedRounds(const WideRoundKeys& keys, uint32_t high, math::Plane plane) {
    const uint64_t c2 = static_cast<uint64_t>(plane) * math::philox::kMultiplier1;
    const uint64_t product = (high ^ (c2 >> 32) ^ keys.key0[0]) * math::philox::kMultiplier0;
    c2_key = keys.key1[0];
    c0_key = (c2 & 0xFFFFFFFF) ^ keys.key0[1];
    next_c2_key = (product >> 32) ^ keys.key1[1];
    next_c3 = product;
  }
};

/// Vectors of blocks that are computed together: four would not fit into 16 registers.
constexpr int kUnroll = kVectorBytes == 64 ? 4 : 3;

/// A vector of blocks: its first low counter word, which must not wrap in it, and where its words
/// go.
struct BlockVec {
  uint64_t low;
  uint32_t* out;
};

template <int unroll>
static inline void philox_unrolled(const WideRoundKeys& keys, const FoldedRounds& start,
                                   const BlockVec (&vecs)[unroll]) {
  const Wide multiplier0 = broadcast(math::philox::kMultiplier0);
  const Wide multiplier1 = broadcast(math::philox::kMultiplier1);
  const Wide lane_products = multiply_low(lane_blocks(), multiplier0);
  Wide c0[unroll], c1[unroll], c2[unroll], c3[unroll];
  for (int g = 0; g < unroll; ++g) {
    c3[g] = lane_products + broadcast(vecs[g].low * math::philox::kMultiplier0);
    c1[g] = multiply_low((c3[g] >> 32) ^ broadcast(start.c2_key), multiplier1);
    c0[g] = (c1[g] >> 32) ^ broadcast(start.c0_key);
    c2[g] = c3[g] ^ broadcast(start.next_c2_key);
    c3[g] = broadcast(start.next_c3);
  }
  constexpr int kLast = math::philox::kRounds - 1;
  for (int round = 2; round < kLast; ++round) {
    const Wide key0 = broadcast(keys.key0[round]), key1 = broadcast(keys.key1[round]);
    for (int g = 0; g < unroll; ++g) {
      const Wide a = multiply_low(c0[g], multiplier0);
      const Wide b = multiply_low(c2[g], multiplier1);
      c0[g] = (b >> 32) ^ (c1[g] ^ key0);
      c2[g] = (a >> 32) ^ (c3[g] ^ key1);
      c1[g] = b;
      c3[g] = a;
    }
  }
  for (int g = 0; g < unroll; ++g) {
    const Wide even = last_pair(multiply_low(c2[g], multiplier1), c1[g], keys.key0[kLast]);
    const Wide odd = last_pair(multiply_low(c0[g], multiplier0), c3[g], keys.key1[kLast]);
    // Not `auto`: it would drop the typedef's alignment, and the stores would be aligned ones.
    WideMemory* to = reinterpret_cast<WideMemory*>(vecs[g].out);
    to[0] = interleave_even(even, odd);
    to[1] = interleave_odd(even, odd);
  }
}

/// Software prefetch of memory that is read soon, so many bytes per word. The hardware prefetcher
/// sees only bursts of reads, with thousands of cycles of arithmetic between them: so the
/// arithmetic prefetches, a little at a time, what is read after it.
struct Prefetch {
  const char* data = nullptr;
  int64_t bytes_per_word = 0;

  TG_MEMBER void fetch(int64_t word, int64_t words) const {
    for (int64_t at = 0; at < words * bytes_per_word; at += kLine)
      __builtin_prefetch(data + word * bytes_per_word + at);
  }
  Prefetch advanced(int64_t words) const { return {data + words * bytes_per_word, bytes_per_word}; }
};

/// Words of blocks [first, first + blocks) of a key. May write up to kWordSlack words more.
static void fill_words(math::Key key, uint64_t first, int64_t blocks, math::Plane plane,
                       uint32_t* out, Prefetch prefetch = {}) {
  const WideRoundKeys keys(key.seed);
  for (int64_t done = 0; done < blocks;) {
    const uint64_t counter = key.offset + first + static_cast<uint64_t>(done);
    const uint64_t low = counter & 0xFFFFFFFF, before_wrap = (uint64_t{1} << 32) - low;
    if (before_wrap < kBlocks) {  // the low word wraps among the next lanes
      const math::Block block = math::key_block(key, first + static_cast<uint64_t>(done), plane);
      memcpy(out + 4 * done, block.word, sizeof block.word);
      done += 1;
      continue;
    }
    const FoldedRounds start(keys, static_cast<uint32_t>(counter >> 32), plane);
    const int64_t end = min64(blocks, done + static_cast<int64_t>(before_wrap) / kBlocks * kBlocks);
    const int64_t begin = done;
    const auto vec_at = [&](int64_t block) -> BlockVec {
      return {low + static_cast<uint64_t>(block - begin), out + 4 * block};
    };
    for (; done + (kUnroll - 1) * kBlocks < end; done += kUnroll * kBlocks) {
      BlockVec vecs[kUnroll];
      for (int i = 0; i < kUnroll; ++i) vecs[i] = vec_at(done + i * kBlocks);
      philox_unrolled<kUnroll>(keys, start, vecs);
      prefetch.fetch(4 * done, 4 * kUnroll * kBlocks);
    }
    for (; done < end; done += kBlocks) philox_unrolled<1>(keys, start, {vec_at(done)});
  }
}

/// Words of several runs, run k from position first + k step on: `count` positions, with their
/// neighbours in the same blocks. Run k goes to out + k run_stride(count).
constexpr int64_t run_stride(int64_t count) {
  const int64_t blocks = count / 4 + 2;
  return (blocks + kBlocks - 1) / kBlocks * kBlocks * 4;
}

static void fill_runs(math::Key key, uint64_t first, uint64_t step, int64_t runs, int64_t count,
                      math::Plane plane, uint32_t* out) {
  const WideRoundKeys keys(key.seed);
  uint64_t high = key.offset + first / 4;
  high >>= 32;
  FoldedRounds start(keys, static_cast<uint32_t>(high), plane);
  BlockVec pending[kUnroll];
  int pending_count = 0;
  const auto flush = [&] {
    if (pending_count == kUnroll)
      philox_unrolled<kUnroll>(keys, start, pending);
    else
      for (int i = 0; i < pending_count; ++i) philox_unrolled<1>(keys, start, {pending[i]});
    pending_count = 0;
  };
  for (int64_t k = 0; k < runs; ++k, out += run_stride(count)) {
    const uint64_t position = first + static_cast<uint64_t>(k) * step;
    const uint64_t counter = key.offset + position / 4, low = counter & 0xFFFFFFFF;
    const int64_t blocks = (static_cast<int64_t>(position % 4) + count + 3) / 4;
    if (low + blocks + kBlocks > uint64_t{1} << 32) {
      fill_words(key, position / 4, blocks, plane, out);
      continue;
    }
    if (counter >> 32 != high) {
      flush();
      high = counter >> 32;
      start = FoldedRounds(keys, static_cast<uint32_t>(high), plane);
    }
    for (int64_t done = 0; done < blocks; done += kBlocks) {
      pending[pending_count++] = {low + done, out + 4 * done};
      if (pending_count == kUnroll) flush();
    }
  }
  flush();
}

}  // namespace torch_gumbel::cpu::TG_ISA
