// SPDX-License-Identifier: Apache-2.0
// Soft samples and gradients of rows longer than a block's registers: two reads, the second from
// the cache as far as it reaches, with the noise made again.
//
// A row is one block's (kWhole), or it is cut into parts, each of them a block's: then a first
// launch leaves one state for each part (kReduce), and a second one merges them and writes
// (kFinish).
#pragma once

#include "backward.cuh"

namespace torch_gumbel::cuda {

enum class Stage { kWhole, kReduce, kFinish };

constexpr int kLongThreads = 512;      // of a block that has a row to itself
constexpr int kLongGradThreads = 384;  // of one that needs more registers: noise and gradients
constexpr int kSplitThreads = 128;     // of a block that shares one

/// Vectors that a thread of a long row takes at a time: 16 classes.
template <typename Element>
constexpr int kLongVectors = 16 / Element::kWidth;

/// One block's part of a row.
struct Part {
  int64_t row;
  int number;
  int begin;  // vectors of the line
  int end;

  template <typename Element>
  __device__ __forceinline__ Part(const Problem& p, const Line<Element>& line, int64_t of_row)
      : row(of_row), number(static_cast<int>(blockIdx.x - of_row * p.parts)) {
    begin = number * p.part_vectors;
    end = number + 1 == p.parts ? line.vectors : begin + p.part_vectors;
    begin = begin < line.vectors ? begin : line.vectors;
    end = end < line.vectors ? end : line.vectors;
  }
  /// Class of this thread's edge, or -1. The first part has the edges.
  template <typename Element>
  __device__ __forceinline__ int edge(const Line<Element>& line) const {
    const int thread = static_cast<int>(threadIdx.x);
    return number == 0 && thread < line.edges() ? line.edge_class(thread) : -1;
  }
};

__device__ __forceinline__ int64_t row_of_block(const Problem& p) {
  return p.parts == 1 ? blockIdx.x : blockIdx.x / static_cast<unsigned>(p.parts);
}

/// Calls visit(share) for all that this thread holds of a part, kVectors vectors at a time.
template <int kVectors, typename Element, typename Visit>
__device__ __forceinline__ void for_each_share(const Line<Element>& line, const Part& part,
                                               Visit visit) {
  Share<Element, kVectors> share(part.begin, part.end);
  share.edge = part.edge(line);
  // The edges come with the first share, even where a warp holds nothing else.
#pragma unroll 1
  for (bool first = true; first ? share.any_in_warp() || part.number == 0 : share.any_in_warp();
       first = false) {
    visit(share);
    share.edge = -1;
    share.advance();
  }
}

/// Sums over classes relative to the largest score. What is kept for each part of a cut row.
struct LongState {
  float max = kLowest;
  float sum = 0;  // of weights exp((score - max) / tau)
  float dot = 0;  // of weights times incoming gradients; in the backward from y, of y times them
  float tau = 0;  // gradient at tau
};

/// A thread's sums on the way.
struct Running {
  float max = kLowest;
  LongSum<float> sum;
  LongSum<float> dot;

  /// Makes room for scores up to `top`.
  __device__ __forceinline__ void raise(float top, float scale) {
    if (!(top > max)) return;
    const float keep = exp2_fast((max - top) * scale);
    sum.scale(keep);
    dot.scale(keep);
    max = top;
  }
};

/// Merges one state of every thread: of the block, or of the parts of a row.
__device__ __forceinline__ LongState merge_states(const LongState& own, float scale) {
  __shared__ BlockTeam::Scratch<float> max_scratch, sum_scratch, dot_scratch;
  LongState all;
  all.max = BlockTeam::reduce(own.max, kLowest, max_scratch, MaxNumber{});
  const float weight = own.max == all.max ? 1.0f : exp2_fast((own.max - all.max) * scale);
  all.sum = BlockTeam::reduce(own.sum * weight, 0.0f, sum_scratch, Sum{});
  all.dot = BlockTeam::reduce(own.dot * weight, 0.0f, dot_scratch, Sum{});
  return all;
}

__device__ __forceinline__ LongState* states_of(const Problem& p, int64_t row) {
  return static_cast<LongState*>(p.workspace) + row * p.parts;
}

/// The states of all parts of a row, merged.
__device__ __forceinline__ LongState merge_parts(const Problem& p, int64_t row, float scale) {
  Running own;
  for (int part = static_cast<int>(threadIdx.x); part < p.parts;
       part += static_cast<int>(blockDim.x)) {
    const LongState& state = states_of(p, row)[part];
    own.raise(state.max, scale);
    const float weight = state.max == own.max ? 1.0f : exp2_fast((state.max - own.max) * scale);
    own.sum.add(state.sum * weight);
    own.dot.add(state.dot * weight);
  }
  return merge_states({own.max, own.sum.sum, own.dot.sum, 0}, scale);
}

/// What the first read of a part comes to, and after it either the row's state or an end.
/// False if the launch has nothing more to do.
template <Stage kStage, typename Reduce>
__device__ __forceinline__ bool row_state(const Problem& p, const Part& part, float scale,
                                          LongState& state, Reduce reduce) {
  if (kStage == Stage::kFinish) {
    state = merge_parts(p, part.row, scale);
    return true;
  }
  const Running own = reduce();
  state = merge_states({own.max, own.sum.sum, own.dot.sum, 0}, scale);
  if (kStage == Stage::kWhole) return true;
  if (threadIdx.x == 0) states_of(p, part.row)[part.number] = state;
  return false;
}

/// First read: of logits and, with kWithGrad, of incoming gradients.
template <bool kWithGrad, typename Element, typename Key>
__device__ __forceinline__ Running weigh_part(const Problem& p, const Line<Element>& line,
                                              const Part& part, const Key& key, float scale) {
  constexpr int kVectors = kLongVectors<Element>;
  Running running;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    Gradients<Element, kVectors> grad;
    if (kWithGrad) grad.load(p.a, line, share);
    Scores<Element, kVectors> scores;
    scores.load(line, share, key, Unscaled{});
    running.raise(scores.max(MaxNumber{}), scale);
    const auto weigh = [&](float score) { return exp2_fast((score - running.max) * scale); };
    const float edge = weigh(scores.edge);
    float sum = edge, dot = kWithGrad ? edge * grad.edge : 0.0f;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float weight = weigh(scores.of[i]);
      sum += weight;
      if (kWithGrad) dot = math::fused(weight, grad.of[i], dot);
    }
    running.sum.add(sum);
    if (kWithGrad) running.dot.add(dot);
  });
  return running;
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kLongThreads)
    soft_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const RowKey<kDeviceKey> key(p, row);
  const float scale = temperature(p, row).scale;
  LongState state;
  if (!row_state<kStage>(p, part, scale, state,
                         [&] { return weigh_part<false>(p, line, part, key, scale); }))
    return;
  const float norm = 1.0f / state.sum;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    Scores<Element, kVectors> scores;
    scores.load(line, share, key, Unscaled{});
    const auto y = [&](float score) { return exp2_fast((score - state.max) * scale) * norm; };
#pragma unroll
    for (float& value : scores.of) value = y(value);
    store_share(p.a, line, share, scores.of);
    if (share.edge >= 0)
      store_one<Element>(line.output, p.a.output_type, share.edge, y(scores.edge));
  });
  if (p.a.row_value == nullptr || part.number != 0 || threadIdx.x != 0) return;
  Weigh weigh(state.max, scale);
  weigh.direct = false;
  static_cast<float*>(p.a.row_value)[index] = log_sum_exp(weigh, state.sum, tau_of(p.a, row));
}

/// The gradient at tau: of the row, or of a part for sum_parts_kernel.
template <Stage kStage>
__device__ __forceinline__ void write_tau_gradient(const Problem& p, const Part& part, float own) {
  __shared__ BlockTeam::Scratch<float> scratch;
  if (p.a.row_value == nullptr) return;
  const float total = BlockTeam::reduce(own, 0.0f, scratch, Sum{});
  if (threadIdx.x != 0) return;
  if (kStage == Stage::kWhole)
    static_cast<float*>(p.a.row_value)[part.row] = total;
  else
    states_of(p, part.row)[part.number].tau = total;
}

template <typename Element, typename Weights>
__device__ __forceinline__ float differentiate_part(const Problem& p, const Line<Element>& line,
                                                    const Part& part, const Differentiate& by,
                                                    Weights weights) {
  constexpr int kVectors = kLongVectors<Element>;
  LongSum<float> at_tau;
  for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
    Gradients<Element, kVectors> grad;
    grad.load(p.a, line, share);
    float of[kVectors * Element::kWidth];
    const float edge = weights(share, of);
    float terms = differentiate_all(by, grad.of, p.a.row_value != nullptr, of);
    store_share(p.a, line, share, of);
    if (share.edge >= 0) {
      const float gradient = by.careful(edge, grad.edge);
      terms += tau_term(gradient, edge * by.norm);
      store_one<Element>(line.output, p.a.output_type, share.edge, gradient);
    }
    at_tau.add(terms);
  });
  return at_tau.sum;
}

template <typename Element, bool kDeviceKey, Stage kStage>
__global__ void __launch_bounds__(kLongGradThreads)
    hard_backward_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const RowKey<kDeviceKey> key(p, row);
  const Temperature tau = temperature(p, row);
  LongState state;
  if (!row_state<kStage>(p, part, tau.scale, state,
                         [&] { return weigh_part<true>(p, line, part, key, tau.scale); }))
    return;
  const float norm = 1.0f / state.sum;
  const auto weights = [&](const Share<Element, kVectors>& share, float* of) {
    Scores<Element, kVectors> scores;
    scores.load(line, share, key, Unscaled{});
#pragma unroll
    for (int i = 0; i < 16; ++i) of[i] = exp2_fast((scores.of[i] - state.max) * tau.scale);
    return exp2_fast((scores.edge - state.max) * tau.scale);
  };
  const float at_tau =
      differentiate_part(p, line, part, {norm, state.dot * norm, tau.inverse}, weights);
  write_tau_gradient<kStage>(p, part, at_tau);
}

/// A thread's values of y; the one of its edge is returned.
template <typename Element, int kVectors>
__device__ __forceinline__ float load_samples(const Line<Element>& line,
                                              const Share<Element, kVectors>& share, float* y) {
  Bits128 raw[kVectors];
  load_share<Element>(line.input, line.head, share, 0, raw);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) Element::unpack(raw[i], y + i * Element::kWidth);
  return share.edge >= 0 ? Element::widen(line.input[share.edge]) : 0.0f;
}

template <typename Element, Stage kStage>
__global__ void __launch_bounds__(kLongThreads)
    backward_long_kernel(const __grid_constant__ Problem p) {
  constexpr int kVectors = kLongVectors<Element>;
  const int64_t index = row_of_block(p);
  const Row row = row_of(p.a.rows, index);
  const Line<Element> line(p.a, row);
  const Part part(p, line, index);
  const auto dot_part = [&] {
    Running running;
    for_each_share<kVectors>(line, part, [&](const Share<Element, kVectors>& share) {
      Gradients<Element, kVectors> grad;
      grad.load(p.a, line, share);
      float y[16];
      const float edge = load_samples(line, share, y);
      running.dot.add(dot_of(y, grad.of, edge * grad.edge));
    });
    return running;
  };
  LongState state;
  if (!row_state<kStage>(p, part, 1.0f, state, dot_part)) return;
  const auto samples = [&](const Share<Element, kVectors>& share, float* y) {
    return load_samples(line, share, y);
  };
  const float at_tau =
      differentiate_part(p, line, part, {1.0f, state.dot, temperature(p, row).inverse}, samples);
  write_tau_gradient<kStage>(p, part, at_tau);
}

/// The gradients at tau of rows cut into parts: one warp for each row.
static __global__ void __launch_bounds__(kWarpSize)
    sum_parts_kernel(const __grid_constant__ Problem p) {
  const LongState* states = states_of(p, blockIdx.x);
  float own = 0;
  for (int part = static_cast<int>(threadIdx.x); part < p.parts; part += kWarpSize)
    own += states[part].tau;
  const float total = reduce_lanes(own, Sum{});
  if (threadIdx.x == 0) static_cast<float*>(p.a.row_value)[blockIdx.x] = total;
}

}  // namespace torch_gumbel::cuda
