// SPDX-License-Identifier: Apache-2.0
// Philox4x32: random words as a pure function of (counter, key).
// Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include "host_device.h"

namespace torch_gumbel::math {

/// PyTorch's stateless key (torch.func._random): a Philox seed and an offset counted in blocks of
/// four words.
struct Key {
  uint64_t seed = 0;
  uint64_t offset = 0;
};

/// The four words of one counter.
struct Block {
  uint32_t word[4];
};

namespace philox {
constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;  // golden ratio
constexpr uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1
constexpr int kRounds = 10;
}  // namespace philox

/// The two key words of every round, so that a kernel that makes many blocks adds them up once.
template <int rounds = philox::kRounds>
struct RoundKeys {
  uint32_t word[2 * rounds];
};

template <int rounds = philox::kRounds>
TG_HD RoundKeys<rounds> round_keys(uint64_t seed) {
  RoundKeys<rounds> keys;
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < rounds; ++round) {
    keys.word[2 * round] = key0;
    keys.word[2 * round + 1] = key1;
    key0 += philox::kWeyl0;
    key1 += philox::kWeyl1;
  }
  return keys;
}

/// The product of word 0 in a round.
TG_HD uint64_t philox_product(uint32_t word) {
  return static_cast<uint64_t>(word) * philox::kMultiplier0;
}

/// A round from that product; word 0 itself is not read.
TG_HD Block philox_round(uint64_t product, Block c, uint32_t key0, uint32_t key1) {
  const uint64_t b = static_cast<uint64_t>(c.word[2]) * philox::kMultiplier1;
  return {{static_cast<uint32_t>(b >> 32) ^ c.word[1] ^ key0, static_cast<uint32_t>(b),
           static_cast<uint32_t>(product >> 32) ^ c.word[3] ^ key1,
           static_cast<uint32_t>(product)}};
}

TG_HD Block philox_round(Block c, uint32_t key0, uint32_t key1) {
  return philox_round(philox_product(c.word[0]), c, key0, key1);
}

/// Philox4x32 with `rounds` rounds; 10 is what cuRAND, ATen, and Random123 use.
template <int rounds = philox::kRounds>
TG_HD Block philox4x32(Block counter, uint64_t seed) {
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  Block c = counter;
  for (int round = 0; round < rounds; ++round) {
    c = philox_round(c, key0, key1);
    key0 += philox::kWeyl0;
    key1 += philox::kWeyl1;
  }
  return c;
}

/// The same from precomputed keys, and from the product of word 0 in the first round: of
/// consecutive counters, an addition makes one from another's.
template <int rounds>
TG_HD Block philox4x32(uint64_t product, Block counter, const RoundKeys<rounds>& keys) {
  Block c = philox_round(product, counter, keys.word[0], keys.word[1]);
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int round = 1; round < rounds; ++round)
    c = philox_round(c, keys.word[2 * round], keys.word[2 * round + 1]);
  return c;
}

template <int rounds>
TG_HD Block philox4x32(Block counter, const RoundKeys<rounds>& keys) {
  return philox4x32(philox_product(counter.word[0]), counter, keys);
}

/// Which of the independent words of a position: its word, or the one that extends a small word's
/// tail; further pairs of them follow.
enum class Plane : uint32_t { kWord = 0, kExtension = 1 };

/// The words that extend those of a plane.
TG_HD Plane extension_of(Plane plane) {
  return static_cast<Plane>(static_cast<uint32_t>(plane) + 1);
}

/// The counter of block `counter` of a seed.
TG_HD Block counter_block(uint64_t counter, Plane plane = Plane::kWord) {
  return {{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
           static_cast<uint32_t>(plane), 0}};
}

/// Block `index` of a key: words 4 index .. 4 index + 3. The counter wraps at 2^64 without a carry,
/// as torch's does.
TG_HD Block key_block(Key key, uint64_t index, Plane plane = Plane::kWord) {
  return philox4x32(counter_block(key.offset + index, plane), key.seed);
}

/// The word of a position (row-major index in the logical shape of the whole tensor).
TG_HD uint32_t key_word(Key key, uint64_t position, Plane plane = Plane::kWord) {
  const Block block = key_block(key, position / 4, plane);
  const uint32_t low = position % 2 ? block.word[1] : block.word[0];
  const uint32_t high = position % 2 ? block.word[3] : block.word[2];
  return position % 4 < 2 ? low : high;
}

/// A new key from a key and a number: torch.func._random.fold_in.
TG_HD Key fold_in(Key key, uint64_t data) {
  const Block b = key_block(key, data);
  return {b.word[0] | static_cast<uint64_t>(b.word[1]) << 32,
          b.word[2] | static_cast<uint64_t>(b.word[3]) << 32};
}

}  // namespace torch_gumbel::math
