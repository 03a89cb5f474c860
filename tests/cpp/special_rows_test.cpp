// SPDX-License-Identifier: Apache-2.0
// Rows without a distribution: NaN (or index 0) for themselves, and nothing for their neighbours.
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <string>

#include "isa_probe.h"
#include "problem.h"
#include "reference.h"

namespace torch_gumbel::testing {
namespace {

constexpr int64_t kSpecial = 2;  // of five rows

/// Makes a row special; `best` is then the value of its argmax, -inf or NaN.
struct Invalidator {
  const char* name;
  double best;
  std::function<void(Problem&, int64_t last)> apply;
};

void fill_row(Problem& problem, double value) {
  for (int64_t k = 0; k < problem.classes(); ++k) problem.set_input(kSpecial, k, value);
}

std::vector<Invalidator> invalidators() {
  const auto set = [](int64_t numerator, double value) {
    return [=](Problem& p, int64_t last) { p.set_input(kSpecial, last * numerator / 2, value); };
  };
  return {{"no finite logit", -INFINITY, [](Problem& p, int64_t) { fill_row(p, -INFINITY); }},
          {"all NaN", NAN, [](Problem& p, int64_t) { fill_row(p, NAN); }},
          {"all +inf", NAN, [](Problem& p, int64_t) { fill_row(p, INFINITY); }},
          {"NaN first", NAN, set(0, NAN)},
          {"NaN in the middle", NAN, set(1, NAN)},
          {"NaN last", NAN, set(2, NAN)},
          {"+inf first", NAN, set(0, INFINITY)},
          {"+inf in the middle", NAN, set(1, INFINITY)},
          {"+inf last", NAN, set(2, INFINITY)},
          {"+inf first and last", NAN,
           [](Problem& p, int64_t last) {
             p.set_input(kSpecial, 0, INFINITY);
             p.set_input(kSpecial, last, INFINITY);
           }},
          {"NaN among -inf", NAN,
           [](Problem& p, int64_t last) {
             fill_row(p, -INFINITY);
             p.set_input(kSpecial, last / 2, NAN);
           }},
          {"+inf among -inf", NAN, [](Problem& p, int64_t last) {
             fill_row(p, -INFINITY);
             p.set_input(kSpecial, last, INFINITY);
           }}};
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void expect_undefined_row(const Problem& problem, double best) {
  if (problem.wanted().op == Op::kArgmax) {
    EXPECT_EQ(problem.index(kSpecial), 0);
    EXPECT_TRUE(same(problem.row_value(kSpecial), best)) << problem.row_value(kSpecial);
    return;
  }
  for (int64_t k = 0; k < problem.classes(); ++k)
    ASSERT_TRUE(std::isnan(problem.output(kSpecial, k))) << "class " << k;
  if (problem.wanted().op == Op::kSoft) {
    EXPECT_TRUE(same(problem.row_value(kSpecial), best)) << problem.row_value(kSpecial);
  }
  if (problem.wanted().op == Op::kHardBackward) {
    EXPECT_TRUE(std::isnan(problem.row_value(kSpecial)));
  }
}

/// All but the special row.
void expect_clean_neighbours(const Problem& problem, const Problem& clean) {
  const bool choice = problem.wanted().op == Op::kArgmax;
  for (int64_t row = 0; row < problem.rows(); ++row) {
    if (row == kSpecial) continue;
    if (choice) {
      EXPECT_EQ(problem.index(row), clean.index(row));
    } else {
      for (int64_t k = 0; k < problem.classes(); ++k)
        ASSERT_TRUE(same(problem.output(row, k), clean.output(row, k))) << row << " " << k;
    }
    if (problem.arguments().row_value != nullptr) {
      EXPECT_TRUE(same(problem.row_value(row), clean.row_value(row)));
    }
  }
}

/// Of the special row.
void set_temperature(Problem& problem, double tau) {
  static_cast<double*>(const_cast<void*>(problem.arguments().tau))[kSpecial] = tau;
}

class SpecialRows : public ::testing::TestWithParam<Op> {
 protected:
  /// f(case) over builds, element types, row lengths, and both directions of words.
  template <typename F>
  void for_each_case(F&& f) {
    int count = 0;
    const IsaBuild* builds = runnable_builds(count);
    for (int i = 0; i < count; ++i)
      for (const DType type : kAllTypes)
        for (const int64_t classes : {1, 2, 5, 17, 300, 600, 2500, 9000})
          for (const int dim : {0, 1}) {
            if (HasFailure()) return;
            if (classes > 2000 && type != DType::kFloat32 && dim == 0) continue;  // to save time
            Case wanted;
            wanted.op = GetParam();
            wanted.input = wanted.grad = wanted.output = type;
            wanted.dim = dim;
            const int64_t neighbours = classes == 600 ? 18 : 5;  // 18 are spatial, and pruned
            wanted.sizes = dim == 0 ? Sizes{classes, neighbours} : Sizes{5, classes};
            SCOPED_TRACE(::testing::Message() << builds[i].kernels->name << " " << name_of(type)
                                              << " K " << classes << " dim " << dim);
            f(wanted, *builds[i].kernels);
          }
  }
};

TEST_P(SpecialRows, RowsWithoutADistributionAreNanAndContained) {
  for_each_case([](const Case& wanted, const cpu::Kernels& kernels) {
    Problem clean(wanted);
    clean.run(kernels);
    for (const Invalidator& invalidator : invalidators()) {
      SCOPED_TRACE(invalidator.name);
      Problem problem(wanted);
      invalidator.apply(problem, problem.classes() - 1);
      problem.run(kernels);
      expect_undefined_row(problem, invalidator.best);
      expect_clean_neighbours(problem, clean);
    }
  });
}

TEST_P(SpecialRows, BadTemperaturesOfOneRowAreContained) {
  for_each_case([](Case wanted, const cpu::Kernels& kernels) {
    wanted.tau_per_row = true;
    Problem clean(wanted);
    clean.run(kernels);
    constexpr double kInfinity = INFINITY, kNan = NAN;
    for (const double tau : {0.0, -0.0, -1.0, kInfinity, -kInfinity, kNan}) {
      if (wanted.op == Op::kArgmax && tau == 0) continue;  // a good one there: see GreedyRows
      SCOPED_TRACE(tau);
      Problem problem(wanted);
      set_temperature(problem, tau);
      problem.run(kernels);
      expect_undefined_row(problem, NAN);
      expect_clean_neighbours(problem, clean);
    }
  });
}

/// A row at a temperature of 0 among others.
class GreedyRows : public SpecialRows {};

TEST_P(GreedyRows, ChooseTheFirstLargestLogit) {
  for_each_case([](Case wanted, const cpu::Kernels& kernels) {
    wanted.tau_per_row = true;
    Problem clean(wanted);
    clean.run(kernels);
    for (const double tau : {0.0, -0.0}) {
      Problem problem(wanted);
      set_temperature(problem, tau);
      const int64_t largest = problem.classes() / 2;  // and its equal at the end
      problem.set_input(kSpecial, largest, 60);
      problem.set_input(kSpecial, problem.classes() - 1, 60);
      problem.run(kernels);
      EXPECT_EQ(problem.index(kSpecial), largest);
      EXPECT_EQ(problem.row_value(kSpecial), 60);
      expect_clean_neighbours(problem, clean);
    }
  });
}

TEST_P(GreedyRows, WithoutADistributionGiveZero) {
  for_each_case([](Case wanted, const cpu::Kernels& kernels) {
    wanted.tau_per_row = true;
    Problem clean(wanted);
    clean.run(kernels);
    for (const Invalidator& invalidator : invalidators()) {
      SCOPED_TRACE(invalidator.name);
      Problem problem(wanted);
      set_temperature(problem, 0);
      invalidator.apply(problem, problem.classes() - 1);
      problem.run(kernels);
      expect_undefined_row(problem, invalidator.best);
      expect_clean_neighbours(problem, clean);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kernels, GreedyRows, ::testing::Values(Op::kArgmax),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(SpecialRows, OnlyOneClassLeft) {
  for_each_case([](const Case& wanted, const cpu::Kernels& kernels) {
    Problem problem(wanted);
    const int64_t left = problem.classes() * 2 / 3;
    fill_row(problem, -INFINITY);
    problem.set_input(kSpecial, left, -3);
    problem.run(kernels);
    if (wanted.op == Op::kArgmax) {
      EXPECT_EQ(problem.index(kSpecial), left);
      return;
    }
    const bool back = wanted.op == Op::kHardBackward;
    for (int64_t k = 0; k < problem.classes(); ++k)
      ASSERT_EQ(problem.output(kSpecial, k), !back && k == left ? 1 : 0);
  });
}

/// Finite, however large or small: rows with a distribution.
TEST_P(SpecialRows, ExtremeFiniteLogitsKeepTheirDistribution) {
  for_each_case([](const Case& wanted, const cpu::Kernels& kernels) {
    const bool half = wanted.input == DType::kFloat16;
    const double largest = half ? 65504 : 0x1.FEp127;
    for (const double extreme : {largest, -largest, 0.0, -0.0, half ? 0x1p-24 : 0x1p-133}) {
      SCOPED_TRACE(extreme);
      Problem problem(wanted);
      fill_row(problem, -largest);
      for (int64_t k = 0; k < problem.classes(); k += 2) problem.set_input(kSpecial, k, extreme);
      problem.run(kernels);
      const int64_t choice = exact_choice(problem, kSpecial);
      double sum = 0;
      if (wanted.op == Op::kArgmax) {
        EXPECT_EQ(problem.index(kSpecial), choice);
        continue;
      }
      for (int64_t k = 0; k < problem.classes(); ++k) {
        const double value = problem.output(kSpecial, k);
        ASSERT_TRUE(std::isfinite(value)) << "class " << k;
        sum += value;
      }
      if (wanted.op == Op::kHardBackward) continue;
      EXPECT_NEAR(sum, 1, 0.02);
      if (wanted.op == Op::kHard) {
        EXPECT_EQ(problem.output(kSpecial, choice), 1);
      }
    }
  });
}

/// A temperature so small that every scaled logit overflows leaves the order of their signs.
TEST(TinyTemperatures, KeepFiniteLogitsFinite) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  for (int i = 0; i < count; ++i)
    for (const DType type : {DType::kFloat32, DType::kFloat64})
      for (const int64_t classes : {3, 300, 9000}) {
        Case wanted;
        wanted.op = Op::kArgmax;
        wanted.input = type;
        wanted.sizes = {5, classes};
        wanted.tau = 1e-320;
        Problem problem(wanted);
        problem.run(*builds[i].kernels);
        for (int64_t row = 0; row < 5; ++row) {
          EXPECT_TRUE(std::isfinite(problem.row_value(row)));
          EXPECT_EQ(problem.index(row), exact_choice(problem, row)) << classes;
        }
      }
}

INSTANTIATE_TEST_SUITE_P(Kernels, SpecialRows,
                         ::testing::Values(Op::kSoft, Op::kHard, Op::kArgmax, Op::kHardBackward),
                         [](const auto& info) { return std::string(name_of(info.param)); });

}  // namespace
}  // namespace torch_gumbel::testing
