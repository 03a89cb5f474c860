// SPDX-License-Identifier: Apache-2.0
// Rows longer than a block's registers: their division into ranges of blocks, and the state after a
// read.
//
// A row belongs to one block (kWhole), or to several, each with a range of it: then a first launch
// writes one state per block (kReduce), and a second one merges them and writes the results
// (kFinish).
#pragma once

#include "../device/row_scores.cuh"

namespace torch_gumbel::cuda {

enum class Stage { kWhole, kReduce, kFinish };

/// Vectors that a thread of a long row processes at a time: 16 classes.
template <typename Element>
constexpr int kLoopedVectors = 16 / Element::kWidth;

/// The range of a row that a block processes.
struct BlockRange {
  int64_t row;
  int block;
  int begin;  // vectors of the row
  int end;

  template <typename Element>
  __device__ __forceinline__ BlockRange(const Problem& p, const AlignedRow<Element>& aligned,
                                        int64_t of_row)
      : row(of_row), block(static_cast<int>(blockIdx.x - of_row * p.blocks_per_row)) {
    begin = block * p.vectors_per_block;
    end = block + 1 == p.blocks_per_row ? aligned.vectors : begin + p.vectors_per_block;
    begin = begin < aligned.vectors ? begin : aligned.vectors;
    end = end < aligned.vectors ? end : aligned.vectors;
  }
  /// Class of the head or tail that this thread processes, or -1. They belong to the first block.
  template <typename Element>
  __device__ __forceinline__ int head_tail(const AlignedRow<Element>& aligned) const {
    const int thread = static_cast<int>(threadIdx.x);
    return block == 0 && thread < aligned.head_tail_count() ? aligned.head_tail_class(thread) : -1;
  }
};

__device__ __forceinline__ int64_t row_of_block(const Problem& p) {
  return p.blocks_per_row == 1 ? blockIdx.x : blockIdx.x / static_cast<unsigned>(p.blocks_per_row);
}

/// The same, opaque to the compiler: no registers are kept for it.
__device__ __forceinline__ int64_t row_of_block_again(const Problem& p) {
  return p.blocks_per_row == 1 ? block_again()
                               : block_again() / static_cast<unsigned>(p.blocks_per_row);
}

/// Calls visit(fragment) for the fragments of this thread in a range, kVectors vectors at a time.
template <int kVectors, typename Element, typename Visit>
__device__ __forceinline__ void for_each_fragment(const AlignedRow<Element>& aligned,
                                                  const BlockRange& range, Visit visit) {
  Fragment<Element, kVectors> fragment(range.begin, range.end);
  fragment.head_tail = range.head_tail(aligned);
  // Head and tail come with the first fragment, even where a warp holds nothing else.
#pragma unroll 1
  for (bool first = true;
       first ? fragment.any_in_warp() || range.block == 0 : fragment.any_in_warp(); first = false) {
    visit(fragment);
    fragment.head_tail = -1;
    fragment.advance();
  }
}

/// Sums over classes relative to the largest score; of a row of several blocks, one for each.
struct LoopedState {
  float max = kLowest;
  float sum = 0;  // of weights exp((score - max) / tau)
  float dot = 0;  // of weights times incoming gradients; in the backward from y, of y times them
  float tau = 0;  // gradient at tau
};

/// A thread's running sums.
struct Running {
  float max = kLowest;
  KahanSum<float> sum;
  KahanSum<float> dot;

  /// Rescales the sums for scores up to `top`.
  __device__ __forceinline__ void raise(float top, float scale) {
    if (!(top > max)) return;
    const float keep = exp2_fast((max - top) * scale);
    sum.scale(keep);
    dot.scale(keep);
    max = top;
  }
};

/// Merges one state of every thread: of the block, or of the blocks of a row.
__device__ __forceinline__ LoopedState merge_states(const LoopedState& own, float scale) {
  __shared__ BlockThreadGroup::Scratch<float> max_scratch, sum_scratch, dot_scratch;
  LoopedState all;
  all.max = BlockThreadGroup::reduce(own.max, kLowest, max_scratch, MaxNumber{});
  const float weight = own.max == all.max ? 1.0f : exp2_fast((own.max - all.max) * scale);
  all.sum = BlockThreadGroup::reduce(own.sum * weight, 0.0f, sum_scratch, Sum{});
  all.dot = BlockThreadGroup::reduce(own.dot * weight, 0.0f, dot_scratch, Sum{});
  return all;
}

__device__ __forceinline__ LoopedState* states_of(const Problem& p, int64_t row) {
  return static_cast<LoopedState*>(p.workspace) + row * p.blocks_per_row;
}

/// The merged states of all blocks of a row.
__device__ __forceinline__ LoopedState merge_blocks(const Problem& p, int64_t row, float scale) {
  Running own;
  for (int block = static_cast<int>(threadIdx.x); block < p.blocks_per_row;
       block += static_cast<int>(blockDim.x)) {
    const LoopedState& state = states_of(p, row)[block];
    own.raise(state.max, scale);
    const float weight = state.max == own.max ? 1.0f : exp2_fast((state.max - own.max) * scale);
    own.sum.add(state.sum * weight);
    own.dot.add(state.dot * weight);
  }
  return merge_states({own.max, own.sum.sum, own.dot.sum, 0}, scale);
}

/// Reduces a range, then gives the row's state. False if the launch has nothing more to do.
template <Stage kStage, typename Reduce>
__device__ __forceinline__ bool row_state(const Problem& p, const BlockRange& range, float scale,
                                          LoopedState& state, Reduce reduce) {
  if (kStage == Stage::kFinish) {
    state = merge_blocks(p, range.row, scale);
    return true;
  }
  const Running own = reduce();
  state = merge_states({own.max, own.sum.sum, own.dot.sum, 0}, scale);
  if (kStage == Stage::kWhole) return true;
  if (threadIdx.x == 0) states_of(p, range.row)[range.block] = state;
  return false;
}

}  // namespace torch_gumbel::cuda
