// SPDX-License-Identifier: Apache-2.0
// Relative entropy of rows and its gradient, of every build, over layouts and element types.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cpu/kl_params.h"
#include "isa_probe.h"
#include "problem.h"

namespace torch_gumbel::testing {
namespace {

struct KlCase {
  Case layout;
  bool from_probs = false;
  bool has_prior = false;  // the problem's `grad`, any numbers
};

/// A row in float64: q, its logarithms, KL.
struct Row64 {
  std::vector<double> q, log_ratio;
  double kl = 0, sum = 0;
};

Row64 reference(const Problem& problem, const KlCase& wanted, int64_t row) {
  const int64_t classes = problem.classes();
  Row64 r;
  double largest = -INFINITY;
  for (int64_t k = 0; k < classes; ++k) largest = std::max(largest, problem.input(row, k));
  for (int64_t k = 0; k < classes; ++k) {
    const double x = problem.input(row, k);
    r.q.push_back(wanted.from_probs ? x : std::exp(x - largest));
    r.sum += r.q.back();
  }
  for (int64_t k = 0; k < classes; ++k) {
    r.q[k] /= r.sum;
    const double prior = wanted.has_prior ? problem.grad(row, k) : -std::log(double(classes));
    const double x = problem.input(row, k);
    const double log_q =
        wanted.from_probs ? std::log(x) - std::log(r.sum) : x - largest - std::log(r.sum);
    r.log_ratio.push_back(r.q[k] > 0 ? log_q - prior : 0);
    r.kl += r.q[k] * r.log_ratio[k];
  }
  return r;
}

/// One value per row, of the compute type.
class Rows {
 public:
  Rows(bool wide, int64_t count) : wide_(wide), values_(count), singles_(count) {}
  void* data() { return wide_ ? static_cast<void*>(values_.data()) : singles_.data(); }
  double operator[](int64_t i) const { return wide_ ? values_[i] : singles_[i]; }
  void set(int64_t i, double value) { values_[i] = value, singles_[i] = float(value); }

 private:
  bool wide_;
  std::vector<double> values_;
  std::vector<float> singles_;
};

void fill_probabilities(Problem& problem) {
  for (int64_t row = 0; row < problem.rows(); ++row)
    for (int64_t k = 0; k < problem.classes(); ++k) {
      const bool zero = k > 0 && (row + k) % 7 == 3;
      problem.set_input(row, k, zero ? 0.0 : std::exp(problem.input(row, k) / 4 + 0.1));
    }
}

void expect_close(double got, double wanted, double tolerance, const char* what) {
  EXPECT_NEAR(got, wanted, tolerance * std::max(1.0, std::abs(wanted))) << what;
}

void check_on(const cpu::Kernels& kernels, const KlCase& wanted) {
  Problem problem(wanted.layout);
  if (wanted.from_probs) fill_probabilities(problem);
  const KernelParams& from = problem.arguments();
  const int64_t count = problem.rows();
  Rows kl(problem.wide(), count), base(problem.wide(), count), log_sum(problem.wide(), count),
      grad(problem.wide(), count);
  cpu::KlParams a;
  a.rows = from.rows, a.values = from.input, a.output = from.output, a.type = from.input_type;
  a.log_prior = wanted.has_prior ? from.grad : nullptr, a.from_probs = wanted.from_probs;
  a.kl = kl.data(), a.base = base.data(), a.log_sum = log_sum.data(), a.grad = grad.data();
  a.plan = cpu::make_kl_plan(a.rows, a.type);
  const GuardedBuffer scratch(a.plan.scratch_bytes);
  kernels.kl(a, 0, count, scratch.get());
  for (int64_t i = 0; i < count; ++i) grad.set(i, 1.5 - double(i % 3));
  // In two parts, as two threads would.
  kernels.kl_backward(a, 0, count / 2, scratch.get());
  kernels.kl_backward(a, count / 2, count, scratch.get());
  problem.expect_surroundings_intact();
  const double tolerance = problem.wide() ? 1e-12 : 4e-6;
  for (int64_t i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
    const Row64 right = reference(problem, wanted, i);
    // Beside any prior KL may be negative; the kernel knows that it is not.
    expect_close(kl[i], std::max(right.kl, 0.0), tolerance, "KL");
    for (int64_t k = 0; right.kl > 0 && k < problem.classes(); ++k) {
      double gradient = grad[i] * right.q[k] * (right.log_ratio[k] - right.kl);
      if (wanted.from_probs)
        gradient = problem.input(i, k) > 0 ? gradient / problem.input(i, k) : 0;
      const double rounding = half_step(wanted.layout.output, gradient) * 1.01;
      EXPECT_NEAR(problem.output(i, k), gradient, 4 * tolerance + rounding) << i << " " << k;
    }
  }
}

void check(const KlCase& wanted) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(::testing::Message()
                 << builds[i].kernels->name << " " << name_of(wanted.layout.input) << ", dim "
                 << wanted.layout.dim << " of size " << wanted.layout.sizes[wanted.layout.dim]
                 << (wanted.from_probs ? ", probabilities" : ", logits")
                 << (wanted.has_prior ? ", prior" : ""));
    check_on(*builds[i].kernels, wanted);
  }
}

void check_both(const Case& layout) {
  for (const bool from_probs : {false, true})
    for (const bool has_prior : {false, true}) {
      check({layout, from_probs, has_prior});
      if (::testing::Test::HasFailure()) return;
    }
}

Case case_of(DType type, Sizes sizes, int dim) {
  Case layout;
  layout.op = Op::kHardBackward;  // of logits, with a second operand
  layout.input = layout.output = type;
  layout.grad = type == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  layout.sizes = std::move(sizes);
  layout.dim = dim;
  return layout;
}

/// More than one group of rows, where there are groups.
int64_t rows_for(int64_t classes) {
  return std::min<int64_t>(cpu::kKlRows, cpu::kTile / classes) + 3;
}

TEST(Kl, EveryRowLengthMatchesTheReference) {
  for (const DType type : kAllTypes)
    for (const int64_t classes :
         {1, 2, 3, 15, 16, 17, 31, 32, 33, 100, 1000, 2047, 2048, 2049, 9000})
      if (!HasFailure()) check_both(case_of(type, {rows_for(classes), classes}, 1));
}

TEST(Kl, EveryDimensionAndPlacementMatchesTheReference) {
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kBFloat16})
    for (const Placement place :
         {Placement::kContiguous, Placement::kGaps, Placement::kStepped, Placement::kTransposed})
      for (const int dim : {0, 1, 2}) {
        if (HasFailure()) return;
        Case layout = case_of(type, {5, 37, 19}, dim);
        layout.input_place = layout.output_place = place;
        check_both(layout);
      }
}

TEST(Kl, APriorOfOneRowServesAll) {
  for (const int dim : {0, 1}) {
    Case layout = case_of(DType::kFloat32, {40, 50}, dim);
    layout.grad_place = Placement::kBroadcast;
    check({layout, false, true});
    check({layout, true, true});
  }
}

TEST(Kl, LongRowsAcrossMemoryMatchTheReference) {
  check_both(case_of(DType::kFloat32, {5000, 20}, 0));
  check_both(case_of(DType::kFloat16, {2, 3000, 70}, 1));
}

}  // namespace
}  // namespace torch_gumbel::testing
