// SPDX-License-Identifier: Apache-2.0
// The stages of the CPU kernels that their tables do not show, built with the kernels' own flags
// once per instruction set.
#pragma once

#include <stdint.h>

#include "cpu/kernels.h"
#include "math/philox.h"

namespace torch_gumbel::testing {

struct IsaProbe {
  const char* name;
  int64_t word_slack;  // words that fill_words may write beyond those asked for
  void (*fill_words)(math::Key key, uint64_t first, int64_t blocks, math::Plane plane,
                     uint32_t* words);
  /// Several runs of words; run k begins at words + k run_stride(count).
  void (*fill_runs)(math::Key key, uint64_t first, uint64_t step, int64_t runs, int64_t count,
                    math::Plane plane, uint32_t* words);
  int64_t (*run_stride)(int64_t count);

  /// Noise of words that need no extension, of extended ones, and in float64.
  void (*gumbel)(const uint32_t* words, int64_t count, float* noise);
  void (*gumbel_extended)(const uint32_t* words, const uint32_t* extensions, int64_t count,
                          float* noise);
  void (*gumbel64)(const uint32_t* words, const uint32_t* extensions, int64_t count, double* noise);

  /// exp(d / tau) and log y as the soft ops take them.
  void (*exp_scaled)(const float* d, int64_t count, double tau, float* result);
  void (*exp_scaled64)(const double* d, int64_t count, double tau, double* result);
  void (*log_probability)(const float* y, int64_t count, float* result);

  /// Element types.
  void (*widen_half)(const uint16_t* from, int64_t count, float* to);
  void (*widen_bfloat16)(const uint16_t* from, int64_t count, float* to);
  void (*narrow_half)(const float* from, int64_t count, uint16_t* to);
  void (*narrow_bfloat16)(const float* from, int64_t count, uint16_t* to);
};

/// One build: its name, its kernels and their stages.
struct IsaBuild {
  const cpu::Kernels* kernels;
  const IsaProbe* probe;
};

/// The builds that this machine runs, slowest first; `count` is set.
const IsaBuild* runnable_builds(int& count);

/// Those of them for work of millions of elements: without the generic one, whose fused
/// multiply-adds are calls of the C library, where there is another.
const IsaBuild* fast_builds(int& count);

}  // namespace torch_gumbel::testing
