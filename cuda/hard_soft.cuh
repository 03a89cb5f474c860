// SPDX-License-Identifier: Apache-2.0
// Soft samples and their one-hots in rows held in registers: the choice is found from the fast
// scores before these become weights.
#pragma once

#include "choice.cuh"
#include "soft.cuh"

namespace torch_gumbel::cuda {

template <typename Element, int kVectors, typename Team, bool kDeviceKey>
__global__ void __launch_bounds__(Team::bound(kVectors* Element::kWidth))
    hard_soft_row_kernel(const __grid_constant__ Problem p) {
  __shared__ typename Team::template Scratch<float> sum_scratch;
  const int64_t index = Team::row();
  if (index >= p.a.rows.count) return;
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Share<Element, kVectors> share(Team{}, line);
  const RowKey<kDeviceKey> key(p, row);
  Scores<Element, kVectors> scores;
  scores.load(line, share, key, Unscaled{});
  float top;
  const Best best = best_of_scores<Team>(line, share, key, Unscaled{}, scores, top);
  const Weigh weigh(top, temperature(p, row).scale);
  scores.edge = weigh(scores.edge);
  const float own = weigh_all(weigh, scores.of) + scores.edge;
  const float sum = Team::reduce(own, 0.0f, sum_scratch, Sum{});
  // NaN or 0 is what both are undefined by.
  write_one_hot(p.a, line.one_hot(p.a, row), share, best, sum > 0);
  write_samples(p.a, line, share, sum, scores);
}

}  // namespace torch_gumbel::cuda
