// SPDX-License-Identifier: Apache-2.0
// Neighbouring rows that are processed together, and their operands.
#pragma once

#include <initializer_list>

#include "../simd/convert.h"

namespace torch_gumbel::cpu::TG_ISA {

/// Cache lines to be stored between arithmetic, which leaves the memory bus idle. write(lines,
/// elements) stores as many as `elements` elements fill, if so many are pending.
struct DeferredStores {
  void (*write)(void* lines, int64_t elements) = nullptr;
  void* lines = nullptr;
};

/// Element (i, 0) of a matrix.
static inline double number_at(const Strided& matrix, int64_t i) {
  double number = 0;
  dispatch_dtype(part_of(matrix, i, 0), [&](const auto* data) { number = widen(*data); });
  return number;
}

/// The random words of a group: class k of row i has position first + i * row_step + k * class_step.
struct GroupWords {
  math::Key key;         // of the first row
  const uint64_t* keys;  // where each row has its own: the first one's; else null
  int64_t key_step;
  uint64_t first;
  int64_t row_step, class_step;

  math::Key key_of(int64_t i) const {
    return keys == nullptr ? key : math::Key{keys[i * key_step], keys[i * key_step + 1]};
  }
  uint64_t position(int64_t i, int64_t k) const {
    return first + static_cast<uint64_t>(i) * row_step + static_cast<uint64_t>(k) * class_step;
  }
};

/// Neighbouring rows, or some classes of them, and where they lie in every operand.
struct Group {
  int64_t index, rows;                   // the first row, and how many
  int64_t begin, classes;                // the first class, and how many, of
  int64_t row_classes;                   // the classes of a whole row
  Strided input, grad, output, one_hot;  // absent ones have no data
  Strided taus;                          // no data: all have `tau`, the first row's
  double tau;
  GroupWords words;
  DeferredStores deferred = {};

  double tau_of(int64_t i) const { return taus.data == nullptr ? tau : number_at(taus, i); }
  /// Whether the words of a row are consecutive.
  bool words_along_classes() const { return words.class_step == 1 || row_classes == 1; }
  bool uniform_tau() const { return taus.data == nullptr; }
  bool uniform_key() const { return words.keys == nullptr; }
};

/// Rows [index, index + count), which share all but the innermost row index.
static inline Group group_at(const KernelParams& a, int64_t index, int64_t count) {
  const Row first = row_at(a.rows, index);
  const auto step = [&](Operand operand) -> int64_t {
    return a.rows.dims == 0 ? 0 : a.rows.stride[static_cast<int>(operand)][a.rows.dims - 1];
  };
  const auto matrix = [&](const void* data, DType type, Operand operand) -> Strided {
    if (data == nullptr) return {nullptr, type, 0, 0};
    auto* bytes = static_cast<char*>(const_cast<void*>(data));
    return {bytes + first[operand] * element_size(type), type, step(operand), a.rows.step(operand)};
  };
  const Strided taus = matrix(a.tau, a.tau_type, Operand::kTau);
  const bool many_taus = count > 1 && taus.row_step != 0;
  const bool many_keys = a.key != nullptr && count > 1 && step(Operand::kKey) != 0;
  return {.index = index,
          .rows = count,
          .begin = 0,
          .classes = a.rows.classes,
          .row_classes = a.rows.classes,
          .input = matrix(a.input, a.input_type, Operand::kInput),
          .grad = matrix(a.grad, a.grad_type, Operand::kGrad),
          .output = matrix(a.output, a.output_type, Operand::kOutput),
          .one_hot = matrix(a.one_hot, a.output_type, Operand::kOutput),
          .taus = many_taus ? taus : Strided{},
          .tau = taus.data == nullptr ? a.host_tau : number_at(taus, 0),
          .words = {key_of(a, first), many_keys ? a.key + first[Operand::kKey] : nullptr,
                    step(Operand::kKey), static_cast<uint64_t>(first[Operand::kWord]),
                    step(Operand::kWord), a.rows.step(Operand::kWord)}};
}

/// Cuts rows [begin, end) into groups of at most `limit` rows, none across the innermost row
/// dimension.
template <typename F>
static inline void for_each_group(const KernelParams& a, int64_t begin, int64_t end, int64_t limit,
                                  F&& f) {
  const int64_t inner = a.rows.dims > 0 ? a.rows.size[a.rows.dims - 1] : 1;
  for (int64_t index = begin; index < end;) {
    const int64_t here = min64(min64(limit, inner - index % inner), end - index);
    f(group_at(a, index, here));
    index += here;
  }
}

/// Rows [first, first + rows) of a group.
static inline Group rows_of(const Group& group, int64_t first, int64_t rows) {
  Group part = group;
  part.index += first, part.rows = rows;
  for (Strided* operand : {&part.input, &part.grad, &part.output, &part.one_hot})
    *operand = part_of(*operand, first, 0);
  part.tau = group.tau_of(first);
  part.taus = rows == 1 || group.uniform_tau() ? Strided{} : part_of(group.taus, first, 0);
  part.words.key = group.words.key_of(first);
  part.words.keys =
      rows == 1 || group.uniform_key() ? nullptr : group.words.keys + first * group.words.key_step;
  part.words.first = group.words.position(first, 0);
  return part;
}

/// Classes [begin, begin + classes) of a group.
static inline Group classes_of(const Group& group, int64_t begin, int64_t classes) {
  Group part = group;
  part.begin += begin, part.classes = classes;
  for (Strided* operand : {&part.input, &part.grad, &part.output, &part.one_hot})
    *operand = part_of(*operand, 0, begin);
  part.words.first = group.words.position(0, begin);
  return part;
}

/// The values of a matrix, [rows][classes]: in place when nothing needs converting, else copied to
/// `buffer`.
template <typename T>
static inline const T* values_of(const Strided& from, int64_t rows, int64_t classes, T* buffer) {
  if (const T* values = packed_values<T>(from, rows, classes)) return values;
  load_matrix(from, rows, classes, buffer);
  return buffer;
}

/// The same of a group's operand.
template <typename T>
static inline const T* values_of(const Group& group, const Strided& operand, T* buffer) {
  return values_of(operand, group.rows, group.classes, buffer);
}

/// Cuts a group into plan.rows_per_group at once: f(rows, index of the first one in the group).
template <typename F>
static inline void for_each_block(const PlannedParams& a, const Group& group, F&& f) {
  const int64_t most = a.plan.rows_per_group;
  if (group.rows <= most) return f(group, 0);
  for (int64_t first = 0; first < group.rows; first += most)
    f(rows_of(group, first, min64(most, group.rows - first)), first);
}

}  // namespace torch_gumbel::cpu::TG_ISA
