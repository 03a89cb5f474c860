// SPDX-License-Identifier: Apache-2.0
// Rows without a distribution: results of the CPU op, and neighbours unchanged.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

constexpr int64_t kSpecial = 2;  // of five rows, or of eight spatial ones
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// What is put over the special row: everywhere `all`, if that is not 0, and `one` at a class.
struct Invalidator {
  double all;
  double one;
  double where;  // of the classes; 2: nowhere
};

std::vector<Invalidator> invalidators() {
  std::vector<Invalidator> every = {{-kInfinity, 0, 2}, {kNan, 0, 2}, {kInfinity, 0, 2}};
  for (const double all : {0.0, -kInfinity})
    for (const double one : {kNan, kInfinity})
      for (const double where : {0.0, 0.5, 1.0}) every.push_back({all, one, where});
  every.push_back({-kInfinity, -3, 0.7});  // one class left
  return every;
}

void invalidate(Problem& problem, const Invalidator& invalidator) {
  const int64_t last = problem.classes() - 1;
  for (int64_t k = 0; k <= last && invalidator.all != 0; ++k)
    problem.set_input(kSpecial, k, invalidator.all);
  const auto at = static_cast<int64_t>(invalidator.where * static_cast<double>(last));
  if (invalidator.where <= 1) problem.set_input(kSpecial, at, invalidator.one);
}

double value(uint64_t bits) { return std::bit_cast<double>(bits); }

void expect_same_one_hots(const Problem& on_model, const Problem& on_cpu) {
  if (on_model.arguments().one_hot == nullptr) return;
  for (int64_t row = 0; row < on_model.rows(); ++row)
    for (int64_t k = 0; k < on_model.classes(); ++k)
      ASSERT_TRUE(same(on_model.one_hot(row, k), on_cpu.one_hot(row, k))) << row << " " << k;
}

/// NaN, infinities, and zeros as in the CPU op's results; the same bits where they are exact.
void expect_like_cpu(const Problem& on_model, const Problem& on_cpu) {
  expect_same_one_hots(on_model, on_cpu);
  const std::vector<uint64_t> got = on_model.results(), wanted = on_cpu.results();
  if (is_exact(on_model.wanted().op)) {
    EXPECT_TRUE(got == wanted);
    return;
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double a = value(got[i]), b = value(wanted[i]);
    const bool alike =
        std::isnan(b) ? std::isnan(a) : !std::isnan(a) && (std::isfinite(b) || a == b);
    ASSERT_TRUE(alike) << "result " << i << ": got " << a << ", wanted " << b;
  }
}

void expect_same_neighbours(const Problem& problem, const Problem& clean) {
  const auto same_bits = [](double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b) ||
           (std::isnan(a) && std::isnan(b));
  };
  for (int64_t row = 0; row < problem.rows(); ++row) {
    if (row == kSpecial) continue;
    const int64_t outputs = problem.arguments().output == nullptr ? 0 : problem.classes();
    for (int64_t k = 0; k < outputs; ++k)
      ASSERT_TRUE(same_bits(problem.output(row, k), clean.output(row, k))) << row << " " << k;
    const int64_t ones = problem.arguments().one_hot == nullptr ? 0 : problem.classes();
    for (int64_t k = 0; k < ones; ++k)
      ASSERT_TRUE(same_bits(problem.one_hot(row, k), clean.one_hot(row, k))) << row << " " << k;
    if (problem.arguments().row_value != nullptr) {
      EXPECT_TRUE(same_bits(problem.row_value(row), clean.row_value(row))) << row;
    }
  }
}

class SpecialRowsOnModel : public ::testing::TestWithParam<std::tuple<Op, DType>> {
 protected:
  /// Runs a case as changed by `change` on the model and on the CPU, over lengths and dimensions.
  void check(bool tau_per_row, const Change& change) {
    for (const int64_t classes : {1, 5, 17, 32, 61, 300, 2500, 9000, 17'000})
      for (const int dim : {0, 1}) {
        if (classes > (kSmall || dim == 0 ? 300 : 17'000)) continue;
        Case wanted;
        std::tie(wanted.op, wanted.input) = GetParam();
        wanted.grad = wanted.output = wanted.input;
        wanted.dim = dim;
        wanted.sizes = dim == 0 ? Sizes{classes, 8} : Sizes{5, classes};
        wanted.tau_per_row = tau_per_row;
        wanted.input_lead = wanted.grad_lead = wanted.output_lead = 0;
        check_one(wanted, change);
        if (HasFailure()) return;
      }
  }

 private:
  void check_one(const Case& wanted, const Change& change) {
    SCOPED_TRACE(text_of(wanted));
    ++tally().cases;
    Problem clean(wanted), on_model(wanted), on_cpu(wanted);
    change(on_model);
    change(on_cpu);
    const Conditions with_workspace = {cuda_model::Order::kForward, 132};
    run_on_model(clean, with_workspace);
    run_on_model(on_model, with_workspace);
    on_cpu.run(cpu::selected_kernels());
    expect_like_cpu(on_model, on_cpu);
    expect_same_neighbours(on_model, clean);
  }
};

TEST_P(SpecialRowsOnModel, AreAsTheCpuMakesThem) {
  for (const Invalidator& invalidator : invalidators()) {
    SCOPED_TRACE(::testing::Message()
                 << invalidator.all << " with " << invalidator.one << " at " << invalidator.where);
    check(false, [&](Problem& problem) { invalidate(problem, invalidator); });
    if (HasFailure()) return;
  }
}

TEST_P(SpecialRowsOnModel, BadTemperaturesOfOneRowAreContained) {
  for (const double tau : {0.0, -0.0, -1.0, kInfinity, -kInfinity, kNan}) {
    SCOPED_TRACE(tau);
    check(true, [&](Problem& problem) {
      static_cast<double*>(const_cast<void*>(problem.arguments().tau))[kSpecial] = tau;
    });
    if (HasFailure()) return;
  }
}

TEST_P(SpecialRowsOnModel, ExtremeFiniteLogitsKeepTheirDistribution) {
  const bool half = std::get<DType>(GetParam()) == DType::kFloat16;
  const double largest = half ? 65504 : 0x1.FEp127;
  for (const double extreme : {largest, -largest, 0.0, half ? 0x1p-24 : 0x1p-133}) {
    SCOPED_TRACE(extreme);
    check(false, [&](Problem& problem) {
      for (int64_t k = 0; k < problem.classes(); ++k)
        problem.set_input(kSpecial, k, k % 2 == 0 ? extreme : -largest);
    });
    if (HasFailure()) return;
  }
}

TEST_P(SpecialRowsOnModel, TinyTemperaturesKeepFiniteLogitsFinite) {
  check(true, [](Problem& problem) {
    static_cast<double*>(const_cast<void*>(problem.arguments().tau))[kSpecial] = 1e-320;
  });
}

INSTANTIATE_TEST_SUITE_P(Model, SpecialRowsOnModel,
                         ::testing::Combine(::testing::Values(Op::kSoft, Op::kHard, Op::kHardSoft,
                                                              Op::kArgmax, Op::kHardBackward),
                                            ::testing::ValuesIn(kAllTypes)),
                         [](const auto& info) {
                           return std::string(name_of(std::get<0>(info.param))) + "_" +
                                  name_of(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace torch_gumbel::testing
