// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples of scores, and their gradient (csrc/math/subset.h), on rows of any layout.
// The largest class of every round is taken out of it, whatever it has. A thread reads no class of
// a workspace that another one wrote.
#pragma once

#include "../../csrc/math/log_prob.h"
#include "../device/subset_problem.h"
#include "generic_kernels.cuh"

namespace torch_gumbel::cuda {

/// The buffers of one row in the workspace.
template <typename T>
struct SubsetBuffers {
  SubsetRound<T>* rounds;
  T* values;
  int64_t kept_scores, rows, plane, class_step;

  __device__ __forceinline__ SubsetBuffers(const SubsetProblem& p, const ThreadIndex& thread) {
    const int64_t at_once = kThreads / p.threads_per_row, classes = p.a.rows.classes;
    const int64_t row = blockIdx.x * at_once + thread.row;
    const SubsetKept kept = SubsetKept::of(p.a, p.k);
    auto* first = static_cast<SubsetRound<T>*>(p.workspace);
    rounds = first + row;
    rows = p.rows_at_once, plane = rows * classes, kept_scores = kept.scores;
    class_step = p.spatial ? rows : 1;
    values = reinterpret_cast<T*>(first + kept.weights * rows) + (p.spatial ? row : row * classes);
  }

  __device__ __forceinline__ SubsetRound<T>& round(int64_t j) const { return rounds[j * rows]; }
  /// Of class k before round j; all rounds have one place where only one is kept.
  __device__ __forceinline__ T& score(int64_t j, int64_t k) const {
    return values[(j < kept_scores ? j : 0) * plane + k * class_step];
  }
  __device__ __forceinline__ T& weight(int64_t j, int64_t k) const {
    return values[(kept_scores + j) * plane + k * class_step];
  }
};

/// The largest score, the first class that has it, and the largest of the others.
template <typename T>
struct TwoLargest {
  T first, second;
  int64_t index;
};

template <typename T>
__device__ __forceinline__ TwoLargest<T> larger_two(const TwoLargest<T>& x,
                                                    const TwoLargest<T>& y) {
  const bool of_x = x.first > y.first || (x.first == y.first && x.index < y.index);
  const TwoLargest<T>& top = of_x ? x : y;
  return {top.first, max_number(of_x ? y.first : x.first, top.second), top.index};
}

template <typename T>
struct SubsetScratch {
  T sums[kThreads];
  TwoLargest<T> largest[kThreads];
};

/// A round, and what the weights of its other classes are: exp((r - reference) / tau) share.
template <typename T>
struct SubsetPass {
  SubsetRound<T> round;
  T reference, share, log_rest;
  math::Exponent<T> scale;

  __device__ __forceinline__ T weight(int64_t k, T score) const {
    return k == round.largest ? T{0} : math::exp_scaled(score - reference, scale) * share;
  }
};

/// Round j of a row, from its scores.
template <typename T>
__device__ __forceinline__ SubsetPass<T> begin_round(const GenericRow& row,
                                                     const SubsetBuffers<T>& buffers, int64_t j,
                                                     double tau, SubsetScratch<T>& scratch) {
  constexpr T kNothing = kMinusInfinity<T>;
  TwoLargest<T> top = {kNothing, kNothing, __INT64_MAX__};
  for_each_class(row,
                 [&](int64_t k) { top = larger_two(top, {buffers.score(j, k), kNothing, k}); });
  top = reduce_row(row.thread, top, scratch.largest,
                   [](const TwoLargest<T>& x, const TwoLargest<T>& y) { return larger_two(x, y); });
  SubsetPass<T> pass;
  pass.scale = math::exponent_scale<T>(tau);
  pass.reference = top.second > kNothing ? top.second : T{0};
  KahanSum<T> sum;
  for_each_class(row, [&](int64_t k) {
    if (k != top.index) sum.add(math::exp_scaled(buffers.score(j, k) - pass.reference, pass.scale));
  });
  const double others = row_sum(row.thread, sum.sum, scratch.sums);
  const double down = (static_cast<double>(top.second) - static_cast<double>(top.first)) / tau;
  const double log_others = others > 0 ? math::log_normal(others) + down : -__builtin_inf();
  const double log_rest = math::log_rest_of_largest(log_others);
  const double rest = math::exp_scaled(log_rest, math::Exponent<double>{1, 0});
  pass.round = {top.index, static_cast<T>(1 - rest), static_cast<T>(rest), top.first};
  pass.share = static_cast<T>(others > 0 ? 1 / others : 0.0);
  pass.log_rest = static_cast<T>(log_rest);
  return pass;
}

/// Copies a row's scores; whether it has a k-hot, for all its threads.
template <typename T>
__device__ __forceinline__ bool begin_subset(const SubsetProblem& p, const GenericRow& row,
                                             const SubsetBuffers<T>& buffers, double tau,
                                             SubsetScratch<T>& scratch) {
  T finite = 0;  // at most k of a thread; NaN if the row has none
  for_each_class(row, [&](int64_t k) {
    const T score = load_input<T>(p.a, row.row, k);
    buffers.score(0, k) = score;
    store_output(p.a, p.a.output, row.row, k, T{0});
    if (!(score < static_cast<T>(__builtin_inf()))) finite = static_cast<T>(__builtin_nan(""));
    if (score > kMinusInfinity<T> && finite < static_cast<T>(p.k)) finite += T{1};
  });
  const T all = row_sum(row.thread, finite, scratch.sums);
  return all >= static_cast<T>(p.k) && math::valid_temperature(tau);
}

template <typename T>
__device__ __forceinline__ void store_nan(const KernelParams& a, const GenericRow& row) {
  for_each_class(row, [&](int64_t k) {
    store_output(a, a.output, row.row, k, static_cast<T>(__builtin_nan("")));
  });
}

/// The output of class k, which this thread wrote before.
template <typename T>
__device__ __forceinline__ T& output_of(const KernelParams& a, const GenericRow& row, int64_t k) {
  return static_cast<T*>(a.output)[row.row[Operand::kOutput] + k * a.rows.step(Operand::kOutput)];
}

/// r + log(1 - a)
template <typename T>
__device__ __forceinline__ T next_score(const SubsetPass<T>& pass, int64_t k, T score, T a) {
  return score + (k == pass.round.largest ? pass.log_rest : math::log_rest(a));
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    subset_generic_kernel(const __grid_constant__ SubsetProblem p) {
  __shared__ SubsetScratch<T> scratch;
  for_each_row(p, [&](const GenericRow& row) {
    const SubsetBuffers<T> buffers(p, row.thread);
    const double tau = tau_of(p.a, row.row);
    const bool defined = begin_subset(p, row, buffers, tau, scratch);
    for (int64_t j = 0; j < p.k; ++j) {
      const SubsetPass<T> pass = begin_round(row, buffers, j, tau, scratch);
      for_each_class(row, [&](int64_t k) {
        T& score = buffers.score(j, k);
        const bool largest = k == pass.round.largest;
        const T a = largest ? pass.round.a : pass.weight(k, score) * pass.round.rest;
        output_of<T>(p.a, row, k) += a;
        score = next_score(pass, k, score, a);
      });
    }
    if (!defined) store_nan<T>(p.a, row);
  });
}

/// All rounds of a row, kept.
template <typename T>
__device__ __forceinline__ void keep_rounds(const SubsetProblem& p, const GenericRow& row,
                                            const SubsetBuffers<T>& buffers, double tau,
                                            SubsetScratch<T>& scratch) {
  for (int64_t j = 0; j < p.k; ++j) {
    const SubsetPass<T> pass = begin_round(row, buffers, j, tau, scratch);
    if (row.thread.lane == 0) buffers.round(j) = pass.round;
    for_each_class(row, [&](int64_t k) {
      const T score = buffers.score(j, k), weight = pass.weight(k, score);
      buffers.weight(j, k) = weight;
      if (j + 1 < p.k)
        buffers.score(j + 1, k) = next_score(pass, k, score, weight * pass.round.rest);
    });
  }
  __syncthreads();  // of the rounds, which one thread wrote
}

/// Takes the gradient, in the output, from behind round j to before it; returns this thread's part
/// of -tau^2 times that at the temperature.
template <typename T>
__device__ __forceinline__ T pass_back(const SubsetProblem& p, const GenericRow& row,
                                       const SubsetBuffers<T>& buffers, int64_t j, T inverse,
                                       SubsetScratch<T>& scratch) {
  using Gradient = math::SubsetGradient<T>;
  const SubsetRound<T> round = buffers.round(j);
  const auto at_next = [&](int64_t k) -> T& { return output_of<T>(p.a, row, k); };
  const auto share_of = [&](int64_t k, T weight) {
    return Gradient::at_share(load_grad<T>(p.a, row.row, k), at_next(k), weight, round.rest);
  };
  KahanSum<T> sum;
  T pull = 0;
  for_each_class(row, [&](int64_t k) {
    const T weight = buffers.weight(j, k);
    if (k == round.largest) {
      sum.add(round.a * load_grad<T>(p.a, row.row, k));
      pull = round.a * at_next(k);
    } else {
      sum.add(round.rest * (weight * share_of(k, weight)));
    }
  });
  const T mean = row_sum(row.thread, sum.sum, scratch.sums);
  const Gradient gradient = {round.rest, row_sum(row.thread, pull, scratch.sums), inverse, mean};
  KahanSum<T> at_tau;
  for_each_class(row, [&](int64_t k) {
    if (k == round.largest) {
      const T step = round.a * (load_grad<T>(p.a, row.row, k) - mean) - pull;
      at_next(k) += step * inverse;
      return;
    }
    const T weight = buffers.weight(j, k), step = gradient.at(weight, share_of(k, weight));
    at_next(k) += step * inverse;
    if (p.a.row_value != nullptr)
      at_tau.add(math::weighted_difference<T>(step, buffers.score(j, k) - round.score));
  });
  return at_tau.sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    subset_backward_generic_kernel(const __grid_constant__ SubsetProblem p) {
  __shared__ SubsetScratch<T> scratch;
  for_each_row(p, [&](const GenericRow& row) {
    const SubsetBuffers<T> buffers(p, row.thread);
    const double tau = tau_of(p.a, row.row);
    const T inverse = math::inverse_temperature<T>(tau);
    const bool defined = begin_subset(p, row, buffers, tau, scratch);
    keep_rounds(p, row, buffers, tau, scratch);
    KahanSum<T> at_tau;
    for (int64_t j = p.k - 1; j >= 0; --j)
      at_tau.add(pass_back(p, row, buffers, j, inverse, scratch));
    if (!defined) store_nan<T>(p.a, row);
    if (p.a.row_value == nullptr) return;
    const double total = row_sum(row.thread, at_tau.sum, scratch.sums);
    const double at_row = defined ? -total / tau / tau : __builtin_nan("");
    if (row.writes_row_value()) static_cast<T*>(p.a.row_value)[row.index] = static_cast<T>(at_row);
  });
}

}  // namespace torch_gumbel::cuda
