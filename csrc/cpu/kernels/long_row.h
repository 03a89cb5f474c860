// SPDX-License-Identifier: Apache-2.0
// Long rows, tile by tile, in two passes: the first reduces each tile to a TileStat, the second
// writes what the whole row's sums make of the tiles.
#pragma once

#include "backward.h"
#include "hard.h"

namespace torch_gumbel::cpu::TG_ISA {

static inline Best best_of_tiles(const TileStat* stats, int64_t tiles) {
  Best best;
  for (int64_t t = 0; t < tiles; ++t) merge(best, stats[t]);
  return best;
}

template <typename T>
static void noise_group(const Group& group, T* scratch) {
  memset(scratch, 0, group.rows * group.classes * sizeof(T));
  apply_group_noise<AddNoise>(group, scratch, scratch);
  store_matrix(scratch, group.rows, group.classes, group.output);
}

/// One long row, for every op. What its tiles share is resolved once, by the constructor.
template <typename T>
class LongRow {
 public:
  /// `scratch`, `weight_cache`: as in Kernels::reduce_tiles; unused ones are null.
  LongRow(const PlannedParams& a, const Group& row, void* scratch, void* weight_cache)
      : a_(a),
        row_(row),
        scale_(math::exponent_scale<T>(row.tau)),
        divided_(draws_soft(a.op) && divides<T>(a, row.tau)),
        scratch_(static_cast<T*>(scratch)),
        weights_(static_cast<T*>(weight_cache)) {
    const bool weights_only = weight_cache != nullptr || a.op == Op::kBackward;
    by_lines_ = a.plan.tiles_end_with_lines && weights_only;
    if (weights_ == nullptr && a.plan.output_holds_weights)
      weights_ = static_cast<T*>(row.output.data);
  }

  /// First pass over tiles [begin, end), and their zeros. Of threads that share a hard row, every
  /// other one begins with the zeros, so that not all load the memory bus at once.
  void reduce(int64_t begin, int64_t end, TileStat* stats) {
    if (a_.op == Op::kHardSoft) return reduce_among_zeros(begin, end, stats);
    const bool zeros_first = begin / (end - begin) % 2 == 1;
    if (a_.op == Op::kHard && zeros_first) clear_tiles(begin, end, row_.output);
    reduce_tiles(begin, end, stats);
    if (a_.op == Op::kHard && !zeros_first) clear_tiles(begin, end, row_.output);
  }

  /// Second pass over tiles [begin, end).
  void finish(int64_t begin, int64_t end, TileStat* stats) const {
    const Total total = total_of(stats);
    for (int64_t t = begin; t < end; ++t) finish_tile(t, total, stats);
    if (a_.plan.nontemporal) fence_nontemporal();
  }

  /// The row's own results, after both passes.
  void finish_row(const TileStat* stats) const {
    if (a_.op == Op::kArgmax) write_choice<T>(a_, row_.index, best_of_tiles(stats, tiles()));
    if (a_.op == Op::kHard && a_.index != nullptr) {
      const Best best = best_of_tiles(stats, tiles());
      const bool drawn = best.drawn() && math::valid_temperature(row_.tau);
      keep_choice(a_, row_.index, drawn ? best.index : 0);
    }
    if (a_.row_value == nullptr) return;
    if (a_.op == Op::kSoft) write_lse(a_, row_.index, combine(stats, tiles(), scale_), row_.tau);
    if (a_.op == Op::kBackward || a_.op == Op::kHardBackward) {
      double sum = 0;
      for (int64_t t = 0; t < tiles(); ++t) sum += stats[t].tau;
      static_cast<T*>(a_.row_value)[row_.index] = static_cast<T>(sum);
    }
  }

 private:
  /// The combined tiles. Computed once per call, not per tile: there can be millions.
  struct Total {
    RowSum<T> sum = {};  // of weights
    Best best;           // hard samples
    T dot = 0;           // of y and grad
  };

  /// Classes that a tile writes, [first, last), and what they are made of: y itself, or weights,
  /// times `factor` below `end`, times the next tile's from there on.
  struct Written {
    int64_t first, end, last;
    const T* values;
    Factor<T> factor, next;
  };

  int64_t tiles() const { return tiles_of(row_.classes); }
  int64_t end_of(int64_t t) const { return min64((t + 1) * kTile, row_.classes); }
  /// Tiles [begin, end).
  Group part(int64_t begin, int64_t end) const {
    return classes_of(row_, begin * kTile, end_of(end - 1) - begin * kTile);
  }
  Strided output_from(int64_t k) const { return part_of(row_.output, 0, k); }

  /// `result`: the whole row's.
  void clear_tiles(int64_t begin, int64_t end, const Strided& result) const {
    clear_matrix(part_of(result, 0, begin * kTile), 1, end_of(end - 1) - begin * kTile,
                 a_.plan.nontemporal);
    if (a_.plan.nontemporal) fence_nontemporal();
  }

  /// The first pass of soft tiles, and the zeros of the one-hot beside them by deferred stores.
  void reduce_among_zeros(int64_t begin, int64_t end, TileStat* stats) {
    if (row_.one_hot.class_step != 1 || !a_.plan.nontemporal) {
      reduce_tiles(begin, end, stats);
      return clear_tiles(begin, end, row_.one_hot);
    }
    const Group tiles = part(begin, end);
    const int64_t size = element_size(tiles.one_hot.type);
    NontemporalZeros zeros(static_cast<char*>(tiles.one_hot.data), tiles.classes * size, size);
    row_.deferred = zeros.deferred();
    reduce_tiles(begin, end, stats);
    zeros.finish();
    fence_nontemporal();
  }

  void reduce_tiles(int64_t begin, int64_t end, TileStat* stats) const {
    for (int64_t t = begin; t < end; ++t) reduce_tile(t, stats[t]);
  }

  void reduce_tile(int64_t t, TileStat& stat) const {
    const Group tile = part(t, t + 1);
    switch (a_.op) {
      case Op::kSoft:
      case Op::kHardSoft:
      case Op::kHardBackward:
        return reduce_weights(tile, stat);
      case Op::kBackward:
        return reduce_gradient(tile, values_of(tile, tile.input, scratch_), stat);
      case Op::kHard:
      case Op::kArgmax: {
        Best best;
        search_tile(a_, tile, a_.op == Op::kArgmax && scales(a_), best, scratch_);
        if (a_.op == Op::kHard) keep_logits(a_, tile);
        stat.max = best.score, stat.index = best.index;
        return;
      }
      case Op::kNoise:
        return;
    }
  }

  /// Weights are computed where they are stored, unless reads would run past them.
  void reduce_weights(const Group& tile, TileStat& stat) const {
    const int64_t begin = tile.begin, count = tile.classes;
    const bool exact = kVectorized<T> && tile.words_along_classes() && count > kShortRow;
    const bool in_place = weights_ != nullptr && (count % kLanes == 0 || exact);
    T* values = in_place ? weights_ + begin : scratch_;
    const RowSum<T> sum = load_weights(tile, scale_, divided_, values);
    stat.max = sum.max, stat.sum = sum.sum, stat.index = begin + sum.top;
    if (weights_ != nullptr && !in_place) memcpy(weights_ + begin, values, count * sizeof(T));
    if (a_.op == Op::kHardBackward) reduce_gradient(tile, values, stat);
  }

  void reduce_gradient(const Group& tile, const T* values, TileStat& stat) const {
    alignas(64) T grad_buffer[kTile];
    stat.dot = dot_of(values, values_of(tile, tile.grad, grad_buffer), tile.classes);
  }

  Total total_of(const TileStat* stats) const {
    Total total;
    if (draws_soft(a_.op) || a_.op == Op::kHardBackward)
      total.sum = combine(stats, tiles(), scale_);
    if (a_.op == Op::kHardBackward) total.dot = total.sum.dot / total.sum.sum;
    if (a_.op == Op::kHard) total.best = best_of_tiles(stats, tiles());
    if (a_.op == Op::kHardSoft && total.sum.defined())
      total.best = {static_cast<double>(total.sum.max), total.sum.top};
    if (a_.op == Op::kBackward) {
      double dot = 0;
      for (int64_t t = 0; t < tiles(); ++t) dot += stats[t].dot;
      total.dot = static_cast<T>(dot);
    }
    return total;
  }

  void finish_tile(int64_t t, const Total& total, TileStat* stats) const {
    const Group tile = part(t, t + 1);
    switch (a_.op) {
      case Op::kHardSoft:
        mark_choice(tile, 0, total.best, tile.one_hot);
        [[fallthrough]];
      case Op::kSoft:
        return write_sample(written_by(tile, total, &stats[t]));
      case Op::kBackward:
      case Op::kHardBackward:
        return write_gradient(written_by(tile, total, &stats[t]), total.dot, stats[t]);
      case Op::kHard:
        return mark_choice(tile, 0, total.best, tile.output);
      case Op::kNoise:
        return noise_group(tile, scratch_);
      case Op::kArgmax:
        return;
    }
  }

  /// Weights that are stored nowhere are computed again, in scratch. `stats`: from the tile's on.
  Written written_by(const Group& tile, const Total& total, const TileStat* stats) const {
    const int64_t begin = tile.begin, end = begin + tile.classes;
    Written to = {begin, end, end, scratch_, {}, {}};
    if (by_lines_) to.first = next_line(begin), to.last = next_line(end);
    if (a_.op == Op::kBackward) {
      to.values = operand_values(row_.input, to, scratch_);
      return to;
    }
    if (weights_ != nullptr)
      to.values = weights_ + to.first;
    else
      load_weights(tile, scale_, divided_, scratch_);
    to.factor = tile_factor(stats[0], total.sum, scale_, divided_);
    if (to.last > end) to.next = tile_factor(stats[1], total.sum, scale_, divided_);
    return to;
  }

  const T* operand_values(const Strided& operand, const Written& w, T* buffer) const {
    return values_of(part_of(operand, 0, w.first), 1, w.last - w.first, buffer);
  }

  /// Offset of class k of the output in its cache line, in elements.
  int64_t offset_in_line(int64_t k) const {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(output_from(k).data) % kLine) /
           element_size(row_.output.type);
  }

  /// The first class from a tile's end on with which a line begins, or the row ends. Where tiles
  /// end within lines, a line belongs to the tile that it begins in: written twice, it would be
  /// read back.
  int64_t next_line(int64_t end) const {
    const int64_t misaligned = offset_in_line(end);
    if (end == 0 || misaligned == 0) return end;
    return min64(row_.classes, end - misaligned + kLine / element_size(row_.output.type));
  }

  /// Probabilities of classes [first, w.last), in scratch.
  void load_probabilities(const Written& w, int64_t first) const {
    int64_t k = first;
    for (; k < w.end; ++k) scratch_[k - first] = w.factor.of(w.values[k - w.first]);
    for (; k < w.last; ++k) scratch_[k - first] = w.next.of(w.values[k - w.first]);
  }

  void write_sample(const Written& w) const {
    const Strided output = output_from(w.first);
    if (w.values == output.data)
      return scale_row(static_cast<T*>(output.data), w.last - w.first, w.factor);
    const int64_t shared = w.last > w.end ? w.end - offset_in_line(w.end) : w.end;
    if (w.first < shared)
      store_scaled(w.values, shared - w.first, w.factor, output, a_.plan.nontemporal);
    if (shared >= w.last) return;
    load_probabilities(w, shared);
    store_scaled(scratch_, w.last - shared, Factor<T>{1}, output_from(shared), true);
  }

  /// `dot`: of y and grad over the whole row.
  void write_gradient(const Written& w, T dot, TileStat& stat) const {
    const int64_t count = w.last - w.first;
    const T inverse = math::inverse_temperature<T>(row_.tau);
    alignas(64) T grad_buffer[kTile + kLanes];
    const T* y = a_.op == Op::kBackward ? w.values : scratch_;
    if (a_.op == Op::kHardBackward) load_probabilities(w, w.first);
    const T* grad = operand_values(row_.grad, w, grad_buffer);
    const Strided output = output_from(w.first);
    if (a_.row_value == nullptr && output.class_step == 1)
      return store_gradients(y, grad, count, dot, inverse, output, a_.plan.nontemporal);
    stat.tau = differentiate(scratch_, y, grad, count, dot, inverse);
    store_matrix(scratch_, 1, count, output);
  }

  const PlannedParams& a_;
  Group row_;
  math::Exponent<T> scale_;
  /// Weights are quotients. Never in a backward: without the noise inside the exponential, the dot
  /// product of a row with one class left would be no more than nearly that class's gradient.
  bool divided_;
  T* scratch_;
  T* weights_;     // of the row between the passes: cached or in the output; null: nowhere
  bool by_lines_;  // whether a cache line belongs to the tile that it begins in
};

}  // namespace torch_gumbel::cpu::TG_ISA
