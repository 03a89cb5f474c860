// SPDX-License-Identifier: Apache-2.0
// Every family of kernels on few elements: for compute-sanitizer, under which larger tests would
// take hours.
#include <torch_gumbel/torch_gumbel.h>

#include <vector>

#include "gpu.h"
#include "ops/ops.h"

namespace torch_gumbel {
namespace {

using std::nullopt;

class GpuSmall : public Gpu {};

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};

/// All ops on one tensor, with key(3) wherever it is held.
void check(const at::Tensor& logits, int64_t dim, const at::Tensor& held_key) {
  const at::Tensor x = on_gpu(logits), grad = x.flip(0).contiguous();
  const at::Tensor tau = at::scalar_tensor(0.7, at::kDouble);
  const at::Tensor hard = gumbel_softmax(x, 0.7, true, dim, false, nullopt, held_key);
  EXPECT_TRUE(same_bits(hard, gumbel_softmax(logits, 0.7, true, dim, false, nullopt, key(3))));
  const at::Tensor index = gumbel_argmax(x, dim, false, nullopt, 0.7, nullopt, held_key);
  EXPECT_TRUE(same_bits(index, gumbel_argmax(logits, dim, false, nullopt, 0.7, nullopt, key(3))));
  const at::Tensor noise = ops::noise().call(x, held_key, nullopt, nullopt);
  EXPECT_TRUE(same_bits(noise, ops::noise().call(logits, key(3), nullopt, nullopt)));

  const at::Tensor y = gumbel_softmax(x, 0.7, false, dim, false, nullopt, held_key);
  const at::Tensor wanted = gumbel_softmax(logits, 0.7, false, dim, false, nullopt, key(3));
  const double half = x.element_size() == 2 ? 1e-2 : 1e-4;
  EXPECT_TRUE(at::allclose(y.cpu().to(at::kDouble), wanted.to(at::kDouble), half, 1e-6));
  const auto [one_hot, beside] =
      ops::hard_soft().call(x, tau, held_key, dim, nullopt, nullopt, nullopt);
  EXPECT_TRUE(same_bits(one_hot, hard));
  EXPECT_TRUE(at::allclose(beside.cpu().to(at::kDouble), wanted.to(at::kDouble), half, 1e-6));
  for (const bool tau_grad : {false, true}) {
    const auto [soft, at_tau] = ops::backward().call(grad, y, tau, dim, nullopt, tau_grad);
    const auto [again, at_tau_again] =
        ops::hard_backward().call(grad, x, tau, held_key, dim, tau_grad, nullopt, nullopt);
    const at::Tensor largest = again.abs().amax().to(at::kDouble);
    const at::Tensor error = (soft.to(at::kDouble) - again.to(at::kDouble)).abs();
    EXPECT_TRUE(error.le(largest * 2 * half + 1e-6).all().item<bool>());
  }
}

void check_all(const std::vector<int64_t>& shape, int64_t dim) {
  for (const at::ScalarType type : kTypes)
    for (const bool on_device : {false, true}) {
      SCOPED_TRACE(::testing::Message() << at::IntArrayRef(shape) << " " << type << on_device);
      const at::Tensor with_key = on_device ? on_gpu(key(3)) : key(3);
      check(some_logits(shape, type), dim, with_key);
    }
}

TEST_F(GpuSmall, Tiles) {
  for (const auto& shape : std::vector<std::vector<int64_t>>{{9, 1}, {300, 3}, {40, 7}, {6, 100}})
    check_all(shape, 1);
}

TEST_F(GpuSmall, RowsInRegisters) {
  for (const int64_t classes : {130, 300, 515, 1027, 2050, 8300}) check_all({3, classes}, 1);
}

TEST_F(GpuSmall, RowsSharedByBlocks) {
  for (const int64_t classes : {16387, 40000}) check_all({2, classes}, 1);
}

TEST_F(GpuSmall, RowsSideBySide) {
  check_all({2, 35, 8, 8}, 1);
  check_all({3, 21, 5}, 1);
  check_all({37, 3}, 0);
}

TEST_F(GpuSmall, Keys) {
  const at::Tensor one = on_gpu(key(3));
  EXPECT_TRUE(at::equal(torch_gumbel::split(one, 300).cpu(), torch_gumbel::split(key(3), 300)));
  EXPECT_TRUE(at::equal(fold_in(one, 9).cpu(), fold_in(key(3), 9)));
  const at::Tensor logits = at::zeros({64, 50}, at::kCUDA);
  EXPECT_FALSE(at::equal(gumbel_softmax(logits), gumbel_softmax(logits)));
  EXPECT_FALSE(at::equal(new_key(nullopt, at::kCUDA), new_key(nullopt, at::kCUDA)));
}

/// More rows than multiprocessors, so that each is one block's. The last one, since a memory checker
/// may run out of time in it.
TEST_F(GpuSmall, LongRows) { check_all({300, 33001}, 1); }

}  // namespace
}  // namespace torch_gumbel
