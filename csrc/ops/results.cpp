// SPDX-License-Identifier: Apache-2.0
#include "results.h"

#include <c10/core/Allocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <c10/util/SmallVector.h>
#include <c10/util/safe_numerics.h>

#include <limits>

namespace torch_gumbel::ops {
namespace {

/// Below, an allocation as good as never fails, and trying it would be felt.
constexpr int64_t kLarge = int64_t{1} << 20;

/// A product of sizes that is cut, not wrapped.
class Bytes {
 public:
  explicit Bytes(at::ScalarType type) : count_(static_cast<int64_t>(c10::elementSize(type))) {}

  void times(const c10::SymInt& size) {
    const auto known = size.maybe_as_int();
    if (!known || *known <= 0)
      count_ = 0;
    else if (c10::mul_overflows(count_, *known, &count_))
      count_ = std::numeric_limits<int64_t>::max();
  }
  int64_t count() const { return count_; }

 private:
  int64_t count_;
};

/// Whether tensors like this one have memory of their own: no fake ones, and no mode that makes
/// them.
bool is_real(const at::Tensor& tensor) {
  return (tensor.is_cpu() || tensor.is_cuda()) && !tensor.key_set().has(c10::DispatchKey::Python) &&
         !c10::impl::TorchDispatchModeTLS::any_modes_set();
}

}  // namespace

int64_t bytes_of(const at::Tensor& like, at::ScalarType type) {
  Bytes bytes(type);
  bytes.times(like.sym_numel());
  return bytes.count();
}

int64_t bytes_of_rows(const at::Tensor& logits, int64_t dim, at::ScalarType type,
                      const c10::SymInt& times) {
  Bytes bytes(type);
  bytes.times(times);
  for (int64_t i = 0; i < logits.dim(); ++i)
    if (i != dim) bytes.times(logits.sym_size(i));
  return bytes.count();
}

void reserve(const at::Tensor& on, std::initializer_list<int64_t> bytes) {
  if (std::max(bytes) < kLarge || !is_real(on)) return;
  const c10::OptionalDeviceGuard guard(on.device());
  auto* allocator = c10::GetAllocator(on.device().type());
  c10::SmallVector<at::DataPtr, 4> held;
  for (const int64_t each : bytes)
    if (each >= kLarge) held.push_back(allocator->allocate(static_cast<size_t>(each)));
}

}  // namespace torch_gumbel::ops
