// SPDX-License-Identifier: Apache-2.0
// Rows longer than a block's registers: how they are cut into parts, and what a read of one leaves.
//
// A row is one block's (kWhole), or it is cut into parts, each of them a block's: then a first
// launch leaves one state for each part (kReduce), and a second one merges them and writes
// (kFinish).
#pragma once

#include "row_scores.cuh"

namespace torch_gumbel::cuda {

enum class Stage { kWhole, kReduce, kFinish };

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

}  // namespace torch_gumbel::cuda
