// SPDX-License-Identifier: Apache-2.0
#include "params.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <c10/util/SmallVector.h>
#include <c10/util/safe_numerics.h>

#include "keys.h"

namespace torch_gumbel::ops {
namespace {

using Strides = c10::SmallVector<int64_t, 8>;

/// Sizes of a tensor whose 0-d form counts as one row of one class.
Strides sizes_of(const at::Tensor& tensor) {
  if (tensor.dim() == 0) return {1};
  return Strides(tensor.sizes().begin(), tensor.sizes().end());
}

/// Strides of a tensor broadcast against `sizes` (aligned at the right).
Strides broadcast_strides(const char* who, const char* name, const at::Tensor& tensor,
                          const Strides& sizes) {
  Strides strides(sizes.size(), 0);
  const auto excess = static_cast<int64_t>(sizes.size()) - tensor.dim();
  TORCH_CHECK_VALUE(excess >= 0, who, ": ", name, " of shape ", tensor.sizes(),
                    " does not broadcast against ", at::IntArrayRef(sizes));
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    const bool same = tensor.size(i) == sizes[i + excess];
    TORCH_CHECK_VALUE(same || tensor.size(i) == 1, who, ": ", name, " of shape ", tensor.sizes(),
                      " does not broadcast against ", at::IntArrayRef(sizes));
    if (tensor.size(i) != 1) strides[i + excess] = tensor.stride(i);
  }
  return strides;
}

/// All operands' strides over the dimensions of the logits, before merging.
struct Layout {
  Strides sizes;
  Strides strides[kOperands];
  uint64_t first_word = 0;

  Strides& operator[](Operand operand) { return strides[static_cast<int>(operand)]; }
};

void check_same_shape(const char* who, const char* name, const at::Tensor& tensor,
                      const Strides& sizes) {
  TORCH_CHECK_VALUE(at::IntArrayRef(sizes_of(tensor)) == at::IntArrayRef(sizes), who, ": ", name,
                    " must have shape ", at::IntArrayRef(sizes), ", got ", tensor.sizes());
}

/// Word positions: row-major in full_shape, beginning at start, over the dimensions after the batch
/// of keys.
void lay_words(const char* who, const Operands& operands, int64_t batch, Layout& layout) {
  const auto rank = static_cast<int64_t>(layout.sizes.size());
  const auto local = at::IntArrayRef(layout.sizes).slice(batch);
  const auto full = operands.full_shape.value_or(local);
  const Strides origin(local.size(), 0);
  const auto start = operands.start.value_or(at::IntArrayRef(origin));
  TORCH_CHECK_VALUE(full.size() == local.size() && start.size() == local.size(), who,
                    ": full_shape and start must cover the ", local.size(),
                    " dimensions after the key's batch, got ", full, " and ", start);
  int64_t stride = 1;
  bool overflow = false;
  for (int64_t i = rank - 1; i >= batch; --i) {
    const int64_t j = i - batch;
    TORCH_CHECK_VALUE(start[j] >= 0 && local[j] >= 0 && start[j] <= full[j] - local[j], who,
                      ": the shard of shape ", local, " at ", start, " does not lie inside ", full);
    layout[Operand::kWord][i] = stride;
    layout.first_word += static_cast<uint64_t>(stride) * static_cast<uint64_t>(start[j]);
    overflow |= c10::mul_overflows(stride, std::max<int64_t>(full[j], 1), &stride);
  }
  TORCH_CHECK_VALUE(!overflow, who, ": full_shape ", full, " has more than 2^63 elements");
}

int64_t lay_key(const char* who, const Operands& operands, Layout& layout) {
  const auto& key = operands.key;
  const int64_t batch = key.dim() - 1;
  bool fits = batch <= operands.dim;
  for (int64_t i = 0; fits && i < batch; ++i) fits = key.size(i) == layout.sizes[i];
  TORCH_CHECK_VALUE(fits, who, ": key of shape ", key.sizes(), " does not fit logits of shape ",
                    at::IntArrayRef(layout.sizes), " with dim ", operands.dim);
  for (int64_t i = 0; i < batch; ++i) layout[Operand::kKey][i] = key.stride(i);
  return batch;
}

Layout lay_out(const char* who, const Operands& operands) {
  Layout layout;
  const auto& shaped = operands.input.defined() ? operands.input : operands.output;
  layout.sizes = sizes_of(shaped);
  const auto rank = static_cast<int64_t>(layout.sizes.size());
  TORCH_CHECK_VALUE(operands.dim >= 0 && operands.dim < rank, who, ": dim must be in [0, ", rank,
                    "), got ", operands.dim);
  for (auto& strides : layout.strides) strides.assign(rank, 0);
  const auto take = [&](Operand operand, const char* name, const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    check_same_shape(who, name, tensor, layout.sizes);
    if (tensor.dim() > 0) layout[operand].assign(tensor.strides().begin(), tensor.strides().end());
  };
  take(Operand::kInput, "input", operands.input);
  take(Operand::kGrad, "grad", operands.grad);
  take(Operand::kLogPrior, "log_prior", operands.log_prior);
  take(Operand::kOutput, "output", operands.output);
  if (operands.tau.defined()) {
    layout[Operand::kTau] = broadcast_strides(who, "tau", operands.tau, layout.sizes);
    const auto at_dim = operands.tau.dim() - (rank - operands.dim);
    TORCH_CHECK_VALUE(at_dim < 0 || operands.tau.size(at_dim) == 1, who,
                      ": tau must have size 1 at dim ", operands.dim, ", got shape ",
                      operands.tau.sizes());
  }
  // Without a key the positions still tell a kernel how rows lie to each other.
  const int64_t batch = operands.key.defined() ? lay_key(who, operands, layout) : 0;
  lay_words(who, operands, batch, layout);
  return layout;
}

/// Whether dimension `outer` continues dimension `inner` (already merged to `size`) in every
/// operand.
bool merges(Layout& layout, int64_t outer, const Rows& rows, int at) {
  for (int operand = 0; operand < kOperands; ++operand)
    if (layout.strides[operand][outer] != rows.stride[operand][at] * rows.size[at]) return false;
  return true;
}

/// Merges the row dimensions. False if more than kMaxRowDims are left.
bool merge_rows(Layout& layout, int64_t dim, Rows& rows) {
  rows = Rows{};
  rows.count = 1;
  rows.classes = layout.sizes[dim];
  rows.first_word = layout.first_word;
  for (int operand = 0; operand < kOperands; ++operand)
    rows.class_stride[operand] = layout.strides[operand][dim];
  // Built innermost first, then turned round.
  for (int64_t i = static_cast<int64_t>(layout.sizes.size()) - 1; i >= 0; --i) {
    if (i == dim || layout.sizes[i] == 1) continue;
    rows.count *= layout.sizes[i];
    if (rows.dims > 0 && merges(layout, i, rows, rows.dims - 1)) {
      rows.size[rows.dims - 1] *= layout.sizes[i];
      continue;
    }
    if (rows.dims == kMaxRowDims) return false;
    rows.size[rows.dims] = layout.sizes[i];
    for (int operand = 0; operand < kOperands; ++operand)
      rows.stride[operand][rows.dims] = layout.strides[operand][i];
    ++rows.dims;
  }
  for (int i = 0, j = rows.dims - 1; i < j; ++i, --j) {
    std::swap(rows.size[i], rows.size[j]);
    for (auto& strides : rows.stride) std::swap(strides[i], strides[j]);
  }
  return true;
}

/// Copies that make the row dimensions of every tensor merge. Only tensors of many dimensions in
/// odd orders need it.
Operands packed(const Operands& operands) {
  Operands copy = operands;
  if (copy.input.defined()) copy.input = copy.input.contiguous();
  if (copy.grad.defined()) copy.grad = copy.grad.contiguous();
  if (copy.log_prior.defined()) copy.log_prior = copy.log_prior.contiguous();
  if (copy.tau.defined() && copy.tau.dim() > 0) {
    auto sizes = sizes_of(operands.input);
    sizes[operands.dim] = 1;
    copy.tau = copy.tau.expand(sizes).contiguous();
  }
  return copy;
}

/// What must hold before any of them is read.
void check_tensors(const char* who, const Operands& operands, const at::Device& device) {
  const auto on = [&](const at::Tensor& tensor, bool small_on_cpu) {
    TORCH_CHECK_VALUE(
        !tensor.defined() || tensor.device() == device || (tensor.is_cpu() && small_on_cpu), who,
        ": wanted all tensors on ", device, ", got one on ", tensor.device());
  };
  on(operands.grad, false);
  on(operands.log_prior, false);
  if (operands.tau.defined()) {
    on(operands.tau, operands.tau.dim() == 0);
    TORCH_CHECK_TYPE(at::isFloatingType(operands.tau.scalar_type()), who,
                     ": tau must be floating point, got ", operands.tau.scalar_type());
  }
  if (!operands.key.defined()) return;
  on(operands.key, true);
  const auto type = operands.key.scalar_type();
  const bool format = (type == at::kUInt64 || type == at::kLong) && operands.key.dim() >= 1 &&
                      operands.key.size(-1) == 2;
  TORCH_CHECK_VALUE(format, who, ": key must be uint64 or int64 of shape [*batch, 2], got ", type,
                    " ", operands.key.sizes());
}

/// A small CPU operand next to a device's: read here when it is one value, copied when it is
/// several.
void place_scalars(const char* who, Operands& operands, const at::Device& device, KernelParams& a) {
  if (operands.tau.defined() && operands.tau.is_cpu() && operands.tau.dim() == 0) {
    if (operands.tau.scalar_type() == at::kDouble)
      a.host_tau = *operands.tau.const_data_ptr<double>();
    else
      a.host_tau = operands.tau.item<double>();
    operands.tau = at::Tensor();
  }
  if (operands.key.defined() && operands.key.is_cpu() && operands.key.dim() == 1) {
    const auto* words = static_cast<const uint64_t*>(operands.key.const_data_ptr());
    a.host_key = {words[0], words[operands.key.stride(0)]};
  } else if (operands.key.defined()) {
    check_copy(who, operands.key, device);
    operands.key = operands.key.to(device).contiguous();
  }
}

/// The rows of checked operands, which may become copies.
Rows lay_rows(const char* who, Operands& operands) {
  const auto& shaped = operands.input.defined() ? operands.input : operands.output;
  Rows rows;
  Layout layout = lay_out(who, operands);
  if (!merge_rows(layout, operands.dim, rows)) {
    operands = packed(operands);
    layout = lay_out(who, operands);
    TORCH_CHECK_VALUE(merge_rows(layout, operands.dim, rows), who, ": more than ", kMaxRowDims,
                      " dimensions of a sharded or batched tensor cannot be merged");
  }
  // On a CPU, spatial rows count their classes in 32 bits.
  const bool counts = rows.step(Operand::kWord) == 1 || !shaped.is_cpu();
  TORCH_CHECK_VALUE(counts || rows.classes < int64_t{1} << 31, who,
                    ": at most 2^31 - 1 classes where dim is not the last, got ", rows.classes);
  return rows;
}

}  // namespace

DType dtype_of(const char* who, const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kHalf:
      return DType::kFloat16;
    case at::kBFloat16:
      return DType::kBFloat16;
    default:
      TORCH_CHECK_TYPE(false, who, ": wanted a floating point tensor, got ", tensor.scalar_type());
  }
}

c10::SymDimVector rows_shape(const at::Tensor& like, int64_t dim) {
  TORCH_CHECK_VALUE(dim >= 0 && dim < std::max<int64_t>(like.dim(), 1), "dim must be in [0, ",
                    std::max<int64_t>(like.dim(), 1), "), got ", dim);
  c10::SymDimVector shape(like.sym_sizes().begin(), like.sym_sizes().end());
  if (!shape.empty()) shape[dim] = 1;
  return shape;
}

Rows make_rows(const char* who, Operands& operands) {
  const auto& shaped = operands.input.defined() ? operands.input : operands.output;
  check_tensors(who, operands, shaped.device());
  return lay_rows(who, operands);
}

Launch make_params(const char* who, const Operands& given) {
  Launch launch;
  KernelParams& a = launch.params;
  Operands operands = given;
  const auto& shaped = operands.input.defined() ? operands.input : operands.output;
  check_tensors(who, operands, shaped.device());
  place_scalars(who, operands, shaped.device(), a);
  a.rows = lay_rows(who, operands);
  const auto type_of = [&](const at::Tensor& t) {
    return t.defined() ? dtype_of(who, t) : DType::kFloat32;
  };
  const auto reads = [](const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; };
  const auto writes = [](const at::Tensor& t) {
    return t.defined() ? t.mutable_data_ptr() : nullptr;
  };
  a.input = reads(operands.input), a.input_type = type_of(operands.input);
  a.grad = reads(operands.grad), a.grad_type = type_of(operands.grad);
  a.output = writes(operands.output), a.output_type = type_of(operands.output);
  a.tau = reads(operands.tau), a.tau_type = type_of(operands.tau);
  a.one_hot = writes(operands.one_hot);
  a.row_value = writes(operands.row_value);
  a.index = static_cast<int64_t*>(writes(operands.index));
  const bool host_key = operands.key.defined() && operands.key.is_cpu() && operands.key.dim() == 1;
  a.key = operands.key.defined() && !host_key ? static_cast<const uint64_t*>(reads(operands.key))
                                              : nullptr;
  launch.alive = {operands.input, operands.grad, operands.tau, operands.key};
  return launch;
}

}  // namespace torch_gumbel::ops
