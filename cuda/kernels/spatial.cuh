// SPDX-License-Identifier: Apache-2.0
// Spatial rows (`dim=1` of NCHW): a lane processes kWidth neighbouring rows, 16 bytes of each
// class, and the warps of a block divide the classes. No copy is made, and all four words of a
// block are used. Where rows are few, several blocks share the classes as in looped.cuh; the stage is
// a parameter of the launch here.
#pragma once

#include "looped.cuh"

namespace torch_gumbel::cuda {

constexpr int kMaxSpatialWarps = 8;

/// Threads of a block, two of which a multiprocessor holds without spills; plan.h has them too.
/// Kernels that need more registers for halves, eight rows to a lane, have six warps.
constexpr int kSpatialThreads = kMaxSpatialWarps * kWarpSize;
template <typename Element, bool kNeedsMore>
constexpr int kSpatialThreadsOf =
    kNeedsMore && Element::kWidth > 4 ? kSpatialThreads * 3 / 4 : kSpatialThreads;

/// Classes that a thread processes at a time, so that their loads overlap.
template <typename Element>
constexpr int kSpatialDepth = 16 / Element::kWidth;

/// A thread's rows: first, first + 1, ..., and its classes in the block's range [begin, end):
/// begin + warp, begin + warp + warps, ...
template <typename Element>
struct SpatialRows {
  static constexpr int kWidth = Element::kWidth;

  const Problem& p;
  int64_t first;
  Row row;  // the first one
  int warp;
  int warps;
  int end;  // 0 if the rows are past the tensor

  __device__ __forceinline__ explicit SpatialRows(const Problem& problem) : p(problem) {
    const int thread = static_cast<int>(threadIdx.x);
    first = (row_of_block(p) * kWarpSize + thread % kWarpSize) * kWidth;
    row = row_of(p.a.rows, exists() ? first : 0);
    warp = thread / kWarpSize;
    warps = static_cast<int>(blockDim.x) / kWarpSize;
    const auto classes = static_cast<int>(p.a.rows.classes);
    const bool last = block() + 1 == p.blocks_per_row;
    end = !exists() ? 0 : last ? classes : begin() + p.vectors_per_block;
  }

  // Computed again where they are needed, so that no registers are kept for them.
  __device__ __forceinline__ bool exists() const { return first < p.a.rows.count; }
  /// Of those that share the rows.
  __device__ __forceinline__ int block() const {
    return p.blocks_per_row == 1 ? 0 : static_cast<int>(blockIdx.x % p.blocks_per_row);
  }
  __device__ __forceinline__ int begin() const { return block() * p.vectors_per_block; }
  __device__ __forceinline__ bool is(Stage stage) const {
    return p.stage == static_cast<int32_t>(stage);
  }
  __device__ __forceinline__ bool leads() const { return warp == 0 && exists(); }
  __device__ __forceinline__ int64_t at(Operand operand, int k) const {
    return row[operand] + k * p.a.rows.step(operand);
  }
  __device__ __forceinline__ uint64_t word(int k) const {
    return static_cast<uint64_t>(at(Operand::kWord, k));
  }
  __device__ __forceinline__ void load_input(int k, float (&x)[kWidth]) const {
    const auto* input = static_cast<const typename Element::Storage*>(p.a.input);
    Element::unpack(load_128(input + at(Operand::kInput, k)), x);
  }
  /// kWidth values of a class, from a tensor of `Element`s or float32.
  __device__ __forceinline__ void load(const void* data, DType type, Operand operand, int k,
                                       float (&x)[kWidth]) const {
    const int64_t from = at(operand, k);
    if (Element::kType != DType::kFloat32 && type == DType::kFloat32) {
      const float* values = static_cast<const float*>(data) + from;
      Float32::unpack(load_128<0>(values), x);
      Float32::unpack(load_128<16>(values), x + kWidth - 4);
    } else {
      Element::unpack(load_128(static_cast<const typename Element::Storage*>(data) + from), x);
    }
  }
  /// kWidth values of a class, to a tensor with the output's strides.
  __device__ __forceinline__ void store(void* data, int k, const float (&x)[kWidth]) const {
    const int64_t to = at(Operand::kOutput, k);
    if (Element::kType != DType::kFloat32 && p.a.output_type == DType::kFloat32) {
      float* values = static_cast<float*>(data) + to;
      store_128<0>(values, Float32::pack(x));
      store_128<16>(values, Float32::pack(x + kWidth - 4));
    } else {
      store_128(static_cast<typename Element::Storage*>(data) + to, Element::pack(x));
    }
  }
  __device__ __forceinline__ double tau(int j) const {
    const int64_t step = p.a.rows.stride[static_cast<int>(Operand::kTau)][p.a.rows.dims - 1];
    Row of_row = row;
    of_row.offset[static_cast<int>(Operand::kTau)] += j * step;
    return tau_of(p.a, of_row);
  }
  __device__ __forceinline__ Temperature temperature(int j) const {
    return p.a.tau == nullptr ? p.temperature : temperature_of(tau(j));
  }
};

/// Merges one value of every warp for each of a lane's rows, for all of them. `scratch` may be used
/// again at once.
template <typename State, int kWidth, typename Merge>
__device__ __forceinline__ void reduce_spatial(
    State (&own)[kWidth], int warps, State (&scratch)[kMaxSpatialWarps][kWidth][kWarpSize],
    Merge merge) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) scratch[warp][j][lane] = own[j];
  __syncthreads();
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    own[j] = scratch[0][j][lane];
    for (int other = 1; other < warps; ++other) own[j] = merge(own[j], scratch[other][j][lane]);
  }
  __syncthreads();
}

/// Fast scores of one class.
template <typename Element, typename Key>
__device__ __forceinline__ void spatial_scores(const SpatialRows<Element>& spatial, const Key& key,
                                               int k, float (&x)[Element::kWidth]) {
  const uint64_t position = spatial.word(k);
  const Counters<> counters(key.offset() + position / 4);
  float logit[Element::kWidth];
#pragma unroll
  for (int j = 0; j < Element::kWidth; ++j) logit[j] = x[j];
  uint32_t least = 0xFFFFFFFF;
  add_fast_noise<Scoring::kWeights, Element::kWidth>(key, counters, 0, x, least);
  const bool wraps = counters.wraps(Element::kWidth / 4);
  if (least >= math::kExtendBelow && !wraps) return;
#pragma unroll 1
  for (int i = 0; i < Element::kWidth; ++i) {
    const uint64_t at = position + static_cast<uint64_t>(i);
    const uint32_t word = position_word(key, at);
    if (word >= math::kExtendBelow && !wraps) continue;
    const float noise = exact_noise(key, at, word);
#pragma unroll
    for (int j = 0; j < Element::kWidth; ++j) x[j] = j == i ? logit[j] + noise : x[j];
  }
}

/// Calls visit(k, logits) for the thread's classes; the loads of several classes come first.
template <typename Element, typename Visit>
__device__ __forceinline__ void for_each_spatial_class(const SpatialRows<Element>& spatial,
                                                       Visit visit) {
  constexpr int kDepth = kSpatialDepth<Element>;
#pragma unroll 1
  for (int k = spatial.begin() + spatial.warp; k < spatial.end; k += kDepth * spatial.warps) {
    float x[kDepth][Element::kWidth] = {};
#pragma unroll
    for (int d = 0; d < kDepth; ++d)
      if (k + d * spatial.warps < spatial.end) spatial.load_input(k + d * spatial.warps, x[d]);
#pragma unroll
    for (int d = 0; d < kDepth; ++d)
      if (k + d * spatial.warps < spatial.end) visit(k + d * spatial.warps, x[d]);
  }
}

/// A lane's rows: sums of weights, and of weights times incoming gradients.
template <int kWidth>
struct SpatialState {
  float top[kWidth];
  float scale[kWidth];
  float sum[kWidth];
  float dot[kWidth];

  __device__ __forceinline__ float weigh(float score, int j) const {
    return exp2_fast((score - top[j]) * scale[j]);
  }
};

/// The states of the blocks that share a lane's rows, divided by its warps.
template <typename Element>
__device__ __forceinline__ void add_blocks(const SpatialRows<Element>& spatial,
                                           const float (&scale)[Element::kWidth],
                                           Running (&running)[Element::kWidth]) {
  const int blocks = spatial.exists() ? spatial.p.blocks_per_row : 0;
#pragma unroll 1
  for (int block = spatial.warp; block < blocks; block += spatial.warps) {
#pragma unroll
    for (int j = 0; j < Element::kWidth; ++j) {
      const LoopedState& state = states_of(spatial.p, spatial.first + j)[block];
      running[j].raise(state.max, scale[j]);
      const float weight =
          state.max == running[j].max ? 1.0f : exp2_fast((state.max - running[j].max) * scale[j]);
      running[j].sum.add(state.sum * weight);
      running[j].dot.add(state.dot * weight);
    }
  }
}

/// The state of the block's range, or, in the last stage, of the rows. Calls tracker.update(j, k,
/// score of class k in row j, the thread's largest one before), then tracker.keep(j, its largest).
template <bool kWithGrad, typename Element, typename Key, typename Tracker>
__device__ __forceinline__ SpatialState<Element::kWidth> weigh_spatial(
    const SpatialRows<Element>& spatial, const Key& key,
    float (&scratch)[kMaxSpatialWarps][Element::kWidth][kWarpSize], Tracker& tracker) {
  constexpr int kWidth = Element::kWidth;
  const KernelParams& a = spatial.p.a;
  SpatialState<kWidth> state;
  Running running[kWidth];
  for (int j = 0; j < kWidth; ++j) state.scale[j] = spatial.temperature(j).scale;
  const auto weigh_class = [&](int k, float(&x)[kWidth]) {
    spatial_scores(spatial, key, k, x);
    float grad[kWidth];
    if (kWithGrad) spatial.load(a.grad, a.grad_type, Operand::kGrad, k, grad);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      tracker.update(j, k, x[j], running[j].max);
      running[j].raise(x[j], state.scale[j]);
      const float weight = exp2_fast((x[j] - running[j].max) * state.scale[j]);
      running[j].sum.add(weight);
      if (kWithGrad) running[j].dot.add(weight * grad[j]);
    }
  };
  if (spatial.is(Stage::kFinish))
    add_blocks(spatial, state.scale, running);
  else
    for_each_spatial_class(spatial, weigh_class);
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    state.top[j] = running[j].max;
    tracker.keep(j, running[j].max);
  }
  reduce_spatial(state.top, spatial.warps, scratch, MaxNumber{});
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    const float keep = running[j].max == state.top[j] ? 1.0f : state.weigh(running[j].max, j);
    state.sum[j] = running[j].sum.sum * keep;
    state.dot[j] = kWithGrad ? running[j].dot.sum * keep : 0.0f;
  }
  reduce_spatial(state.sum, spatial.warps, scratch, Sum{});
  if (kWithGrad) reduce_spatial(state.dot, spatial.warps, scratch, Sum{});
  return state;
}

struct SpatialSumsOnly {
  __device__ __forceinline__ void update(int, int, float, float) {}
  __device__ __forceinline__ void keep(int, float) {}
};

template <bool kWithGrad, typename Element, typename Key>
__device__ __forceinline__ SpatialState<Element::kWidth> weigh_spatial(
    const SpatialRows<Element>& spatial, const Key& key,
    float (&scratch)[kMaxSpatialWarps][Element::kWidth][kWarpSize]) {
  SpatialSumsOnly none;
  return weigh_spatial<kWithGrad>(spatial, key, scratch, none);
}

/// In the first of two launches, leaves the state of the block's range. Whether that is all.
template <typename Element>
__device__ __forceinline__ bool leave_state(const SpatialRows<Element>& spatial,
                                            const SpatialState<Element::kWidth>& state) {
  if (!spatial.is(Stage::kReduce)) return false;
  for (int j = 0; spatial.leads() && j < Element::kWidth; ++j)
    states_of(spatial.p, spatial.first + j)[spatial.block()] = {state.top[j], state.sum[j],
                                                                state.dot[j], 0};
  return true;
}

}  // namespace torch_gumbel::cuda
