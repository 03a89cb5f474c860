// SPDX-License-Identifier: Apache-2.0
// What every kernel is launched with.
#pragma once

#include "../csrc/math/rows.h"
#include "../csrc/math/softmax.h"

namespace torch_gumbel::cuda {

/// What the temperature does to scores, in float32.
struct Temperature {
  float scale;    // log2(e) / tau, NaN for a bad tau
  float inverse;  // 1 / tau, NaN for a bad tau
};

TG_HD Temperature temperature_of(double tau) {
  return {math::exponent_scale<float>(tau).high, math::inverse_temperature<float>(tau)};
}

struct Problem {
  KernelParams a;
  math::RoundKeys<> keys;       // of a.host_key
  Temperature temperature;      // of a.host_tau; argmax: its inverse as a sampler takes it
  bool scaled = false;          // argmax: whether the temperature changes any logit
  bool spatial = false;         // any layout: whether neighbouring threads take neighbouring rows
  int32_t threads_per_row = 1;  // any layout, tiles: threads that share a row, a power of two
  int32_t threads_per_row_log2 = 0;
  int32_t tile_rows = 0;          // tiles: rows of one, a multiple of what a block takes at a time
  int32_t tile_floats = 0;        // tiles: what one takes of shared memory, in floats
  int32_t blocks_per_row = 1;     // long rows: blocks that share a row
  int32_t vectors_per_block = 0;  // long rows: vectors of 16 bytes in every part but the last
  void* workspace = nullptr;      // long rows of several parts: one state for each part of each row
};

}  // namespace torch_gumbel::cuda
