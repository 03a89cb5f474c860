// SPDX-License-Identifier: Apache-2.0
// Barriers, shuffles, votes, and reductions of a warp. A call's place is part of it: threads that
// meet must come from the same line.
#pragma once

#include <concepts>
#include <cstring>
#include <source_location>

#include "../model/model.h"
#include "cuda_runtime_api.h"
#include "vectors.h"

extern uint3 threadIdx;

namespace cuda_model {

using Place = std::source_location;

/// The types that shuffles are declared for.
template <typename T>
concept Shuffled =
    std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, long> ||
    std::same_as<T, unsigned long> || std::same_as<T, long long> ||
    std::same_as<T, unsigned long long> || std::same_as<T, float> || std::same_as<T, double>;

template <Shuffled T>
T shuffle(unsigned mask, T value, int source, const Place& where) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = meet({mask, source, bits, nullptr, "shuffle", where});
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint64_t vote(unsigned mask, bool yes, const char* name, const Place& where) {
  const uint64_t mine = yes ? uint64_t{1} << lane() : 0;
  return meet({mask, -1, mine, [](uint64_t a, uint64_t b) { return a | b; }, name, where});
}

/// One of the parts of `width` lanes that a warp is divided into: its first lane.
inline int first_of_part(int width) { return lane() & ~(width - 1); }

}  // namespace cuda_model

inline void __syncthreads(cuda_model::Place where = cuda_model::Place::current()) {
  cuda_model::barrier(0, where);
}
inline int __syncthreads_count(int yes, cuda_model::Place where = cuda_model::Place::current()) {
  return static_cast<int>(cuda_model::barrier(yes != 0, where).count);
}
inline int __syncthreads_or(int yes, cuda_model::Place where = cuda_model::Place::current()) {
  return cuda_model::barrier(yes != 0, where).count != 0;
}
inline int __syncthreads_and(int yes, cuda_model::Place where = cuda_model::Place::current()) {
  const cuda_model::Count found = cuda_model::barrier(yes != 0, where);
  return found.count == found.threads;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFF,
                       cuda_model::Place where = cuda_model::Place::current()) {
  cuda_model::meet({mask, -1, 0, nullptr, "__syncwarp", where});
}

template <cuda_model::Shuffled T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              cuda_model::Place where = cuda_model::Place::current()) {
  const int first = cuda_model::first_of_part(width);
  return cuda_model::shuffle(mask, value, first + (source & (width - 1)), where);
}
template <cuda_model::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  cuda_model::Place where = cuda_model::Place::current()) {
  const int lane = cuda_model::lane(), source = lane ^ lane_mask;
  const bool inside = source < cuda_model::first_of_part(width) + width;
  return cuda_model::shuffle(mask, value, inside ? source : lane, where);
}
template <cuda_model::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   cuda_model::Place where = cuda_model::Place::current()) {
  const int lane = cuda_model::lane(), source = lane + static_cast<int>(delta);
  const bool inside = source < cuda_model::first_of_part(width) + width;
  return cuda_model::shuffle(mask, value, inside ? source : lane, where);
}
template <cuda_model::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 cuda_model::Place where = cuda_model::Place::current()) {
  const int lane = cuda_model::lane(), source = lane - static_cast<int>(delta);
  const bool inside = source >= cuda_model::first_of_part(width);
  return cuda_model::shuffle(mask, value, inside ? source : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, int yes,
                              cuda_model::Place where = cuda_model::Place::current()) {
  return static_cast<unsigned>(cuda_model::vote(mask, yes != 0, "__ballot_sync", where));
}
inline int __any_sync(unsigned mask, int yes,
                      cuda_model::Place where = cuda_model::Place::current()) {
  return cuda_model::vote(mask, yes != 0, "__any_sync", where) != 0;
}
inline int __all_sync(unsigned mask, int yes,
                      cuda_model::Place where = cuda_model::Place::current()) {
  return cuda_model::vote(mask, yes != 0, "__all_sync", where) == mask;
}

#define CUDA_MODEL_REDUCE(name, T, expression)                                                    \
  inline T name(unsigned mask, T value, cuda_model::Place where = cuda_model::Place::current()) { \
    const auto fold = [](uint64_t x, uint64_t y) {                                                \
      const T a = static_cast<T>(x), b = static_cast<T>(y);                                       \
      return static_cast<uint64_t>(static_cast<T>(expression));                                   \
    };                                                                                            \
    const auto bits = static_cast<uint64_t>(value);                                               \
    return static_cast<T>(cuda_model::meet({mask, -1, bits, fold, #name, where}));                \
  }
CUDA_MODEL_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
CUDA_MODEL_REDUCE(__reduce_max_sync, int, a > b ? a : b)
CUDA_MODEL_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
CUDA_MODEL_REDUCE(__reduce_min_sync, int, a < b ? a : b)
CUDA_MODEL_REDUCE(__reduce_add_sync, unsigned, a + b)
CUDA_MODEL_REDUCE(__reduce_or_sync, unsigned, a | b)
CUDA_MODEL_REDUCE(__reduce_and_sync, unsigned, a& b)
CUDA_MODEL_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef CUDA_MODEL_REDUCE
