// SPDX-License-Identifier: Apache-2.0
// Filtered draws and filtered logits, row by row.
#pragma once

#include "filter_edge.h"
#include "listed_draw.h"

namespace torch_gumbel::cpu::TG_ISA {

/// A thread's memory, of filter_scratch_bytes.
template <typename T>
struct FilterScratch {
  T* row;
  List<T> list, spare[2];
  T* groups;

  FilterScratch(void* memory, int64_t classes) {
    const int64_t n = filter_elements(classes);
    auto* values = static_cast<T*>(memory);
    auto* words = reinterpret_cast<uint32_t*>(values + 4 * n);
    row = values;
    list = {values + n, words, words + n};
    spare[0] = {values + 2 * n, words + 2 * n, words + 3 * n};
    spare[1] = {values + 3 * n, words + 4 * n, words + 5 * n};
    groups = reinterpret_cast<T*>(words + 6 * n);
  }
};

/// Classes [begin, begin + count) of a row, those that are not kept as -inf.
template <typename T>
static void mask_tile(const T* x, int64_t begin, int64_t count, const Edge<T>& edge, T* to) {
  constexpr T kClosed = -static_cast<T>(__builtin_inf());
  int64_t split = edge.index + 1 - begin;
  split = split < 0 ? 0 : min64(split, count);
  for_each_vec<T>(0, split, [&](auto at) TG_INLINE {
    const auto values = at.load(x + begin);
    at.store(choose(reaches(values, edge.value), values, kClosed), to);
  });
  for_each_vec<T>(0, count - split, [&](auto at) TG_INLINE {
    const auto values = at.load(x + begin + split);
    at.store(choose(exceeds(values, edge.value), values, kClosed), to + split);
  });
}

/// One row of a call, and those after it that repeat its logits and filters: draws with replacement.
template <typename T>
class FilteredRow {
 public:
  FilteredRow(const FilterParams& a, int64_t index, int64_t end, const FilterScratch<T>& scratch)
      : a_(a),
        group_(group_at(a, index, 1)),
        scratch_(scratch),
        filter_{group_.tau, a.top_k.at(index), a.top_p.at(index), a.min_p.at(index)} {
    while (a.output == nullptr && index + repeats_ < end && is_repeated_at(index + repeats_))
      ++repeats_;
  }

  int64_t repeats() const { return repeats_; }

  void run() {
    const T* x = packed_values<T>(group_.input, 1, group_.classes);
    const int64_t groups = (group_.classes + kGroupSpan - 1) / kGroupSpan * kLanes;
    const T max = x != nullptr ? scan_row(x, group_.classes, scratch_.groups) : convert_and_scan();
    if (x == nullptr) x = scratch_.row;
    const auto infinity = static_cast<T>(__builtin_inf());
    if (!(max < infinity && max > -infinity) || !filter_.valid()) return leave_undefined();
    const FilterRow<T> row = {x,      group_.classes,
                              max,    scratch_.groups,
                              groups, {max, math::exponent_scale<T>(filter_.temperature)}};
    if (math::without_noise(filter_.temperature)) return choose_greedily(row);
    RowSelection<T> selection(row, filter_, scratch_.list, scratch_.spare);
    if (a_.output != nullptr) return write_logits(row, selection.edge());
    LawSums<T> law(row.scale, filter_.temperature);
    for (int64_t i = 0, first = group_.index; i < repeats_; ++i) {
      if (i > 0) group_ = group_at(a_, first + i, 1);
      draw(row, selection, law, /*sums=*/i == 0);
    }
  }

 private:
  bool is_repeated_at(int64_t index) const {
    const Group other = group_at(a_, index, 1);
    return other.input.data == group_.input.data && other.tau == filter_.temperature &&
           a_.top_k.at(index) == filter_.top_k && a_.top_p.at(index) == filter_.top_p &&
           a_.min_p.at(index) == filter_.min_p;
  }

  /// To scratch, and scanned while it is in the first cache.
  T convert_and_scan() {
    constexpr int64_t kPart = 8 * kGroupSpan;
    T max = -static_cast<T>(__builtin_inf());
    for (int64_t k = 0; k < group_.classes; k += kPart) {
      const int64_t count = min64(kPart, group_.classes - k);
      load_matrix(part_of(group_.input, 0, k), 1, count, scratch_.row + k);
      const T here = scan_row(scratch_.row + k, count, scratch_.groups + k / kFilterGroup);
      max = here > max || here != here ? here : max;
      if (max != max) break;
    }
    return max;
  }

  void write(int64_t choice, double log_prob, double entropy) {
    a_.index[group_.index] = choice;
    if (a_.row_value != nullptr)
      static_cast<T*>(a_.row_value)[group_.index] = static_cast<T>(log_prob);
    if (a_.entropy != nullptr) static_cast<T*>(a_.entropy)[group_.index] = static_cast<T>(entropy);
  }

  /// make(k, count, to): classes [k, k + count) of the output.
  template <typename Make>
  void write_tiles(Make&& make) {
    alignas(64) T tile[kTile + kLanes];
    for (int64_t k = 0; k < group_.classes; k += kTile) {
      const int64_t count = min64(kTile, group_.classes - k);
      make(k, count, tile);
      store_matrix(tile, 1, count, part_of(group_.output, 0, k));
    }
  }

  void write_all(int64_t choice, double law) {
    for (int64_t i = 0, first = group_.index; i < repeats_; ++i) {
      group_.index = first + i;
      write(choice, law, law);
    }
  }

  void leave_undefined() {
    constexpr double kNan = __builtin_nan("");
    if (a_.output == nullptr) return write_all(0, kNan);
    write_tiles([&](int64_t, int64_t count, T* to) { fill_over(to, count, static_cast<T>(kNan)); });
  }

  void choose_greedily(const FilterRow<T>& row) {
    const int64_t choice = first_at_least(row.x, row.count, row.max);
    if (a_.output == nullptr) return write_all(choice, 0);
    write_tiles([&](int64_t k, int64_t count, T* to) {
      fill_over(to, count, -static_cast<T>(__builtin_inf()));
      if (choice >= k && choice < k + count) to[choice - k] = row.max;
    });
  }

  void write_logits(const FilterRow<T>& row, const Edge<T>& edge) {
    const T inverse = math::sampling_inverse_of<T>(filter_.temperature);
    write_tiles([&](int64_t k, int64_t count, T* to) {
      mask_tile(row.x, k, count, edge, to);
      scale_logits(to, count, inverse, to);
    });
  }

  /// `sums`: make those of the law.
  void draw(const FilterRow<T>& row, RowSelection<T>& selection, LawSums<T>& law, bool sums) {
    const T inverse = math::sampling_inverse_of<T>(filter_.temperature);
    const bool wants_law = a_.row_value != nullptr || a_.entropy != nullptr;
    sums = sums && wants_law;
    const bool few = selection.edge().kept * kFewShare < row.count;
    int64_t choice = 0;
    if (few || !group_.words_along_classes()) {
      const List<T>& list = selection.list();
      for (int64_t k = 0; sums && k < list.count; k += kTile)
        law.take(list.x + k, min64(kTile, list.count - k));
      choice = draw_listed(list, group_.words, inverse, scratch_.spare);
    } else {
      choice = draw_masked(row, selection.edge(), inverse, sums ? &law : nullptr);
    }
    if (wants_law)
      write(choice, law.log_prob(row.x[choice]), law.entropy());
    else
      write(choice, 0, 0);
  }

  /// The choice of gumbel_argmax among the classes of a prefix.
  int64_t draw_masked(const FilterRow<T>& row, const Edge<T>& edge, T inverse, LawSums<T>* law) {
    alignas(64) T tile[kTile + kLanes];
    Best best;
    for (int64_t k = 0; k < row.count; k += kTile) {
      const int64_t count = min64(kTile, row.count - k);
      const Group part = classes_of(group_, k, count);
      mask_tile(row.x, k, count, edge, tile);
      if (law != nullptr) law->take(tile, count);
      scale_logits(tile, count, inverse, tile);
      if constexpr (std::is_same_v<T, float>) {
        prune_parts(tile, part, &best);
      } else {
        apply_group_noise<AddNoise>(part, tile, tile);
        const Best here = best_of_scores(tile, count, k);
        merge(best, {.max = here.score, .index = here.index});
      }
    }
    return best.index;
  }

  /// Among fewer of a row's classes than one in so many, only their own words are made: 1.7 ns each
  /// against .45 for each class of the row.
  static constexpr int64_t kFewShare = 4;

  const FilterParams& a_;
  Group group_;
  FilterScratch<T> scratch_;
  RowFilter filter_;
  int64_t repeats_ = 1;
};

template <typename T>
static void filter_rows(const FilterParams& a, int64_t begin, int64_t end, void* memory) {
  const FilterScratch<T> scratch(memory, a.rows.classes);
  for (int64_t row = begin; row < end;) {
    FilteredRow<T> filtered(a, row, end, scratch);
    filtered.run();
    row += filtered.repeats();
  }
}

}  // namespace torch_gumbel::cpu::TG_ISA
