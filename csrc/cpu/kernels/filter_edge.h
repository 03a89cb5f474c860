// SPDX-License-Identifier: Apache-2.0
// Which classes of a row the filters keep: top-k, then top-p of their renormalised law, then min-p
// against its largest probability. Each keeps a prefix of the order (value falling, class rising).
#pragma once

#include <math.h>

#include "filter_row.h"

namespace torch_gumbel::cpu::TG_ISA {

using math::RowFilter;
using math::target_of;

/// Some of a row's logits at equal distances, with their weights.
template <typename T>
class RowSample {
 public:
  explicit RowSample(const FilterRow<T>& row) : scale_(row.scale) {
    constexpr int64_t kBlock = 16, kLong = 100000;
    const int64_t blocks = row.count < kLong ? kMost / 2 / kBlock : kMost / kBlock;
    const int64_t step = row.count / kBlock / blocks * kBlock;
    for (int64_t b = 0; b < blocks; ++b)
      memcpy(x_ + b * kBlock, row.x + b * step, kBlock * sizeof(T));
    count_ = blocks * kBlock;
    total_ = weigh(x_, count_, row.scale, weights_);
  }
  int64_t count() const { return count_; }
  uint64_t total() const { return total_; }

  /// The shortest prefix of the sample with that share of its mass, which is not 0.
  Edge<T> edge_at(double share, List<T>* spare) const {
    return select_edge<true>({x_, nullptr, weights_, count_}, target_of(share, total_), scale_,
                             spare);
  }
  /// (sum w)^2 / sum w^2
  double effective_count() const {
    double squares = 0;
    for (int64_t k = 0; k < count_; ++k) squares += static_cast<double>(weights_[k]) * weights_[k];
    const auto total = static_cast<double>(total_);
    return total * total / squares;
  }

 private:
  static constexpr int64_t kMost = 2048;
  const WeightScale<T>& scale_;
  alignas(64) T x_[kMost + kLanes];
  alignas(64) uint32_t weights_[kMost + kListSlack];
  int64_t count_;
  uint64_t total_;
};

/// What the filters keep of a row: a prefix, of which `edge` is the last class and, if `listed`, the
/// list has all classes.
template <typename T>
class RowSelection {
 public:
  /// The row has a finite logit, and neither NaN nor +inf; the filter is valid.
  RowSelection(const FilterRow<T>& row, const RowFilter& filter, const List<T>& list,
               List<T>* spare)
      : row_(row), filter_(filter), list_(list), spare_(spare) {
    edge_.kept = row.count;
    if (filter.top_k > 0 && filter.top_k < row.count) keep_top_k(filter.top_k);
    if (filter.top_p < 1) keep_top_p(filter.top_p);
    if (filter.min_p > 0) keep_min_p(filter.min_p);
  }
  const Edge<T>& edge() const { return edge_; }
  List<T>& list() {
    if (!listed_) list_prefix(row_, edge_, list_);
    listed_ = true;
    return list_;
  }

 private:
  static constexpr T kInfinity = static_cast<T>(__builtin_inf());

  /// A bound that at least k classes reach and not many more; -inf if there is none so easily.
  T bound_of_top_k(int64_t k) const {
    if (8 * k > row_.group_count) return -kInfinity;
    int64_t finite = 0;
    for (int64_t g = 0; g < row_.group_count; ++g) finite += row_.groups[g] > -kInfinity;
    if (finite < k) return -kInfinity;
    const Candidates<T> groups = {row_.groups, nullptr, nullptr, row_.group_count};
    return select_edge<false>(groups, static_cast<uint64_t>(k), row_.scale, spare_).value;
  }

  void keep_top_k(int64_t k) {
    const T bound = bound_of_top_k(k);
    if (bound > -kInfinity) {
      list_from_groups(row_, bound, list_);
      edge_ = {bound, row_.count, list_.count};
    } else {
      list_prefix(row_, edge_, list_);
      edge_.kept = list_.count;
    }
    listed_ = true;
    if (list_.count > k) take(select_edge<false>(list_.candidates(false), k, row_.scale, spare_));
  }

  void keep_top_p(double p) {
    if (listed_) {
      const uint64_t total = weigh(list_.x, list_.count, row_.scale, list_.weight);
      return take(
          select_edge<true>(list_.candidates(true), target_of(p, total), row_.scale, spare_));
    }
    if (row_.count > kSampleFrom) return keep_top_p_of_long_row(p);
    const uint64_t total = weigh(row_.x, row_.count, row_.scale, list_.weight);
    edge_ = select_edge<true>({row_.x, nullptr, list_.weight, row_.count}, target_of(p, total),
                              row_.scale, spare_);
  }

  /// Classes over a pivot, which a sample gives, are listed; if its guess was wrong, all that have a
  /// weight.
  void keep_top_p_of_long_row(double p) {
    const RowSample<T> sample(row_);
    T low = least_weighed();
    if (sample.total() > 0) {
      const Edge<T> pivot = sample.edge_at(p + 0.6 * (1 - p), spare_);
      if (3 * pivot.kept < sample.count())
        low = pivot.value > low ? pivot.value : low;
      else if (keep_top_p_between(p, sample))
        return;
    }
    while (true) {
      const Weighed row = weigh_and_list<false>(row_, low, kInfinity, list_);
      const uint64_t target = target_of(p, row.total);
      const uint64_t mass = weigh(list_.x, list_.count, row_.scale, list_.weight);
      if (mass >= target) {
        listed_ = true;
        return take(select_edge<true>(list_.candidates(true), target, row_.scale, spare_));
      }
      low = least_weighed();
    }
  }

  /// The same where many classes are kept: only those near the edge are listed. False if the
  /// sample's guess was wrong.
  bool keep_top_p_between(double p, const RowSample<T>& sample) {
    const double n = sample.effective_count(), d = 4 * sqrt(p * (1 - p) / n) + 2 / n;
    const double upper = p + d < p + 0.8 * (1 - p) ? p + d : p + 0.8 * (1 - p);
    const T least = least_weighed(), value = sample.edge_at(upper, spare_).value;
    const T low = value > least ? value : least;
    T high = p > d ? sample.edge_at(p - d, spare_).value : kInfinity;
    if (!(high > low)) high = kInfinity;
    const Weighed row = weigh_and_list<true>(row_, low, high, list_);
    const uint64_t target = target_of(p, row.total);
    const uint64_t mass = weigh(list_.x, list_.count, row_.scale, list_.weight);
    if (row.above >= target || row.above + mass < target) return false;
    edge_ = select_edge<true>(list_.candidates(true), target - row.above, row_.scale, spare_);
    edge_.kept += row.above_count;
    return true;
  }

  void keep_min_p(double q) {
    const T bound = math::min_p_bound(row_.max, filter_.temperature, q);
    if (!(bound > edge_.value)) return;
    edge_ = {bound, row_.count, 0};
    if (listed_)
      keep_prefix(list_, edge_);
    else
      list_from_groups(row_, bound, list_);
    listed_ = true;
    edge_.kept = list_.count;
  }

  /// A prefix of the list.
  void take(const Edge<T>& edge) {
    edge_ = edge;
    keep_prefix(list_, edge);
  }

  /// Below, weights are 0.
  T least_weighed() const {
    const double least = static_cast<double>(row_.max) - 22.5 * filter_.temperature;
    const auto bound = static_cast<T>(least);
    return bound > -math::kLargest<T> ? bound : -math::kLargest<T>;
  }

  static constexpr int64_t kSampleFrom = 8192;
  const FilterRow<T>& row_;
  const RowFilter& filter_;
  List<T> list_;
  List<T>* spare_;
  Edge<T> edge_;
  bool listed_ = false;
};

}  // namespace torch_gumbel::cpu::TG_ISA
