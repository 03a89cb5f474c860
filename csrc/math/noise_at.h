// SPDX-License-Identifier: Apache-2.0
// The noise of single positions.
#pragma once

#include "gumbel.h"
#include "philox.h"

namespace torch_gumbel {

/// Classes of rows, and where their noise goes. All contiguous; rows of one key follow each other.
/// Of 64-bit words alone.
struct NoiseAtParams {
  const int64_t* index = nullptr;  // [count]
  const uint64_t* keys = nullptr;  // pairs of words; null: host_key
  void* output = nullptr;          // [count], float or double
  math::Key host_key;
  int64_t count = 0;    // indices
  int64_t per_key = 1;  // indices of one key
  int64_t per_row = 1;  // indices of one row
  int64_t classes = 0;
};

namespace math {

/// float or double noise of a position, as the samplers add it.
template <typename T>
TG_HD T noise_of_position(Key key, uint64_t position) {
  const uint32_t word = key_word(key, position);
  if constexpr (sizeof(T) == sizeof(double))
    return gumbel64(word, key_word(key, position, Plane::kExtension));
  else
    return gumbel(word, word < kExtendBelow ? key_word(key, position, Plane::kExtension) : 0);
}

/// That of index `i`; NaN if it is not in [0, classes).
template <typename T>
TG_HD T noise_at(const NoiseAtParams& a, int64_t i) {
  const int64_t index = a.index[i], slice = i / a.per_key;
  if (index < 0 || index >= a.classes) return static_cast<T>(__builtin_nanf(""));
  const uint64_t* words = a.keys + 2 * slice;
  const Key key = a.keys == nullptr ? a.host_key : Key{words[0], words[1]};
  const int64_t row = (i - slice * a.per_key) / a.per_row;
  return noise_of_position<T>(key, static_cast<uint64_t>(row * a.classes + index));
}

}  // namespace math
}  // namespace torch_gumbel
