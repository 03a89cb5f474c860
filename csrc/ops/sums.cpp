// SPDX-License-Identifier: Apache-2.0
#include "sums.h"

#include <ATen/ExpandUtils.h>
#include <ATen/TensorOperators.h>
#include <c10/util/SmallVector.h>

namespace torch_gumbel::ops {
namespace {

using at::Tensor;

constexpr int64_t kOneThread = 1 << 15;  // below it, ATen's sum takes no more
constexpr int64_t kPart = 1 << 12;

/// Whether ATen's sum would do: it is short, on a device, or traced with sizes that are not known.
bool simple(const Tensor& values) {
  if (!values.is_cpu() || !c10::asIntArrayRefSlowOpt(values.sym_sizes())) return true;
  return values.numel() < kOneThread;
}

/// Along the last dimension. Parts are rows of a sum of their own, which threads do not divide.
Tensor sum_of_parts(const Tensor& rows) {
  const int64_t count = rows.size(-1), whole = count / kPart * kPart;
  if (whole == 0) return rows.sum(-1);
  const Tensor parts = rows.narrow(-1, 0, whole).unflatten(-1, {-1, kPart}).sum(-1);
  const Tensor sum = sum_of_parts(parts);
  return whole == count ? sum : sum + rows.narrow(-1, whole, count - whole).sum(-1);
}

}  // namespace

Tensor sum_to_shape(const Tensor& values, c10::SymIntArrayRef shape) {
  const auto wanted = c10::asIntArrayRefSlowOpt(shape);
  if (simple(values) || !wanted) return at::sum_to(values, shape);
  const int64_t leading = values.dim() - static_cast<int64_t>(wanted->size());
  c10::SmallVector<int64_t, 8> order, reduced;
  for (int64_t i = 0; i < values.dim(); ++i) {
    const bool stays = i >= leading && (*wanted)[i - leading] == values.size(i);
    (stays ? order : reduced).push_back(i);
  }
  if (reduced.empty()) return values;
  const auto kept = static_cast<int64_t>(order.size());
  order.append(reduced.begin(), reduced.end());
  const Tensor rows = values.permute(order).contiguous().flatten(kept, -1);
  return sum_of_parts(rows).reshape(*wanted);
}

Tensor sum_of_rows(const Tensor& values, int64_t dim) {
  if (values.dim() == 0 || simple(values)) return values.sum(dim, /*keepdim=*/true);
  auto shape = values.sizes().vec();
  shape[dim] = 1;
  return sum_to_shape(values, c10::fromIntArrayRefSlow(shape));
}

}  // namespace torch_gumbel::ops
