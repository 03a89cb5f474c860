// SPDX-License-Identifier: Apache-2.0
// The CPU backend: shares rows, or the tiles of long rows, among threads.
#include <ATen/Parallel.h>

#include "../ops/backend.h"
#include "../ops/parallel.h"
#include "kernels.h"
#include "kernels/huge_tau.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

void run_shared_rows(const Kernels& kernels, const PlannedParams& a) {
  const int64_t tiles = tiles_of(a.rows.classes);
  std::vector<TileStat> stats(tiles);
  const Scratch weight_cache(a.plan.weight_cache_bytes);
  const auto pass = [&](auto tile_function, int64_t row) {
    ops::parallel_for(0, tiles, a.plan.grain, [&](int64_t begin, int64_t end) {
      const Scratch scratch(a.plan.scratch_bytes);
      tile_function(a, row, begin, end, stats.data(), scratch.get(), weight_cache.get());
    });
  };
  for (int64_t row = 0; row < a.rows.count; ++row) {
    pass(kernels.reduce_tiles, row);
    pass(kernels.finish_tiles, row);
    kernels.finish_row(a, row, stats.data());
  }
}

void run_long_rows(const Kernels& kernels, const PlannedParams& a) {
  if (a.plan.share_tiles) return run_shared_rows(kernels, a);
  const int64_t tiles = tiles_of(a.rows.classes);
  ops::parallel_for(0, a.rows.count, a.plan.grain, [&](int64_t begin, int64_t end) {
    std::vector<TileStat> stats(tiles);
    const Scratch weight_cache(a.plan.weight_cache_bytes), scratch(a.plan.scratch_bytes);
    for (int64_t row = begin; row < end; ++row) {
      kernels.reduce_tiles(a, row, 0, tiles, stats.data(), scratch.get(), weight_cache.get());
      kernels.finish_tiles(a, row, 0, tiles, stats.data(), scratch.get(), weight_cache.get());
      kernels.finish_row(a, row, stats.data());
    }
  });
}

using RunRows = void (*)(const PlannedParams&, int64_t, int64_t, void*);

void run_rows(RunRows rows, const PlannedParams& a) {
  // Whole groups to each thread, so that threads do not split what is fastest together.
  const int64_t group = a.plan.rows_per_call;
  const int64_t groups = (a.rows.count + group - 1) / group;
  ops::parallel_for(0, groups, a.plan.grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(a.plan.scratch_bytes);
    rows(a, begin * group, std::min(end * group, a.rows.count), scratch.get());
  });
}

struct Backend {
  /// Whether Op::kHard writes the classes as well.
  static constexpr bool kHardGivesIndex = true;

  static void run(Op op, const KernelParams& params, const at::Tensor&) {
    const PlannedParams a = {params, op, make_plan(op, params, at::get_num_threads())};
    const Kernels& kernels = selected_kernels();
    a.plan.path == Path::kTiles ? run_long_rows(kernels, a) : run_rows(kernels.rows, a);
    if ((draws_soft(op) || op == Op::kHardBackward) && any_huge_tau(a)) redo_huge_tau(op, a);
  }

  static void run_one_hot_backward(const KernelParams& params, const at::Tensor&) {
    run_rows(selected_kernels().one_hot_backward,
             {params, Op::kHardBackward, make_one_hot_plan(params)});
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::PrivateOps<Backend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
