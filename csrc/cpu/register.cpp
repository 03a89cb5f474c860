// SPDX-License-Identifier: Apache-2.0
// The CPU backend: shares rows, or the tiles of long rows, among threads.
#include <ATen/Parallel.h>

#include "../ops/backend.h"
#include "huge_tau.h"
#include "kernels.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

constexpr int64_t kTilesPerThread = kElementsPerThread / kTile;

/// Whether threads share the tiles of each row, and not the rows: the busiest one then takes fewer.
bool share_tiles(const KernelParams& a) {
  const auto parts = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  const int64_t threads = at::get_num_threads(), tiles = tiles_of(a.rows.classes);
  const int64_t per_row = std::min(threads, parts(tiles, kTilesPerThread));
  return a.rows.count * parts(tiles, per_row) < parts(a.rows.count, threads) * tiles;
}

void run_shared_rows(const Kernels& kernels, Op op, const KernelParams& a) {
  const int64_t tiles = tiles_of(a.rows.classes);
  std::vector<TileStat> stats(tiles);
  const Scratch weight_cache(weight_cache_bytes(op, a, at::get_num_threads()));
  const auto pass = [&](auto tile_function, int64_t row) {
    at::parallel_for(0, tiles, kTilesPerThread, [&](int64_t begin, int64_t end) {
      const Scratch scratch(scratch_bytes(op, a));
      tile_function(op, a, row, begin, end, stats.data(), scratch.get(), weight_cache.get());
    });
  };
  for (int64_t row = 0; row < a.rows.count; ++row) {
    pass(kernels.reduce_tiles, row);
    pass(kernels.finish_tiles, row);
    kernels.finish_row(op, a, row, stats.data());
  }
}

void run_long_rows(const Kernels& kernels, Op op, const KernelParams& a) {
  if (share_tiles(a)) return run_shared_rows(kernels, op, a);
  const int64_t tiles = tiles_of(a.rows.classes);
  const int64_t grain = std::max<int64_t>(1, kTilesPerThread / tiles);
  at::parallel_for(0, a.rows.count, grain, [&](int64_t begin, int64_t end) {
    std::vector<TileStat> stats(tiles);
    const Scratch weight_cache(weight_cache_bytes(op, a, at::get_num_threads())),
        scratch(scratch_bytes(op, a));
    for (int64_t row = begin; row < end; ++row) {
      kernels.reduce_tiles(op, a, row, 0, tiles, stats.data(), scratch.get(), weight_cache.get());
      kernels.finish_tiles(op, a, row, 0, tiles, stats.data(), scratch.get(), weight_cache.get());
      kernels.finish_row(op, a, row, stats.data());
    }
  });
}

void run_rows(const Kernels& kernels, Op op, const KernelParams& a) {
  // Whole groups to each thread, so that threads do not split what is fastest together.
  const int64_t group = rows_per_call(op, a);
  const int64_t groups = (a.rows.count + group - 1) / group;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / (group * a.rows.classes));
  at::parallel_for(0, groups, grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(scratch_bytes(op, a));
    kernels.rows(op, a, begin * group, std::min(end * group, a.rows.count), scratch.get());
  });
}

struct Backend {
  static void run(Op op, const KernelParams& a, const at::Tensor&) {
    const Kernels& kernels = selected_kernels();
    in_tiles(op, a) ? run_long_rows(kernels, op, a) : run_rows(kernels, op, a);
    if ((draws_soft(op) || op == Op::kHardBackward) && any_huge_tau(a)) redo_huge_tau(op, a);
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::PrivateOps<Backend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
