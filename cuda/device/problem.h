// SPDX-License-Identifier: Apache-2.0
// The parameter of every kernel.
#pragma once

#include "../../csrc/math/rows.h"
#include "../../csrc/math/softmax.h"

namespace torch_gumbel::cuda {

/// A temperature as factors of scores, in float32.
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
  bool spatial = false;         // generic: whether neighbouring threads process neighbouring rows
  int32_t threads_per_row = 1;  // generic, tiles: a power of two
  int32_t threads_per_row_log2 = 0;
  int32_t tile_rows = 0;           // tiles: a multiple of the rows that a block processes at a time
  int32_t tile_floats = 0;         // tiles: shared memory of one, in floats
  int32_t tile_distance_log2 = 0;  // tiles: see TileBanking of plan.h
  int32_t tile_rows_step = 0;
  int32_t tile_shift = 0;
  int32_t tile_shift_log2 = 0;
  int32_t blocks_per_row = 1;  // looped: 1; multi-block, cluster, spatial, runs of noise: more
  /// Of every block but the last: vectors of a row; spatial: classes; runs of noise: groups.
  int32_t vectors_per_block = 0;
  int32_t stage = 0;          // spatial: a Stage of looped.cuh
  void* workspace = nullptr;  // multi-block, spatial: one state for each block of each row
};

}  // namespace torch_gumbel::cuda
