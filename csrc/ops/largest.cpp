// SPDX-License-Identifier: Apache-2.0
#include "largest.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "fast_path.h"
#include "parallel.h"

namespace torch_gumbel::ops {
namespace {

using at::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
struct Entry {
  T score;
  int64_t index;
};

template <typename T>
bool precedes(const Entry<T>& a, const Entry<T>& b) {
  return a.score > b.score || (a.score == b.score && a.index < b.index);
}

/// NaN counts as +inf: its row has no distribution either way.
template <typename T>
T comparable(T score) {
  return score == score ? score : std::numeric_limits<T>::infinity();
}

/// The best so far are a heap with the worst of them on top. Classes come in order, so that one of
/// an equal score never replaces another.
template <typename T>
void topk_row(const T* scores, int64_t classes, int64_t k, std::vector<Entry<T>>& heap,
              int64_t* to) {
  heap.clear();
  for (int64_t i = 0; i < k; ++i) heap.push_back({comparable(scores[i]), i});
  std::make_heap(heap.begin(), heap.end(), precedes<T>);
  for (int64_t i = k; i < classes; ++i) {
    if (scores[i] <= heap.front().score) continue;
    const Entry<T> entry = {comparable(scores[i]), i};
    if (!precedes(entry, heap.front())) continue;
    std::pop_heap(heap.begin(), heap.end(), precedes<T>);
    heap.back() = entry;
    std::push_heap(heap.begin(), heap.end(), precedes<T>);
  }
  std::sort_heap(heap.begin(), heap.end(), precedes<T>);
  for (int64_t i = 0; i < k; ++i) to[i] = heap[i].index;
}

template <typename T>
void topk_rows(const Tensor& scores, const Tensor& indices) {
  constexpr int64_t kElementsPerThread = 1 << 15;
  const int64_t classes = scores.size(-1), k = indices.size(-1), rows = scores.numel() / classes;
  const T* from = scores.const_data_ptr<T>();
  auto* to = indices.mutable_data_ptr<int64_t>();
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / classes);
  parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<Entry<T>> heap;
    heap.reserve(k);
    for (int64_t row = begin; row < end; ++row)
      topk_row(from + row * classes, classes, k, heap, to + row * k);
  });
}

Tensor on_cpu(const Tensor& scores, int64_t k, int64_t dim) {
  const Tensor rows = scores.movedim(dim, -1).contiguous();
  auto shape = rows.sizes().vec();
  shape.back() = k;
  const Tensor indices = at::empty(shape, rows.options().dtype(at::kLong));
  if (indices.numel() > 0)
    rows.scalar_type() == at::kDouble ? topk_rows<double>(rows, indices)
                                      : topk_rows<float>(rows, indices);
  return indices.movedim(-1, dim).contiguous();
}

/// Numbers that fall in the order of the scores and, where these are equal, of the classes. A
/// float32 score leaves 29 bits of a double free for its class.
Tensor ranks(const char* who, const Tensor& scores, int64_t dim) {
  const c10::SymInt classes = scores.sym_size(dim);
  if (const auto known = classes.maybe_as_int())
    TORCH_CHECK_VALUE(*known <= int64_t{1} << 28, who,
                      ": at most 2^28 classes keep the order of equal scores here, got ", *known);
  c10::SymDimVector along(scores.dim(), 1);
  along[dim] = classes;
  const Tensor class_index =
      at::arange(classes, scores.options().dtype(at::kDouble)).view_symint(along);
  const Tensor value = at::where(scores == -kInfinity, -1e300, scores.to(at::kDouble));
  return value - (value.abs() * 0x1p-52 + 0x1p-180) * class_index;
}

}  // namespace

Tensor largest(const char* who, const Tensor& given, const c10::SymInt& k, int64_t dim) {
  const Tensor scores = given.detach();
  if (scores.is_cpu() && on_fast_path(scores)) return on_cpu(scores, k.expect_int(), dim);
  if (scores.scalar_type() == at::kDouble)
    return std::get<1>(at::sort(scores, /*stable=*/true, dim, /*descending=*/true))
        .narrow_symint(dim, 0, k);
  return std::get<1>(
      at::topk_symint(ranks(who, scores, dim), k, dim, /*largest=*/true, /*sorted=*/true));
}

}  // namespace torch_gumbel::ops
