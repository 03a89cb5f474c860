// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <algorithm>

namespace torch_gumbel::cpu {
namespace {

constexpr int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

DType opmath_type(DType type) {
  return type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

bool is_backward(Op op) { return op == Op::kBackward || op == Op::kHardBackward; }

/// Whether neighbours' words are consecutive, and there are enough.
bool is_spatial(const KernelParams& a, const Plan& plan) {
  const Rows& rows = a.rows;
  if (plan.words_along_classes || rows.dims == 0) return false;
  const int last = rows.dims - 1;
  const auto step = [&](Operand operand) { return rows.stride[static_cast<int>(operand)][last]; };
  return rows.size[last] >= kMinSpatialRows && step(Operand::kWord) == 1 &&
         (a.key == nullptr || step(Operand::kKey) == 0);
}

Path path_of(Op op, const KernelParams& a, const Plan& plan) {
  if (is_spatial(a, plan)) return Path::kSpatial;
  const bool soft = draws_soft(op) && plan.words_along_classes;
  const int64_t classes = a.rows.classes;
  if (soft && plan.nontemporal && classes > kShortRow && classes <= kTile &&
      a.output_type == plan.opmath)
    return Path::kLines;
  return classes > (soft ? kTile : kLongRow) ? Path::kTiles : Path::kRows;
}

/// Enough to fill a tile, or, of spatial rows, equal parts of the innermost row dimension.
int64_t rows_per_group(const Rows& rows, const Plan& plan) {
  if (plan.words_along_classes) {
    const int64_t fit = rows.classes < kTile ? kTile / rows.classes : 1;
    return fit < 16 ? fit : fit / 16 * 16;  // 16 rows end with a cache line, and a block of words
  }
  const int64_t inner = rows.dims > 0 ? rows.size[rows.dims - 1] : 1;
  const int64_t most =
      std::clamp(kSpatialElements / rows.classes, kMinSpatialRows, kMaxSpatialRows);
  const int64_t equal = ceil_div(inner, ceil_div(inner, most));
  return ceil_div(equal, kMinSpatialRows) * kMinSpatialRows;
}

/// One group, or several, of which the last ends with a line if the first begins with one.
int64_t rows_per_call(const KernelParams& a, const Plan& plan) {
  if (plan.path != Path::kLines) return plan.rows_per_group;
  const int64_t classes = a.rows.classes, group = plan.rows_per_group;
  const int64_t together = whole_lines(classes, a.output_type) ? group : kGroupsToLine * group;
  return ceil_div(kElementsPerCall / classes, together) * together;
}

/// Whether threads share the tiles of each row: the busiest one then takes fewer. (3, 32000) on two
/// threads: 1.04 -> 0.72.
bool share_tiles(const KernelParams& a, int64_t threads) {
  const int64_t tiles = tiles_of(a.rows.classes);
  const int64_t per_row = std::min(threads, ceil_div(tiles, kTilesPerThread));
  return a.rows.count * ceil_div(tiles, per_row) < ceil_div(a.rows.count, threads) * tiles;
}

int64_t grain(const KernelParams& a, const Plan& plan) {
  if (plan.share_tiles) return kTilesPerThread;
  const int64_t most = plan.path == Path::kTiles
                           ? kTilesPerThread / tiles_of(a.rows.classes)
                           : kElementsPerThread / (plan.rows_per_call * a.rows.classes);
  return std::max<int64_t>(1, most);
}

/// Whether incoming gradients are read where they lie; otherwise a group's are copied to scratch.
bool grads_in_place(const KernelParams& a, DType opmath) {
  const int grad = static_cast<int>(Operand::kGrad);
  const Rows& rows = a.rows;
  const bool packed = rows.dims == 0 || rows.stride[grad][rows.dims - 1] == rows.classes;
  return a.grad_type == opmath && rows.class_stride[grad] == 1 && packed;
}

/// A group's values, and in a backward its incoming gradients where they must be copied. For rows
/// along the last dimension at most 64 KiB (128 KiB for float64 with gradients to copy); 1 MiB for
/// spatial rows, twice that for float64.
int64_t scratch_bytes(Op op, const KernelParams& a, const Plan& plan) {
  const int64_t classes = a.rows.classes, size = element_size(plan.opmath);
  if (plan.path == Path::kSpatial)  // weights, and four values for each tile
    return (std::min(classes, kLongRow) + 4 * tiles_of(classes)) * plan.rows_per_group * size;
  const int64_t elements = plan.path == Path::kTiles ? kTile : plan.rows_per_group * classes;
  const bool two = is_backward(op) && !grads_in_place(a, plan.opmath);
  return (std::min(elements, a.rows.count * classes) + kScratchSlack) * size * (two ? 2 : 1);
}

/// A row's unnormalised weights between the two passes. A gradient would overwrite those in the
/// output.
int64_t weight_cache_bytes(Op op, const KernelParams& a, const Plan& plan, int threads) {
  const bool weighted = draws_soft(op) || op == Op::kHardBackward;
  if (plan.path != Path::kTiles || !weighted || a.rows.classes > kMaxCachedClasses) return 0;
  const bool in_output = !plan.nontemporal || (draws_soft(op) && threads <= kFewThreads);
  if (plan.output_holds_weights && in_output) return 0;
  return (a.rows.classes + kScratchSlack) * element_size(plan.opmath);
}

void plan_computation(Op op, const KernelParams& a, Plan& plan) {
  const int64_t classes = a.rows.classes;
  const bool single = plan.opmath == DType::kFloat32;
  const bool chooses = op == Op::kHard || op == Op::kArgmax;
  const bool long_enough = plan.path == Path::kSpatial
                               ? classes >= kPruneSpatialFrom && classes <= kLongRow
                               : plan.words_along_classes && classes >= kPruneFrom;
  plan.prunes = chooses && single && long_enough;
  // Not of small rows, which some instruction sets transpose and others do not: their bits would
  // differ. Nor beside a one-hot, which is chosen by scores.
  plan.divides = single && classes > kMaxSmallRow && a.one_hot == nullptr;
  plan.short_rows = classes <= kShortRow;
  plan.holds_rows = classes <= kLongRow;
}

void plan_stores(const KernelParams& a, Plan& plan) {
  const int64_t classes = a.rows.classes, size = element_size(a.output_type);
  if (!whole_lines(classes, a.output_type)) {
    plan.stores_rows_at_once = plan.nontemporal;
    plan.stores_packed_rows_at_once = plan.nontemporal || classes * size < kFewLines * kLine;
  }
  plan.one_hots_in_lines = plan.nontemporal && size <= element_size(plan.opmath);
  plan.short_one_hots = plan.one_hots_in_lines && classes < kShortOneHot;
}

/// Nontemporal stores pay where other work comes between them: arithmetic, or the reads of a long
/// row.
void plan_gradients(Op op, const KernelParams& a, Plan& plan) {
  if (!is_backward(op)) return;
  const int64_t classes = a.rows.classes;
  const bool lines = whole_lines(classes, a.output_type), alone = a.row_value == nullptr;
  const bool works = op == Op::kHardBackward || (lines && classes >= kShortRow) || classes > kTile;
  plan.nontemporal_gradients = plan.nontemporal && works;
  const bool few_ends = lines || classes > kTile;
  plan.direct_gradients =
      alone && a.rows.step(Operand::kOutput) == 1 && (few_ends || !plan.nontemporal_gradients);
  const bool fills_line = classes * element_size(a.output_type) >= kLine;
  plan.gradients_of_weights = alone && classes <= kTile && (fills_line || plan.nontemporal);
}

}  // namespace

Plan make_plan(Op op, const KernelParams& a, int threads, int64_t nontemporal_bytes) {
  const Rows& rows = a.rows;
  const bool contiguous = rows.step(Operand::kOutput) == 1;
  Plan plan;
  plan.opmath = opmath_type(op == Op::kNoise ? a.output_type : a.input_type);
  plan.words_along_classes = rows.step(Operand::kWord) == 1 || rows.classes == 1;
  plan.nontemporal = rows.count * rows.classes * element_size(a.output_type) >= nontemporal_bytes;
  plan.path = path_of(op, a, plan);
  plan.rows_per_group = rows_per_group(rows, plan);
  plan.rows_per_call = rows_per_call(a, plan);
  plan.share_tiles = plan.path == Path::kTiles && share_tiles(a, threads);
  plan.grain = grain(a, plan);
  plan.output_holds_weights = contiguous && a.output_type == plan.opmath;
  plan.tiles_end_with_lines =
      plan.nontemporal && contiguous && (draws_soft(op) || a.row_value == nullptr);
  plan.scratch_bytes = scratch_bytes(op, a, plan);
  plan.weight_cache_bytes = weight_cache_bytes(op, a, plan, threads);
  plan_computation(op, a, plan);
  plan_stores(a, plan);
  plan_gradients(op, a, plan);
  return plan;
}

Plan make_kl_plan(const Rows& rows, DType type) {
  const int64_t classes = rows.classes, in_tile = std::min(classes, kTile);
  const bool along = rows.step(Operand::kInput) == 1;
  const int64_t fit = (along ? kTile : kKlSpatialElements) / in_tile;
  Plan plan;
  plan.opmath = opmath_type(type);
  plan.rows_per_group = along && classes > kTile ? 1 : std::clamp<int64_t>(fit, 1, kKlRows);
  plan.grain = std::max<int64_t>(1, kElementsPerThread / classes);
  // Two buffers, of values and of gradients.
  plan.scratch_bytes =
      2 * (plan.rows_per_group * in_tile + kScratchSlack) * element_size(plan.opmath);
  return plan;
}

Plan make_one_hot_plan(const KernelParams& a, int64_t nontemporal_bytes) {
  const int64_t classes = a.rows.classes;
  const bool along = a.rows.step(Operand::kInput) == 1;
  const int64_t fit = (along ? kTile : kKlSpatialElements) / classes;
  const int64_t least = along || classes > kKlSpatialElements ? 1 : kMinSpatialRows;
  Plan plan;
  plan.opmath = opmath_type(a.input_type);
  plan.words_along_classes = a.rows.step(Operand::kWord) == 1 || classes == 1;
  plan.nontemporal = a.rows.count * classes * element_size(a.output_type) >= nontemporal_bytes;
  plan.rows_per_group = std::clamp<int64_t>(fit, least, kTile);
  plan.rows_per_call = plan.rows_per_group;
  const bool lines =
      (whole_lines(classes, a.output_type) && classes >= kShortRow) || classes > kTile;
  const bool one_pass = a.estimator != Estimator::kGumbelRao;
  plan.direct_gradients = one_pass && a.row_value == nullptr &&
                          a.rows.step(Operand::kOutput) == 1 && (lines || !plan.nontemporal);
  const int64_t draws = a.estimator == Estimator::kGumbelRao ? a.draws : 1;
  plan.grain = std::max<int64_t>(1, kElementsPerThread / draws / (plan.rows_per_call * classes));
  const int64_t elements = std::min(plan.rows_per_group, a.rows.count) * classes + kScratchSlack;
  const int64_t line = kLine / element_size(plan.opmath);
  plan.scratch_bytes = kOneHotBuffers * ceil_div(elements, line) * line * element_size(plan.opmath);
  return plan;
}

}  // namespace torch_gumbel::cpu
