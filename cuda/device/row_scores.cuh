// SPDX-License-Identifier: Apache-2.0
// The scores of a row that its thread group holds in registers: kVectors vectors of 16 bytes per
// thread, and, where the row does not begin and end at 16-byte boundaries, one class of its head or
// tail.
//
// A warp's vectors are contiguous, so each of its accesses covers 512 bytes.
#pragma once

#include "fast_noise.cuh"
#include "thread_group.cuh"

namespace torch_gumbel::cuda {

constexpr float kInfinity = __builtin_inff();
constexpr float kNan = __builtin_nanf("");
constexpr float kLowest = -0x1.fffffep+127f;  // no score lies below it but -inf

/// The vectors of a row, and the class of its head or tail, that a thread holds.
template <typename Element, int kCount>
struct Fragment {
  static constexpr int kVectors = kCount;
  static constexpr int kWidth = Element::kWidth;
  static constexpr int kClasses = kVectors * kWidth;

  int first;      // its first vector; the others follow at a distance of a warp
  int vectors;    // from `first` on, in the row; none of its own if not positive
  int head_tail;  // class of the head or tail, or -1

  template <typename ThreadGroup>
  __device__ __forceinline__ Fragment(const ThreadGroup&, const AlignedRow<Element>& aligned) {
    const int lane = ThreadGroup::thread() % kWarpSize;
    first = ThreadGroup::warp() * kVectors * kWarpSize + lane;
    vectors = aligned.vectors - first;
    head_tail = ThreadGroup::thread() < aligned.head_tail_count()
                    ? aligned.head_tail_class(ThreadGroup::thread())
                    : -1;
  }

  /// Of vectors [begin, end) of a row, without head and tail.
  __device__ __forceinline__ Fragment(int begin, int end)
      : first(begin + static_cast<int>(threadIdx.x) / kWarpSize * kVectors * kWarpSize +
              static_cast<int>(threadIdx.x) % kWarpSize),
        vectors(end - first),
        head_tail(-1) {}

  /// Steps over the fragments of the block. Its warps end separately, the lanes of a warp together.
  __device__ __forceinline__ void advance() {
    const int step = static_cast<int>(blockDim.x) * kVectors;
    first += step, vectors -= step;
  }
  __device__ __forceinline__ bool any_in_warp() const {
    return vectors + static_cast<int>(threadIdx.x) % kWarpSize > 0;
  }

  __device__ __forceinline__ bool holds(int i) const { return i * kWarpSize < vectors; }
  __device__ __forceinline__ int vector(int i) const { return first + i * kWarpSize; }
  /// Whether every thread of the warp holds all its vectors.
  __device__ __forceinline__ bool full() const {
    const int lane = threadIdx.x % kWarpSize;
    return kVectors * kWarpSize <= vectors + lane;
  }
};

/// A thread's vectors of `Element`s; where it holds none, `filler`.
template <typename Element, typename Fragment>
__device__ __forceinline__ void load_fragment(const void* row_begin, int head,
                                              const Fragment& fragment, uint32_t filler,
                                              Bits128 (&raw)[Fragment::kVectors]) {
  constexpr int kBytes = sizeof(typename Element::Storage);
  constexpr int kStep = kWarpSize * 16;
  const char* from = static_cast<const char*>(row_begin) +
                     int64_t{head + fragment.first * Element::kWidth} * kBytes;
  if (fragment.full()) {
    unrolled<Fragment::kVectors>(
        [&](auto i) { raw[i.value] = load_elements<Element, i.value * kStep>(from); });
  } else {
    unrolled<Fragment::kVectors>([&](auto i) {
      raw[i.value] = {{filler, filler, filler, filler}};
      if (fragment.holds(i.value)) raw[i.value] = load_elements<Element, i.value * kStep>(from);
    });
  }
}

/// Scaling of a logit before noise is added: none, or the sampler's division by its temperature.
struct Unscaled {
  __device__ __forceinline__ float operator()(float x) const { return x; }
  template <int kCount>
  __device__ __forceinline__ void apply(float (&)[kCount]) const {}
  template <typename WithLogit, int kCount>
  __device__ __forceinline__ void apply(WithLogit (&)[kCount]) const {}
};

struct Scaled {
  float inverse;
  bool needed;  // the same for all threads

  __device__ __forceinline__ float operator()(float x) const {
    return needed ? math::scaled_logit(x, inverse) : x;
  }
  template <int kCount>
  __device__ __forceinline__ void apply(float (&x)[kCount]) const {
    if (!needed) return;
#pragma unroll
    for (float& each : x) each = math::scaled_logit(each, inverse);
  }
  template <typename WithLogit, int kCount>
  __device__ __forceinline__ void apply(WithLogit (&of)[kCount]) const {
    if (!needed) return;
#pragma unroll
    for (WithLogit& each : of) each.logit = math::scaled_logit(each.logit, inverse);
  }
};

/// Exact score of one class, with the word of its position or without.
template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ float exact_score(const AlignedRow<Element>& aligned, const Key& key,
                                             const Scaling& scaling, int at, uint32_t word) {
  const uint64_t position = aligned.word + static_cast<uint64_t>(at);
  return scaling(Element::widen(aligned.input[at])) + exact_noise(key, position, word);
}

template <typename Element, typename Key, typename Scaling>
__device__ __forceinline__ float exact_score(const AlignedRow<Element>& aligned, const Key& key,
                                             const Scaling& scaling, int at) {
  const uint32_t word = position_word(key, aligned.word + static_cast<uint64_t>(at));
  return exact_score(aligned, key, scaling, at, word);
}

template <typename Element, int kVectors, Scoring kFor = Scoring::kWeights>
struct Scores {
  using Vectors = Fragment<Element, kVectors>;
  static constexpr int kWidth = Element::kWidth;

  float of[Vectors::kClasses];  // fast scores; -inf where there is no class
  float head_tail;              // likewise

  /// kHeadTailFirst: whether head and tail are computed before the vectors; only register use
  /// depends on it.
  template <bool kHeadTailFirst = false, typename Key, typename Scaling>
  __device__ __forceinline__ void load(const AlignedRow<Element>& aligned, const Vectors& fragment,
                                       const Key& key, const Scaling& scaling) {
    Bits128 raw[kVectors];
    load_fragment<Element>(aligned.input, aligned.head, fragment, Element::kMasked, raw);
    if (kHeadTailFirst) load_head_tail(aligned, fragment, key, scaling);
    constexpr uint32_t kStep = kWarpSize * (kWidth / 4);
    // With 64 classes in registers none are free for products.
    const Counters<Vectors::kClasses <= 32> counters(
        key.offset() + (aligned.word + aligned.class_of(fragment.first)) / 4);
    uint32_t least = 0xFFFFFFFF;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) Element::unpack(raw[i], of + i * kWidth);
    scaling.apply(of);
#pragma unroll
    for (int i = 0; i < kVectors; ++i)
      add_fast_noise<kFor, kWidth>(key, counters, i * kStep, of + i * kWidth, least);
    const bool wraps = counters.wraps(kVectors * kStep);
    if (least < math::kExtendBelow || wraps) redo(aligned, fragment, key, scaling, wraps);
    if (!kHeadTailFirst) load_head_tail(aligned, fragment, key, scaling);
  }

  /// The largest one, without NaNs or NaN if there is one; also of vector i alone.
  template <typename Max>
  __device__ __forceinline__ float max(Max larger) const {
    float top = head_tail;
#pragma unroll
    for (int i = 0; i < Vectors::kClasses; ++i) top = larger(top, of[i]);
    return top;
  }
  template <typename Max>
  __device__ __forceinline__ float max_of_vector(Max larger, int i) const {
    float top = of[i * kWidth];
#pragma unroll
    for (int j = 1; j < kWidth; ++j) top = larger(top, of[i * kWidth + j]);
    return top;
  }

 private:
  template <typename Key, typename Scaling>
  __device__ __forceinline__ void load_head_tail(const AlignedRow<Element>& aligned,
                                                 const Vectors& fragment, const Key& key,
                                                 const Scaling& scaling) {
    head_tail = -kInfinity;
    if (fragment.head_tail >= 0)
      head_tail = among_fast<kFor>(exact_score(aligned, key, scaling, fragment.head_tail));
  }

  /// Writes exact scores where words are extended, or everywhere. Once in a million classes, so
  /// that it is kept small instead of fast.
  template <typename Key, typename Scaling>
  __device__ __forceinline__ void redo(const AlignedRow<Element>& aligned, const Vectors& fragment,
                                       const Key& key, const Scaling& scaling, bool all) {
#pragma unroll 1
    for (int i = 0; i < Vectors::kClasses && fragment.holds(i / kWidth); ++i) {
      const int at = aligned.class_of(fragment.vector(i / kWidth)) + i % kWidth;
      const uint32_t word = position_word(key, aligned.word + static_cast<uint64_t>(at));
      if (word >= math::kExtendBelow && !all) continue;
      const float score = among_fast<kFor>(exact_score(aligned, key, scaling, at, word));
#pragma unroll
      for (int j = 0; j < Vectors::kClasses; ++j) of[j] = j == i ? score : of[j];
    }
  }
};

/// Writes vector i, of Fragment::kWidth values, as `Output`s: in 16-byte pieces.
template <typename Output, int kWidth, int i>
__device__ __forceinline__ void store_vector(void* to, const float* value) {
  constexpr int kPieces = kWidth / Output::kWidth;
  unrolled<kPieces>([&](auto piece) {
    store_128<(i * kWarpSize * kPieces + piece.value) * 16>(
        to, Output::pack(value + piece.value * Output::kWidth));
  });
}

template <typename Output, typename Fragment>
__device__ __forceinline__ void store_vectors(void* row_begin, int head, const Fragment& fragment,
                                              const float (&value)[Fragment::kClasses]) {
  constexpr int kWidth = Fragment::kWidth;
  void* to = static_cast<typename Output::Storage*>(row_begin) + head + fragment.first * kWidth;
  if (fragment.full()) {
    unrolled<Fragment::kVectors>(
        [&](auto i) { store_vector<Output, kWidth, i.value>(to, value + i.value * kWidth); });
  } else {
    unrolled<Fragment::kVectors>([&](auto i) {
      if (fragment.holds(i.value))
        store_vector<Output, kWidth, i.value>(to, value + i.value * kWidth);
    });
  }
}

/// Fills the thread's fragment of the output with a bit pattern.
template <int kPieces, typename Fragment>
__device__ __forceinline__ void fill_fragment(void* to, const Fragment& fragment,
                                              const Bits128& bits) {
  const auto fill = [&](auto i) {
    unrolled<kPieces>([&](auto piece) {
      store_128<(i.value * kWarpSize * kPieces + piece.value) * 16>(to, bits);
    });
  };
  if (fragment.full()) {
    unrolled<Fragment::kVectors>(fill);
  } else {
    unrolled<Fragment::kVectors>([&](auto i) {
      if (fragment.holds(i.value)) fill(i);
    });
  }
}

/// Writes a thread's values into the output, which holds `Element`s or float32.
template <typename Element, typename Fragment>
__device__ __forceinline__ void store_fragment(const KernelParams& a,
                                               const AlignedRow<Element>& aligned,
                                               const Fragment& fragment,
                                               const float (&value)[Fragment::kClasses]) {
  if (Element::kType != DType::kFloat32 && a.output_type == DType::kFloat32)
    store_vectors<Float32>(aligned.output, aligned.head, fragment, value);
  else
    store_vectors<Element>(aligned.output, aligned.head, fragment, value);
}

}  // namespace torch_gumbel::cuda
