// SPDX-License-Identifier: Apache-2.0
// The draw among some classes of a row, of which only the words are made; and the law of those that
// are kept.
#pragma once

#include "argmax.h"
#include "select.h"

namespace torch_gumbel::cpu::TG_ISA {

typedef uint32_t HalfWords __attribute__((vector_size(kVectorBytes / 2)));
typedef uint32_t HalfWordsMemory
    __attribute__((vector_size(kVectorBytes / 2), aligned(4), may_alias));

/// Words of positions first + index[k] step, kUnroll vectors of blocks at a time: index and words
/// have so many elements more.
static void fill_scattered(math::Key key, uint64_t first, uint64_t step, const uint32_t* index,
                           int64_t count, uint32_t* words) {
  const WideRoundKeys keys(key.seed);
  const Wide multiplier0 = broadcast(math::philox::kMultiplier0);
  const Wide multiplier1 = broadcast(math::philox::kMultiplier1);
  for (int64_t k = 0; k < count; k += kUnroll * kBlocks) {
    Wide position[kUnroll], c0[kUnroll], c1[kUnroll], c2[kUnroll], c3[kUnroll];
    for (int g = 0; g < kUnroll; ++g) {
      const HalfWords at = *reinterpret_cast<const HalfWordsMemory*>(index + k + g * kBlocks);
      const Wide class_index = __builtin_convertvector(at, Wide);
      position[g] = broadcast(first) + (step == 1 ? class_index : class_index * broadcast(step));
      c0[g] = (position[g] >> 2) + broadcast(key.offset);
      c1[g] = c0[g] >> 32;
      c2[g] = c3[g] = Wide{};
    }
    for (int round = 0; round < math::philox::kRounds; ++round) {
      const Wide key0 = broadcast(keys.key0[round]), key1 = broadcast(keys.key1[round]);
      for (int g = 0; g < kUnroll; ++g) {
        const Wide a = multiply_low(c0[g], multiplier0);
        const Wide b = multiply_low(c2[g], multiplier1);
        c0[g] = (b >> 32) ^ (c1[g] ^ key0);
        c2[g] = (a >> 32) ^ (c3[g] ^ key1);
        c1[g] = b;
        c3[g] = a;
      }
    }
    for (int g = 0; g < kUnroll; ++g) {
      const auto odd = (position[g] & 1) != 0, upper = (position[g] & 2) != 0;
      const Wide low = odd ? c1[g] : c0[g], high = odd ? c3[g] : c2[g];
      const Wide word = upper ? high : low;
      *reinterpret_cast<HalfWordsMemory*>(words + k + g * kBlocks) =
          __builtin_convertvector(word & 0xFFFFFFFF, HalfWords);
    }
  }
}

/// Logits by the sampler's convention; `to` may be x.
template <typename T>
static inline void scale_logits(const T* x, int64_t count, T inverse, T* to) {
  if (inverse == 1) {
    if (x != to) memcpy(to, x, count * sizeof(T));
    return;
  }
  for (int64_t k = 0; k < count; ++k) to[k] = math::scaled_logit(x[k], inverse);
}

/// Listed classes, their scaled logits and their words.
struct Drawn {
  const float* x;
  const uint32_t* index;
  const uint32_t* words;
  float* bounds;
  int64_t count;
};

/// Offers those whose bound reaches the threshold.
static void offer_listed(const Drawn& list, const GroupWords& words, float threshold, Best& best) {
  for (int64_t k = 0; k < list.count; k += kLanes) {
    uint32_t reached = lanes_at_least(Lanes<float>::load(list.bounds + k), threshold);
    if (list.count - k < kLanes) reached &= (1u << (list.count - k)) - 1;
    for (; reached != 0; reached &= reached - 1) {
      const int64_t i = k + __builtin_ctz(reached);
      const uint32_t word = list.words[i];
      const auto extension = [&] {
        return math::key_word(words.key, words.position(0, list.index[i]), math::Plane::kExtension);
      };
      const uint32_t second = word < math::kExtendBelow ? extension() : 0;
      best.offer(list.x[i] + math::gumbel(word, second), list.index[i]);
    }
  }
}

/// The first best score of listed classes, not none; the words of class 0 are at words.first.
/// `spare`: two lists as long.
static int64_t draw_listed(const List<float>& list, const GroupWords& words, float inverse,
                           List<float>* spare) {
  const Drawn drawn = {spare[0].x, list.index, spare[0].weight, spare[1].x, list.count};
  fill_scattered(words.key, words.first, static_cast<uint64_t>(words.class_step), list.index,
                 list.count, spare[0].weight);
  scale_logits(list.x, list.count, inverse, spare[0].x);
  const float highest = bound_scores(drawn.x, drawn.words, list.count, drawn.bounds).bound;
  Best best;
  const float near = highest - kGuessedBelow;
  offer_listed(drawn, words, near, best);
  const float threshold = pruning_threshold(best);
  if (threshold < near) offer_listed(drawn, words, threshold, best);
  return best.index;
}
static int64_t draw_listed(const List<double>& list, const GroupWords& words, double inverse,
                           List<double>*) {
  Best best;
  for (int64_t k = 0; k < list.count; ++k) {
    const double noise = exp1_at<double>(words.key, words.position(0, list.index[k]));
    best.offer(math::scaled_logit(list.x[k], inverse) + noise, list.index[k]);
  }
  return best.index;
}

/// The sums of math::FilteredLaw.
template <typename T>
class LawSums {
 public:
  LawSums(const WeightScale<T>& scale, double temperature)
      : scale_(scale), temperature_(temperature) {}

  /// Classes in order, at most kTile; -inf: not kept.
  void take(const T* x, int64_t count) {
    using math::at_least;
    alignas(64) T weights[kTile + kLanes], differences[kTile + kLanes];
    for_each_vec<T>(0, count, [&](auto at) TG_INLINE {
      const auto values = at.load(x);
      using F = std::remove_cv_t<decltype(values)>;
      const F difference = at_least(F(-math::kLargest<T>), F(values - scale_.max));
      at.store(difference, differences);
      at.store(math::exp_scaled(difference, scale_.exponent), weights);
    });
    if (!found_) {
      const int64_t at = first_at_least(x, count, scale_.max);
      found_ = x[at] >= scale_.max;
      if (found_) weights[at] = 0;
    }
    rest_ += sum_of(weights, count);
    products_ += dot_of(weights, differences, count);
  }
  double log_prob(T x) const { return law().log_prob(x); }
  double entropy() const { return law().entropy(); }

 private:
  math::FilteredLaw law() const { return {scale_.max, temperature_, rest_, products_}; }

  const WeightScale<T>& scale_;
  double temperature_;
  bool found_ = false;
  double rest_ = 0, products_ = 0;
};

}  // namespace torch_gumbel::cpu::TG_ISA
