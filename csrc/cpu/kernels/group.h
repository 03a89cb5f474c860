// SPDX-License-Identifier: Apache-2.0
// Neighbouring rows that are processed together, and their operands.
#pragma once

#include "../simd/convert.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Cache lines to be stored between arithmetic, which leaves the memory bus idle. write(lines,
/// elements) stores as many as `elements` elements fill, if so many are pending.
struct DeferredStores {
  void (*write)(void* lines, int64_t elements) = nullptr;
  void* lines = nullptr;
};

/// Neighbouring rows: row i lies i * step[operand] beyond `first` in each operand.
struct Group {
  int64_t index;  // of the first row
  int64_t rows;
  Row first;
  int64_t step[kOperands];
  DeferredStores deferred = {};

  int64_t step_of(Operand operand) const { return step[static_cast<int>(operand)]; }
};

/// Rows [index, index + count), which share all but the innermost row index.
static inline Group group_at(const Rows& rows, int64_t index, int64_t count) {
  Group group = {index, count, row_at(rows, index), {}};
  for (int operand = 0; operand < kOperands; ++operand)
    group.step[operand] = rows.dims > 0 ? rows.stride[operand][rows.dims - 1] : 0;
  return group;
}

/// Cuts rows [begin, end) into groups of at most `limit` rows, none across the innermost row
/// dimension.
template <typename F>
static inline void for_each_group(const Rows& rows, int64_t begin, int64_t end, int64_t limit,
                                  F&& f) {
  const int64_t inner = rows.dims > 0 ? rows.size[rows.dims - 1] : 1;
  for (int64_t index = begin; index < end;) {
    const int64_t here = min64(min64(limit, inner - index % inner), end - index);
    f(group_at(rows, index, here));
    index += here;
  }
}

static inline Row row_of(const Group& group, int64_t i) {
  Row row = group.first;
  for (int operand = 0; operand < kOperands; ++operand)
    row.offset[operand] += i * group.step[operand];
  return row;
}

/// Classes from `class_begin` on of a group's rows in an operand that lies at `data`.
static inline Strided matrix_at(const void* data, DType type, const Rows& rows, const Group& group,
                                Operand operand, int64_t class_begin) {
  const int64_t class_step = rows.step(operand);
  const int64_t offset = group.first[operand] + class_begin * class_step;
  return {static_cast<const char*>(data) + offset * element_size(type), type,
          group.step_of(operand), class_step};
}

static inline Strided operand_matrix(const PlannedParams& a, const Group& group, Operand operand,
                                     int64_t class_begin) {
  const void* data = operand == Operand::kInput  ? a.input
                     : operand == Operand::kGrad ? a.grad
                                                 : a.output;
  const DType type = operand == Operand::kInput  ? a.input_type
                     : operand == Operand::kGrad ? a.grad_type
                                                 : a.output_type;
  return matrix_at(data, type, a.rows, group, operand, class_begin);
}

/// The same of a result that has the output's type and strides.
static inline Strided result_matrix(const PlannedParams& a, const Group& group, const void* result,
                                    int64_t class_begin) {
  return matrix_at(result, a.output_type, a.rows, group, Operand::kOutput, class_begin);
}

/// The values of a matrix, [rows][classes]: in place when nothing needs converting, else copied to
/// `buffer`.
template <typename T>
static inline const T* values_of(const Strided& from, int64_t rows, int64_t classes, T* buffer) {
  if (const T* values = packed_values<T>(from, rows, classes)) return values;
  load_matrix(from, rows, classes, buffer);
  return buffer;
}

static inline Group single_row(const Group& group, int64_t i) {
  Group row = group;
  row.index += i;
  row.rows = 1;
  row.first = row_of(group, i);
  return row;
}

/// Cuts a group into plan.rows_per_group at once: f(rows, index of the first one
/// in the group).
template <typename F>
static inline void for_each_block(const PlannedParams& a, const Group& group, F&& f) {
  const int64_t most = a.plan.rows_per_group;
  if (group.rows <= most) return f(group, 0);
  for (int64_t first = 0; first < group.rows; first += most) {
    Group block = single_row(group, first);
    block.rows = min64(most, group.rows - first);
    f(block, first);
  }
}

static inline double tau_at(const PlannedParams& a, const Row& row) {
  if (a.tau == nullptr) return a.host_tau;
  const int64_t at = row[Operand::kTau];
  double tau = 0;
  dispatch_dtype(a.tau_type, a.tau, [&](auto* data) { tau = widen(data[at]); });
  return tau;
}

/// Whether all rows share one temperature.
static inline bool uniform_tau(const PlannedParams& a, const Group& group) {
  return a.tau == nullptr || group.rows == 1 || group.step_of(Operand::kTau) == 0;
}

static inline bool uniform_key(const PlannedParams& a, const Group& group) {
  return a.key == nullptr || group.rows == 1 || group.step_of(Operand::kKey) == 0;
}

}  // namespace torch_gumbel::cpu::TG_ISA
