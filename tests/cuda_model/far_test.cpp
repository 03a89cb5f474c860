// SPDX-License-Identifier: Apache-2.0
// Tensors whose elements lie more than 2^31 elements apart have the results of near ones.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

constexpr int64_t kFar = int64_t{1} << 31;  // elements

/// Memory of which only what is touched exists.
class SparseMemory {
 public:
  explicit SparseMemory(int64_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~SparseMemory() { munmap(data_, bytes_); }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  bool exists() const { return data_ != MAP_FAILED; }
  void* data() const { return data_; }

 private:
  int64_t bytes_;
  void* data_;
};

/// Copies `count` runs of `bytes`, which begin `from_step` and `to_step` bytes apart.
void copy_runs(const void* from, int64_t from_step, void* to, int64_t to_step, int64_t count,
               int64_t bytes) {
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(static_cast<char*>(to) + i * to_step,
                static_cast<const char*>(from) + i * from_step, bytes);
}

class FarOnModel : public ::testing::TestWithParam<std::tuple<Op, DType>> {
 protected:
  /// Classes in dimension `dim` of [count, size]; dimension 0 is stretched.
  void check(int64_t count, int64_t size, int dim) {
    Case wanted;
    std::tie(wanted.op, wanted.input) = GetParam();
    wanted.grad = wanted.output = wanted.input;
    wanted.sizes = {count, size}, wanted.dim = dim;
    wanted.input_lead = wanted.grad_lead = wanted.output_lead = 0;
    SCOPED_TRACE(text_of(wanted));
    ++tally().cases;
    const Conditions with_workspace = {cuda_model::Order::kForward, 132};
    Problem near(wanted), far(wanted);
    run_on_model(near, with_workspace);
    stretch(far, count, size, [&] { run_on_model(far, with_workspace); });
    EXPECT_TRUE(far.results() == near.results());
  }

 private:
  /// Calls work() with the problem's tensors stretched; their elements come back afterwards.
  template <typename Work>
  void stretch(Problem& problem, int64_t count, int64_t size, Work work) {
    const int64_t stride = kFar + size, bytes = size_of(problem.wanted().input);
    const int64_t run = size * bytes, step = stride * bytes;
    const SparseMemory input(step * count), grad(step * count), output(step * count),
        ones(step * count);
    ASSERT_TRUE(input.exists() && grad.exists() && output.exists() && ones.exists());
    KernelParams& a = problem.arguments();
    for (const Operand operand : {Operand::kInput, Operand::kGrad, Operand::kOutput}) {
      const auto o = static_cast<int>(operand);
      (problem.wanted().dim == 0 ? a.rows.class_stride[o] : a.rows.stride[o][0]) = stride;
    }
    if (a.input != nullptr) copy_runs(a.input, run, input.data(), step, count, run);
    if (a.grad != nullptr) copy_runs(a.grad, run, grad.data(), step, count, run);
    void *const near_output = a.output, *const near_one_hot = a.one_hot;
    if (a.input != nullptr) a.input = input.data();
    if (a.grad != nullptr) a.grad = grad.data();
    if (a.output != nullptr) a.output = output.data();
    if (a.one_hot != nullptr) a.one_hot = ones.data();
    work();
    if (a.one_hot != nullptr) copy_runs(ones.data(), step, near_one_hot, run, count, run);
    if (a.output != nullptr) copy_runs(output.data(), step, near_output, run, count, run);
  }
};

TEST_P(FarOnModel, RowsFarApart) {
  for (const int64_t classes : {200, 1500, 17'000}) check(2, classes, 1);
}

TEST_P(FarOnModel, ClassesFarApart) {
  for (const int64_t rows : {7, 64}) check(3, rows, 0);
}

INSTANTIATE_TEST_SUITE_P(Model, FarOnModel,
                         ::testing::Combine(::testing::ValuesIn(kAllOps),
                                            ::testing::Values(DType::kFloat32, DType::kFloat64,
                                                              DType::kBFloat16)),
                         [](const auto& info) {
                           return std::string(name_of(std::get<0>(info.param))) + "_" +
                                  name_of(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace torch_gumbel::testing
