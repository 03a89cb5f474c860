// SPDX-License-Identifier: Apache-2.0
// Soft samples of spatial rows.
#pragma once

#include "long_row.h"
#include "spatial.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Sums over classes, by row, in the fixed tree: see reduce.h.
template <typename T>
class SpatialSum {
 public:
  explicit SpatialSum(int64_t rows) : rows_(rows) { memset(lanes_, 0, kLanes * rows * sizeof(T)); }

  T* lane(int64_t k) { return lanes_ + k % kLanes * rows_; }

  /// The sums, [rows].
  const T* total() {
    for (int64_t half = kLanes / 2 * rows_; half >= rows_; half /= 2)
      for (int64_t i = 0; i < half; ++i) lanes_[i] += lanes_[half + i];
    return lanes_;
  }

 private:
  alignas(64) T lanes_[kLanes * kMaxSpatialRows];
  int64_t rows_;
};

/// Temperatures of a group's rows.
template <typename T>
struct Temperatures {
  alignas(64) T high[kMaxSpatialRows], low[kMaxSpatialRows], inverse[kMaxSpatialRows];

  explicit Temperatures(const Group& group) {
    for (int64_t i = 0; i < group.rows; ++i) {
      const double tau = group.tau_of(i);
      const auto scale = math::exponent_scale<T>(tau);
      high[i] = scale.high, low[i] = scale.low;
      inverse[i] = math::inverse_temperature<T>(tau);
    }
  }
  math::Exponent<T> scale(int64_t i) const { return {high[i], low[i]}; }
};

/// Softmax of spatial rows, tile by tile. Where the tiles do not all fit in scratch, they are
/// recomputed for each use.
template <typename T, typename Visitor>
class SpatialSoftmax {
 public:
  /// scratch: plan.scratch_bytes. visit(i, row sum) is called for every row.
  SpatialSoftmax(const PlannedParams& a, const Group& group, T* scratch, Visitor visit)
      : a_(a),
        group_(group),
        visit_(visit),
        taus_(group),
        divides_(divides<T>(a, group)),
        rows_(group.rows),
        values_(scratch),
        stats_(scratch + min64(a.rows.classes, kLongRow) * rows_) {
    for (int64_t t = 0; t < tiles(); ++t) compute_weights(t);
    for (int64_t i = 0; i < rows_; ++i) combine_row(i);
  }

  int64_t tiles() const { return tiles_of(a_.rows.classes); }
  const T* inverse_taus() const { return taus_.inverse; }

  /// Calls f(k, y), y(i) the probability of row i, for the classes of tile t.
  template <typename F>
  void for_each_class(int64_t t, F&& f) {
    if (!cached()) compute_weights(t);
    for (int64_t k = t * kTile; k < end_of(t); ++k)
      f(k, [weights = tile(t) + (k - t * kTile) * rows_, high = factor(t),
            low = low_factor(t)](int64_t i) { return Factor<T>{high[i], low[i]}.of(weights[i]); });
  }

 private:
  bool cached() const { return a_.plan.holds_rows; }
  int64_t end_of(int64_t t) const { return min64((t + 1) * kTile, a_.rows.classes); }
  T* tile(int64_t t) { return values_ + (cached() ? t * kTile * rows_ : 0); }
  T* max(int64_t t) { return stats_ + 4 * t * rows_; }
  T* factor(int64_t t) { return max(t) + rows_; }  // first the tile's sum
  T* low_factor(int64_t t) { return factor(t) + rows_; }
  T* argmax(int64_t t) { return low_factor(t) + rows_; }  // of the first maximum, in the tile
  void set_factor(int64_t t, int64_t i, const Factor<T>& value) {
    factor(t)[i] = value.high, low_factor(t)[i] = value.low;
  }

  /// Weights of a tile relative to its own maxima, and their sums.
  void compute_weights(int64_t t) {
    const int64_t begin = t * kTile, end = end_of(t);
    T *top = max(t), *values = tile(t);
    for (int64_t i = 0; i < rows_; ++i) top[i] = -static_cast<T>(__builtin_inf());
    load_spatial_scores(group_, begin, end, divides_, values, top);
    for (int64_t i = 0; divides_ && i < rows_; ++i) top[i] = quotient_reference(top[i]);
    if (a_.one_hot != nullptr) find_argmax(t);
    constexpr int64_t kStep = 64;  // rows whose sums' lanes stay in the nearest cache
    for (int64_t i = 0; i < rows_; i += kStep)
      exponentiate_rows(i, min64(kStep, rows_ - i), t, factor(t));
  }

  /// First maxima of scores, from the last class to the first.
  void find_argmax(int64_t t) {
    T* __restrict at = argmax(t);
    const T* top = max(t);
    memset(at, 0, rows_ * sizeof(T));
    for (int64_t k = end_of(t) - t * kTile - 1; k >= 0; --k) {
      const T* scores = tile(t) + k * rows_;
      for (int64_t i = 0; i < rows_; ++i) at[i] = scores[i] >= top[i] ? static_cast<T>(k) : at[i];
    }
  }

  /// Rows [first, first + rows) of tile t.
  void exponentiate_rows(int64_t first, int64_t rows, int64_t t, T* sums) {
    const T *high = taus_.high + first, *low = taus_.low + first, *top = max(t) + first;
    alignas(64) T reference[kMaxSpatialRows], buffer[kMaxSpatialRows];
    for (int64_t i = 0; i < rows; ++i) reference[i] = or_zero(top[i]);
    const Strided logits = part_of(group_.input, first, t * kTile);
    SpatialSum<T> sum(rows);
    for (int64_t k = 0; k < end_of(t) - t * kTile; ++k) {
      T* __restrict class_values = tile(t) + k * rows_ + first;
      T* __restrict lane = sum.lane(k);
      if (divides_) {
        const T* x = load_class(logits, k, rows, buffer);
        const auto one = math::exponent_scale<T>(1.0);
        for_each_vec<T>(0, rows, [&](auto at) TG_INLINE {
          const auto d = at.load(x) - at.load(reference);
          const auto weight = math::exp_scaled(d, one) / at.load(class_values);
          at.store(weight, class_values);
          at.store(at.load(lane) + weight, lane);
        });
      } else {
        for_each_vec<T>(0, rows, [&](auto at) TG_INLINE {
          const math::Exponent<decltype(at.load(high))> scale = {at.load(high), at.load(low)};
          const auto weight = math::exp_scaled(at.load(class_values) - at.load(reference), scale);
          at.store(weight, class_values);
          at.store(at.load(lane) + weight, lane);
        });
      }
    }
    if (!combined_) memcpy(sums + first, sum.total(), rows * sizeof(T));
  }

  /// Sums of row i's tiles -> factors: `combine` and `tile_factor`, by their formulas.
  void combine_row(int64_t i) {
    combined_ = true;
    RowSum<T> row = {max(0)[i], factor(0)[i], 0};
    if (tiles() == 1) {
      set_factor(0, i, single_factor(row, divides_));
    } else {
      for (int64_t t = 1; t < tiles(); ++t) row.max = max(t)[i] > row.max ? max(t)[i] : row.max;
      row.sum = 0;
      for (int64_t t = 0; t < tiles(); ++t)
        row.sum += factor(t)[i] * math::exp_scaled(max(t)[i] - or_zero(row.max), taus_.scale(i));
      for (int64_t t = 0; t < tiles(); ++t)
        set_factor(t, i, tile_factor<T>({.max = max(t)[i]}, row, taus_.scale(i), divides_));
    }
    for (int64_t t = tiles() - 1; a_.one_hot != nullptr && t >= 0; --t)
      if (max(t)[i] >= row.max) row.top = t * kTile + static_cast<int64_t>(argmax(t)[i]);
    visit_(i, row);
  }

  const PlannedParams& a_;
  const Group& group_;
  Visitor visit_;
  Temperatures<T> taus_;
  bool divides_;
  int64_t rows_;
  T *values_, *stats_;
  bool combined_ = false;
};

/// Spatial rows at a temperature of 1 in a group with others, which SpatialSoftmax computed like
/// the others: once more, one by one, by quotients.
template <typename T, typename F>
static void redo_quotients(const PlannedParams& a, const Group& group, F&& alone) {
  if (divides<T>(a, group) || group.uniform_tau()) return;
  for (int64_t i = 0; i < group.rows; ++i)
    if (divides<T>(a, group.tau_of(i))) alone(rows_of(group, i, 1));
}

/// soft_group of a long row by quotients. `scratch`: a tile, followed by the tiles' sums.
template <typename T>
static void soft_long_row(const PlannedParams& a, const Group& group, T* scratch) {
  const int64_t tiles = tiles_of(a.rows.classes);
  auto* stats = reinterpret_cast<TileStat*>(scratch + kTile + kScratchSlack);
  LongRow<T> row(a, group, scratch, nullptr);
  row.reduce(0, tiles, stats);
  row.finish(0, tiles, stats);
  row.finish_row(stats);
}

template <typename T>
static void soft_spatial(const PlannedParams& a, const Group& group, T* scratch) {
  const SpatialOutput<T> output(a, group);
  Best best[kMaxSpatialRows];
  SpatialSoftmax soft(a, group, scratch, [&](int64_t i, const RowSum<T>& sum) {
    if (sum.defined()) best[i] = {static_cast<double>(sum.max), sum.top};
    if (a.row_value != nullptr) write_lse(a, group.index + i, sum, group.tau_of(i));
  });
  alignas(64) T buffer[kMaxSpatialRows];
  for (int64_t t = 0; t < soft.tiles(); ++t)
    soft.for_each_class(t, [&](int64_t k, auto&& y) {
      T* __restrict to = output.buffer_for(k, buffer);
      for (int64_t i = 0; i < group.rows; ++i) to[i] = y(i);
      output.put(to, k);
    });
  redo_quotients<T>(a, group, [&](const Group& row) {
    a.plan.holds_rows ? soft_group(a, row, scratch) : soft_long_row(a, row, scratch);
  });
  if (a.one_hot == nullptr) return;
  clear_matrix(group.one_hot, group.rows, group.classes, a.plan.nontemporal);
  for (int64_t i = 0; i < group.rows; ++i) mark_choice(group, i, best[i], group.one_hot);
}

template <typename T>
static void noise_spatial(const PlannedParams& a, const Group& group) {
  const SpatialOutput<T> output(a, group);
  alignas(64) T buffer[kMaxSpatialRows];
  for_each_spatial_noise<T>(group, 0, group.classes, [&](int64_t k, const T* noise) {
    T* to = output.buffer_for(k, buffer);
    for (int64_t i = 0; i < group.rows; ++i) to[i] = finished_noise(noise[i]);
    output.put(to, k);
  });
}

}  // namespace torch_gumbel::cpu::TG_ISA
