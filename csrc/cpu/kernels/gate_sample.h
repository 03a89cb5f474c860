// SPDX-License-Identifier: Apache-2.0
// Samples of gates: elements one by one, a tile of neighbours at a time.
#pragma once

#include "../../math/gate.h"
#include "../simd/store.h"
#include "scores.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Where a loop's results go: a tile of memory, past the caches if `streams`, or scratch.
struct GateResults {
  float* at;
  bool streams = false;

  template <typename At, typename V>
  TG_MEMBER void store(At index, V values) const {
    if constexpr (requires { index.stream(values, at); })
      if (streams) return index.stream(values, at);
    index.store(values, at);
  }
};

/// Neighbouring elements, at most kTile, and their operands as a row.
struct GateTile {
  const GateParams& a;
  const Group& group;
  int64_t count;

  GateTile(const GateParams& params, const Group& elements)
      : a(params), group(elements), count(elements.rows) {}

  Strided row_of(const Strided& operand) const {
    return {operand.data, operand.type, 0, count == 1 ? 1 : operand.row_step};
  }
  template <typename T>
  const T* values_of_row(const Strided& operand, T* buffer) const {
    return values_of(row_of(operand), 1, count, buffer);
  }
  /// Where to compute results: in place when nothing needs converting.
  template <typename T>
  T* place_of(const Strided& operand, T* buffer) const {
    T* place = a.nontemporal ? nullptr : packed_values<T>(row_of(operand), 1, count);
    return place != nullptr ? place : buffer;
  }
  /// The same of a loop over vectors, which stores them past the caches itself where they end with
  /// its lines.
  GateResults results_of(const Strided& operand, float* buffer) const {
    float* place = packed_values<float>(row_of(operand), 1, count);
    const bool fits = kVectorized<float> && reinterpret_cast<uintptr_t>(place) % kVectorBytes == 0;
    if (place == nullptr || (a.nontemporal && !fits)) return {buffer};
    return {place, a.nontemporal};
  }
  template <typename T>
  void store_row(const T* values, const Strided& operand) const {
    const Strided to = row_of(operand);
    if (values == to.data) return;
    if (to.class_step != 1) return store_matrix(values, 1, count, to);
    store_scaled(values, count, Factor<T>{1}, to, a.nontemporal);
  }
  bool keeps() const { return group.one_hot.data != nullptr; }
  uint32_t extension(int64_t i) const {
    return math::key_word(group.words.key_of(i), group.words.position(i, 0),
                          math::Plane::kExtension);
  }
};

/// The words of a tile. Those of unlike keys, and words that are no neighbours, are made one by
/// one.
class GateWords {
 public:
  explicit GateWords(const GateTile& tile) : first_(words_) {
    const GroupWords& words = tile.group.words;
    if (tile.group.uniform_key() && (tile.count == 1 || words.row_step == 1)) {
      const auto before = static_cast<int64_t>(words.first % 4);
      fill_words(words.key, words.first / 4, (before + tile.count + 3) / 4, math::Plane::kWord,
                 words_, prefetch_after(tile.group, tile.group.input));
      first_ += before;
    } else {
      for (int64_t i = 0; i < tile.count; ++i)
        words_[i] = math::key_word(words.key_of(i), words.position(i, 0));
    }
  }
  const uint32_t* get() const { return first_; }

 private:
  alignas(64) uint32_t words_[kTile + 8 + kWordSlack];
  const uint32_t* first_;
};

static inline bool any_extended_gate(const uint32_t* words, int64_t count) {
  uint32_t least = ~0u;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t from_end = words[i] + math::kExtendBelow;
    least = from_end < least ? from_end : least;
  }
  return least < 2 * math::kExtendBelow;
}

/// Whether a loop over a tile sees a word that is extended, or nearly one: v is then so near to 0 or
/// 1 that the greatest distance from the other end is 1 - 2^-24 or more.
struct ExtendedGates {
#if defined(__AVX2__)
  Vec<float> farthest = {};

  template <typename At, int parts>
  TG_MEMBER void update(At at, const math::Sides<Floats<parts>, Words<parts>>& v) {
    const Floats<parts> far = at.here(v.far, 0.0f);
    for (int p = 0; p < parts; ++p) farthest = maximum(far.part[p], farthest);
  }
  bool any(const uint32_t*, int64_t) const {
    bool found = false;
    for (int j = 0; j < kVecSize; ++j) found |= farthest[j] >= 1.0f - 0x1p-24f;
    return found;
  }
#else
  template <typename At, typename V>
  TG_MEMBER void update(At, const V&) {}
  bool any(const uint32_t* words, int64_t count) const { return any_extended_gate(words, count); }
#endif
};

/// What may vary from element to element.
template <typename T>
struct GateScales {
  alignas(64) T high[kTile], low[kTile], shift[kTile];

  void fill(const GateTile& tile) {
    for (int64_t i = 0; i < tile.count; ++i) {
      const double tau = tile.group.tau_of(i);
      const auto scale = math::exponent_scale<T>(tau);
      high[i] = scale.high, low[i] = scale.low;
      shift[i] = math::GateSettings<T>::shift_of(tile.a.threshold, tau);
    }
  }
};

/// f(scale at an index, shift at an index): one for all elements, or each element's own.
template <typename F>
TG_STAGE void with_scales(const GateTile& tile, const math::GateSettings<float>& s, F&& f) {
  if (tile.group.uniform_tau())
    return f([&](auto) TG_INLINE { return s.scale; }, [&](auto) TG_INLINE { return s.shift; });
  GateScales<float> scales;
  scales.fill(tile);
  f(
      [&](auto at) TG_INLINE {
        const auto high = at.load(scales.high);
        return math::Exponent<std::remove_cv_t<decltype(high)>>{high, at.load(scales.low)};
      },
      [&](auto at) TG_INLINE { return at.load(scales.shift); });
}

/// f(odds at an index) of soft gates.
template <typename F>
TG_STAGE void with_odds(const GateTile& tile, const math::GateSettings<float>& s,
                        const float* logits, const uint32_t* words, float* noise,
                        ExtendedGates& extended, F&& f) {
  if (s.at_one)
    return f([=, &extended](auto at) TG_INLINE {
      const auto v = math::sides_of(at.load(words));
      extended.update(at, v);
      return math::gate_odds(at.load(logits), v);
    });
  for_each_vec<float>(0, tile.count, [&](auto at) TG_INLINE {
    const auto v = math::sides_of(at.load(words));
    extended.update(at, v);
    at.store(math::logistic(v), noise);
  });
  with_scales(tile, s, [&](auto scale, auto) TG_INLINE {
    f([=](auto at)
          TG_INLINE { return math::gate_odds(at.load(logits) + at.load(noise), scale(at)); });
  });
}

/// Soft gates of half types, whose `kept` may not be wanted.
template <typename Odds>
TG_STAGE void near_gates(const GateTile& tile, const math::GateSettings<float>& s, Odds&& odds,
                         float* output, float* kept) {
  if (s.stretched)
    for_each_vec<float>(0, tile.count, [&](auto at) TG_INLINE {
      const auto gate = math::near_gate(odds(at));
      at.store(math::clamped_gate(gate.y, s.stretch), output);
      at.store(math::zero_if_clamped(gate.y, s.stretch, gate.kept), kept);
    });
  else if (tile.keeps())
    for_each_vec<float>(0, tile.count, [&](auto at) TG_INLINE {
      const auto gate = math::near_gate(odds(at));
      at.store(gate.y, output);
      at.store(gate.kept, kept);
    });
  else
    for_each_vec<float>(0, tile.count,
                        [&](auto at) TG_INLINE { at.store(math::near_gate(odds(at)).y, output); });
}

/// `soft`: of half types the sample, beside what is kept of it.
static void soft_gates(const GateTile& tile, const math::GateSettings<float>& s,
                       const float* logits, const uint32_t* words, float* noise,
                       ExtendedGates& extended, const GateResults& soft, float* kept) {
  with_odds(tile, s, logits, words, noise, extended, [&](auto odds) TG_INLINE {
    if (s.near) return near_gates(tile, s, odds, soft.at, kept);
    if (s.stretched)
      return for_each_vec<float>(0, tile.count, [&](auto at) TG_INLINE {
        soft.store(at, math::clamped_gate(math::share_of(odds(at)), s.stretch));
      });
    for_each_vec<float>(0, tile.count,
                        [&](auto at) TG_INLINE { soft.store(at, math::share_of(odds(at))); });
  });
}

static void hard_gates(const GateTile& tile, const math::GateSettings<float>& s,
                       const float* logits, const uint32_t* words, ExtendedGates& extended,
                       const GateResults& to) {
  const auto choose = [&](auto at, auto logit) TG_INLINE {
    const auto v = math::sides_of(at.load(words));
    extended.update(at, v);
    to.store(at, math::hard_gate(logit, v));
  };
  if (tile.a.threshold == 0 && tile.group.uniform_tau() && s.shift == 0)
    return for_each_vec<float>(0, tile.count,
                               [&](auto at) TG_INLINE { choose(at, at.load(logits)); });
  with_scales(tile, s, [&](auto, auto shift) TG_INLINE {
    for_each_vec<float>(0, tile.count,
                        [&](auto at) TG_INLINE { choose(at, at.load(logits) - shift(at)); });
  });
}

/// Of the words that are extended. Out of line: one tile in 4,000 has such a word.
__attribute__((noinline, cold)) static void redo_extended_gates(const GateTile& tile,
                                                                const float* logits,
                                                                const uint32_t* words,
                                                                float* output, float* kept) {
  for (int64_t i = 0; i < tile.count; ++i) {
    if (!math::is_extended_gate(words[i])) continue;
    const auto s = math::GateSettings<float>::of(tile.a, tile.group.tau_of(i));
    const auto value = math::gate_value(logits[i], math::sides_of(words[i], tile.extension(i)), s);
    output[i] = value.output, kept[i] = value.kept;
  }
}

static void sample_gates(const GateTile& tile, float) {
  alignas(64) float logit_buffer[kTile], noise[kTile], output_buffer[kTile], kept_buffer[kTile];
  const auto s = math::GateSettings<float>::of(tile.a, tile.group.tau);
  const bool keeps = tile.keeps();
  const GateWords words(tile);
  const float* logits = tile.values_of_row(tile.group.input, logit_buffer);
  const GateResults output = tile.results_of(tile.group.output, output_buffer);
  const GateResults kept =
      keeps ? tile.results_of(tile.group.one_hot, kept_buffer) : GateResults{kept_buffer};
  ExtendedGates extended;
  // Of float32 a soft sample is kept as it is, beside its 0 or 1; of half types in its own form.
  const GateResults soft = s.hard && !s.near ? kept : output;
  if (!s.hard || keeps) soft_gates(tile, s, logits, words.get(), noise, extended, soft, kept.at);
  if (s.hard) hard_gates(tile, s, logits, words.get(), extended, output);
  if (!s.hard && !s.near && keeps) memcpy(kept.at, output.at, tile.count * sizeof(float));
  if (extended.any(words.get(), tile.count))
    redo_extended_gates(tile, logits, words.get(), output.at, kept.at);
  tile.store_row(output.at, tile.group.output);
  if (keeps) tile.store_row(kept.at, tile.group.one_hot);
}

static void sample_gates(const GateTile& tile, double) {
  alignas(64) double logit_buffer[kTile], output[kTile], kept[kTile];
  const GateWords words(tile);
  const double* logits = tile.values_of_row(tile.group.input, logit_buffer);
  auto s = math::GateSettings<double>::of(tile.a, tile.group.tau);
  for (int64_t i = 0; i < tile.count; ++i) {
    if (!tile.group.uniform_tau()) s = math::GateSettings<double>::of(tile.a, tile.group.tau_of(i));
    const auto v = math::sides64_of(words.get()[i], tile.extension(i));
    const auto value = math::gate_value(logits[i], v, s);
    output[i] = value.output, kept[i] = value.kept;
  }
  tile.store_row(output, tile.group.output);
  if (tile.keeps()) tile.store_row(kept, tile.group.one_hot);
}

}  // namespace torch_gumbel::cpu::TG_ISA
