// SPDX-License-Identifier: Apache-2.0
// The kernel table of one instruction set: which function does which op, for short rows and for
// long ones.
#include <type_traits>

#include "kernels/kl.h"
#include "kernels/spatial_argmax.h"
#include "kernels/spatial_backward.h"
#include "kernels/spatial_softmax.h"

#define TG_TEXT_OF(name) #name
#define TG_TEXT(name) TG_TEXT_OF(name)
#define TG_TABLE_OF(isa) kernels_##isa
#define TG_TABLE(isa) TG_TABLE_OF(isa)

namespace torch_gumbel::cpu {
namespace TG_ISA {
namespace {

template <typename F>
void dispatch_opmath_type(const PlannedParams& a, F&& f) {
  if (a.plan.opmath == DType::kFloat64)
    f(double{});
  else
    f(float{});
}

template <typename T>
void noise_group(const PlannedParams& a, const Group& group, T* scores) {
  memset(scores, 0, group.rows * a.rows.classes * sizeof(T));
  apply_group_noise<AddNoise>(a, group, 0, a.rows.classes, scores, scores);
  store_matrix(scores, group.rows, a.rows.classes, operand_matrix(a, group, Operand::kOutput, 0));
}

template <typename T>
void run_spatial(const PlannedParams& a, const Group& group, T* scratch) {
  switch (a.op) {
    case Op::kSoft:
    case Op::kHardSoft:
      return soft_spatial(a, group, scratch);
    case Op::kHard:
      return hard_spatial(a, group, scratch);
    case Op::kArgmax:
      return argmax_spatial(a, group, scratch);
    case Op::kBackward:
      return backward_spatial<T>(a, group);
    case Op::kHardBackward:
      return hard_backward_spatial(a, group, scratch);
    case Op::kNoise:
      return noise_spatial<T>(a, group);
  }
}

template <typename T>
void run_group(const PlannedParams& a, const Group& group, T* scratch, T* second) {
  switch (a.op) {
    case Op::kSoft:
    case Op::kHardSoft:
      return soft_group(a, group, scratch);
    case Op::kHard:
      return hard_group(a, group, scratch);
    case Op::kArgmax:
      return argmax_group(a, group, scratch);
    case Op::kBackward:
      return backward_group(a, group, scratch, second);
    case Op::kHardBackward:
      return hard_backward_group(a, group, scratch, second);
    case Op::kNoise:
      return noise_group(a, group, scratch);
  }
}

template <typename T>
void reduce_tile(const PlannedParams& a, const Group& row, int64_t t, TileStat& stat, T* scratch,
                 void* weight_cache) {
  const int64_t begin = t * kTile, count = min64(kTile, a.rows.classes - begin);
  switch (a.op) {
    case Op::kSoft:
    case Op::kHardSoft:
      return soft_reduce_tile(a, row, begin, count, stat, divides<T>(a, row), scratch,
                              weight_cache);
    case Op::kBackward:
      return backward_reduce_tile(a, row, begin, count, stat, scratch);
    case Op::kHardBackward:
      return hard_backward_reduce_tile(a, row, begin, count, stat, scratch, weight_cache);
    case Op::kHard:
    case Op::kArgmax: {
      const Best best = search_tiles(a, row, a.op == Op::kArgmax && scales(a), t, t + 1, scratch);
      stat.max = best.score;
      stat.index = best.index;
      return;
    }
    case Op::kNoise:
      return;
  }
}

inline Best best_of_tiles(const TileStat* stats, int64_t tiles) {
  Best best;
  for (int64_t t = 0; t < tiles; ++t) merge(best, stats[t]);
  return best;
}

/// The combined tiles of a long row. Computed once per call, not per tile: there can be millions.
template <typename T>
struct RowTotal {
  RowSum<T> sum = {};  // soft, hard backward
  Best best;           // hard samples
  T dot = 0;           // backward from y
};

template <typename T>
RowTotal<T> total_of(const PlannedParams& a, const Group& row, const TileStat* stats) {
  const int64_t tiles = tiles_of(a.rows.classes);
  RowTotal<T> total;
  if (draws_soft(a.op) || a.op == Op::kHardBackward)
    total.sum = combine(stats, tiles, math::exponent_scale<T>(tau_at(a, row.first)));
  if (a.op == Op::kHard) total.best = best_of_tiles(stats, tiles);
  if (a.op == Op::kHardSoft && total.sum.defined())
    total.best = {static_cast<double>(total.sum.max), total.sum.top};
  if (a.op == Op::kBackward) {
    double dot = 0;
    for (int64_t t = 0; t < tiles; ++t) dot += stats[t].dot;
    total.dot = static_cast<T>(dot);
  }
  return total;
}

template <typename T>
void finish_tile(const PlannedParams& a, const Group& row, int64_t t, const RowTotal<T>& total,
                 TileStat* stats, T* scratch, void* weight_cache) {
  const int64_t begin = t * kTile, count = min64(kTile, a.rows.classes - begin);
  const auto factor = [&](int64_t tile) {
    return tile_factor(stats[tile], total.sum, math::exponent_scale<T>(tau_at(a, row.first)),
                       draws_soft(a.op) && divides<T>(a, row));
  };
  const int64_t next = begin + count < a.rows.classes ? t + 1 : t;
  switch (a.op) {
    case Op::kHardSoft:
      mark_choice(a, row, 0, begin, count, total.best, a.one_hot);
      [[fallthrough]];
    case Op::kSoft:
      return soft_finish_tile(a, row, begin, count, factor(t), factor(next), scratch, weight_cache);
    case Op::kHardBackward:
      return hard_backward_finish_tile(a, row, begin, count, factor(t), factor(next),
                                       total.sum.dot / total.sum.sum, stats[t], scratch,
                                       weight_cache);
    case Op::kBackward:
      return backward_finish_tile(a, row, begin, count, total.dot, stats[t], scratch);
    case Op::kHard:
      return mark_choice(a, row, 0, begin, count, total.best, a.output);
    case Op::kNoise:
      memset(scratch, 0, count * sizeof(T));
      apply_group_noise<AddNoise>(a, row, begin, count, scratch, scratch);
      return store_matrix(scratch, 1, count, operand_matrix(a, row, Operand::kOutput, begin));
    case Op::kArgmax:
      return;
  }
}

Group group_of_row(const Rows& rows, int64_t row) {
  Group group = {};
  for_each_group(rows, row, row + 1, 1, [&](const Group& found) { group = found; });
  return group;
}

void run_rows(const PlannedParams& a, int64_t begin, int64_t end, void* scratch) {
  dispatch_opmath_type(a, [&](auto zero) {
    using T = decltype(zero);
    auto* first = static_cast<T*>(scratch);
    // The second scratch, for gradients that need converting, follows the first.
    for_each_group(a.rows, begin, end, a.plan.rows_per_call, [&](const Group& group) {
      if (a.plan.path == Path::kSpatial) return run_spatial(a, group, first);
      run_group(a, group, first, first + group.rows * a.rows.classes + kScratchSlack);
    });
    if (a.plan.nontemporal) fence_nontemporal();
  });
}

/// Zeros of a hard row, in one run. Of threads that share a row, every other one begins with them,
/// so that not all load the memory bus at once.
void clear_tiles(const PlannedParams& a, const Group& row, int64_t begin, int64_t end,
                 void* result) {
  const int64_t first = begin * kTile;
  clear_output(a, row, first, min64(end * kTile, a.rows.classes) - first, result);
  if (a.plan.nontemporal) fence_nontemporal();
}

/// Calls f(row) for a row whose one-hot's zeros, in tiles [begin, end), are stored by deferred
/// stores.
template <typename F>
void with_deferred_zeros(const PlannedParams& a, Group row, int64_t begin, int64_t end, F&& f) {
  const int64_t first = begin * kTile, count = min64(end * kTile, a.rows.classes) - first;
  const Strided to = result_matrix(a, row, a.one_hot, first);
  if (to.class_step != 1 || !a.plan.nontemporal) {
    f(row);
    return clear_tiles(a, row, begin, end, a.one_hot);
  }
  const int64_t size = element_size(to.type);
  NontemporalZeros zeros(static_cast<char*>(const_cast<void*>(to.data)), count * size, size);
  row.deferred = zeros.deferred();
  f(row);
  zeros.finish();
  fence_nontemporal();
}

void reduce_tiles(const PlannedParams& a, int64_t row, int64_t begin, int64_t end, TileStat* stats,
                  void* scratch, void* weight_cache) {
  dispatch_opmath_type(a, [&](auto zero) {
    const Group group = group_of_row(a.rows, row);
    const auto reduce = [&](const Group& of) {
      for (int64_t t = begin; t < end; ++t)
        reduce_tile(a, of, t, stats[t], static_cast<decltype(zero)*>(scratch), weight_cache);
    };
    if (a.op == Op::kHardSoft) return with_deferred_zeros(a, group, begin, end, reduce);
    const bool zeros_first = begin / (end - begin) % 2 == 1;
    if (a.op == Op::kHard && zeros_first) clear_tiles(a, group, begin, end, a.output);
    reduce(group);
    if (a.op == Op::kHard && !zeros_first) clear_tiles(a, group, begin, end, a.output);
  });
}

void finish_tiles(const PlannedParams& a, int64_t row, int64_t begin, int64_t end, TileStat* stats,
                  void* scratch, void* weight_cache) {
  dispatch_opmath_type(a, [&](auto zero) {
    using T = decltype(zero);
    const Group group = group_of_row(a.rows, row);
    const auto total = total_of<T>(a, group, stats);
    for (int64_t t = begin; t < end; ++t)
      finish_tile(a, group, t, total, stats, static_cast<T*>(scratch), weight_cache);
    if (a.plan.nontemporal) fence_nontemporal();
  });
}

void finish_row(const PlannedParams& a, int64_t row, const TileStat* stats) {
  dispatch_opmath_type(a, [&](auto zero) {
    using T = decltype(zero);
    const int64_t tiles = tiles_of(a.rows.classes);
    if (a.op == Op::kArgmax) write_choice<T>(a, row, best_of_tiles(stats, tiles));
    if (a.op == Op::kSoft && a.row_value != nullptr) {
      const double tau = tau_at(a, group_of_row(a.rows, row).first);
      write_lse(a, row, combine(stats, tiles, math::exponent_scale<T>(tau)), tau);
    }
    if ((a.op == Op::kBackward || a.op == Op::kHardBackward) && a.row_value != nullptr) {
      double sum = 0;
      for (int64_t t = 0; t < tiles; ++t) sum += stats[t].tau;
      static_cast<T*>(a.row_value)[row] = static_cast<T>(sum);
    }
  });
}

void kl(const KlParams& a, int64_t begin, int64_t end, void* scratch) {
  a.type == DType::kFloat64 ? kl_forward(a, begin, end, static_cast<double*>(scratch))
                            : kl_forward(a, begin, end, static_cast<float*>(scratch));
}

void kl_gradient(const KlParams& a, int64_t begin, int64_t end, void* scratch) {
  a.type == DType::kFloat64 ? kl_backward(a, begin, end, static_cast<double*>(scratch))
                            : kl_backward(a, begin, end, static_cast<float*>(scratch));
}

}  // namespace
}  // namespace TG_ISA

extern const Kernels TG_TABLE(TG_ISA);
const Kernels TG_TABLE(TG_ISA) = {TG_TEXT(TG_ISA),      TG_ISA::run_rows,   TG_ISA::reduce_tiles,
                                  TG_ISA::finish_tiles, TG_ISA::finish_row, TG_ISA::kl,
                                  TG_ISA::kl_gradient};

}  // namespace torch_gumbel::cpu
