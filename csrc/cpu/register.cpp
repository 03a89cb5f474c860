// SPDX-License-Identifier: Apache-2.0
// The CPU backend: shares rows, or the tiles of long rows, among threads.
#include <ATen/Parallel.h>

#include "../ops/backend.h"
#include "kernels.h"
#include "scratch.h"

namespace torch_gumbel::cpu {
namespace {

void run_one_long_row(const Kernels& kernels, Op op, const Arguments& a, int64_t row, bool share,
                      std::vector<TileStat>& stats, void* kept) {
  const int64_t tiles = tiles_of(a.rows.classes);
  const int64_t grain = share ? kElementsPerThread / kTile : tiles;
  const auto pass = [&](auto tile_function) {
    const auto work = [&](int64_t begin, int64_t end) {
      const Scratch scratch(scratch_bytes(op, a));
      tile_function(op, a, row, begin, end, stats.data(), scratch.get(), kept);
    };
    share ? at::parallel_for(0, tiles, grain, work) : work(0, tiles);
  };
  pass(kernels.reduce_tiles);
  pass(kernels.finish_tiles);
  kernels.finish_row(op, a, row, stats.data());
}

void run_long_rows(const Kernels& kernels, Op op, const Arguments& a) {
  const bool share = a.rows.count < 2 * at::get_num_threads();
  const auto work = [&](int64_t begin, int64_t end) {
    std::vector<TileStat> stats(tiles_of(a.rows.classes));
    const Scratch kept(kept_bytes(op, a));
    for (int64_t row = begin; row < end; ++row)
      run_one_long_row(kernels, op, a, row, share, stats, kept.get());
  };
  share ? work(0, a.rows.count) : at::parallel_for(0, a.rows.count, 1, work);
}

void run_rows(const Kernels& kernels, Op op, const Arguments& a) {
  // Whole groups to each thread, so that threads do not split what is fastest together.
  const int64_t group = rows_per_group(a.rows);
  const int64_t groups = (a.rows.count + group - 1) / group;
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / (group * a.rows.classes));
  at::parallel_for(0, groups, grain, [&](int64_t begin, int64_t end) {
    const Scratch scratch(scratch_bytes(op, a));
    kernels.rows(op, a, begin * group, std::min(end * group, a.rows.count), scratch.get());
  });
}

struct Backend {
  static void run(Op op, const Arguments& a, const at::Tensor&) {
    const Kernels& kernels = selected_kernels();
    in_tiles(a) ? run_long_rows(kernels, op, a) : run_rows(kernels, op, a);
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::PrivateOps<Backend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
