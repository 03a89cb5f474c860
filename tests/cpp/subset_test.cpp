// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples and their gradient, of every build, over layouts, against float64 rounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/subset_params.h"
#include "isa_probe.h"
#include "problem.h"

namespace torch_gumbel::testing {
namespace {

/// The rounds of a row as the paper has them (Xie and Ermon 2019), and their derivative.
class Reference {
 public:
  Reference(std::vector<double> scores, int64_t k, double tau)
      : scores_(std::move(scores)), tau_(tau), sample_(scores_.size()) {
    int64_t finite = 0;
    for (const double r : scores_) finite += std::isfinite(r);
    defined_ = finite >= k;
    std::vector<double> r = scores_;
    for (int64_t round = 0; round < k; ++round) {
      scores_of_.push_back(r);
      shares_.push_back(softmax(r));
      for (size_t j = 0; j < r.size(); ++j) {
        sample_[j] += shares_.back()[j];
        r[j] += std::log1p(-shares_.back()[j]);
      }
    }
  }

  bool defined() const { return defined_; }
  double sample(int64_t j) const { return sample_[j]; }
  /// Of what has `grad` at the sample: the gradient at the scores, and at the temperature.
  std::pair<std::vector<double>, double> gradient(const std::vector<double>& grad) const {
    std::vector<double> at_scores(grad.size());
    double at_tau = 0;
    for (size_t round = shares_.size(); round-- > 0;) {
      const auto& a = shares_[round];
      std::vector<double> p(grad.size());
      for (size_t j = 0; j < p.size(); ++j) p[j] = grad[j] - at_scores[j] / (1 - a[j]);
      const double mean = std::inner_product(a.begin(), a.end(), p.begin(), 0.0);
      for (size_t j = 0; j < p.size(); ++j) {
        const double at_scaled = a[j] * (p[j] - mean);
        at_scores[j] += at_scaled / tau_;
        if (a[j] > 0) at_tau -= at_scaled * scores_of_[round][j] / (tau_ * tau_);
      }
    }
    return {at_scores, at_tau};
  }

 private:
  std::vector<double> softmax(const std::vector<double>& r) const {
    const double most = *std::max_element(r.begin(), r.end());
    std::vector<double> weights;
    for (const double each : r) weights.push_back(std::exp((each - most) / tau_));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& each : weights) each /= sum;
    return weights;
  }

  std::vector<double> scores_;
  double tau_;
  std::vector<double> sample_;
  std::vector<std::vector<double>> scores_of_, shares_;
  bool defined_ = false;
};

struct Subset {
  Case layout;
  int64_t k = 3;
};

/// Runs the kernels of a build on a case, the rows in two parts, as two threads would.
class Run {
 public:
  Run(const Subset& wanted, const cpu::SubsetKernels& kernels)
      : k_(wanted.k), problem_(of_gradients(wanted.layout)) {
    static_cast<KernelParams&>(call_) = problem_.arguments();
    call_.k = k_;
    const void* grad = std::exchange(call_.grad, nullptr);
    void* row_value = std::exchange(call_.row_value, nullptr);
    rows(kernels.forward, false);
    check([&](const Reference& of, int64_t i) { expect_sample(of, i); });
    call_.grad = grad, call_.row_value = row_value;
    rows(kernels.backward, true);
    check([&](const Reference& of, int64_t i) { expect_gradient(of, i); });
  }

  const std::vector<double>& results() const { return results_; }

 private:
  static Case of_gradients(Case wanted) {
    wanted.op = Op::kHardBackward;
    return wanted;
  }

  template <typename Kernel>
  void rows(Kernel kernel, bool backward) {
    call_.plan = cpu::make_subset_plan(call_, backward);
    const GuardedBuffer scratch(call_.plan.scratch_bytes);
    const int64_t count = problem_.rows();
    kernel(call_, 0, count / 2, scratch.get());
    kernel(call_, count / 2, count, scratch.get());
    problem_.expect_surroundings_intact();
  }

  template <typename Expect>
  void check(const Expect& expect) {
    for (int64_t i = 0; i < problem_.rows() && !::testing::Test::HasFailure(); ++i) {
      std::vector<double> scores;
      for (int64_t j = 0; j < problem_.classes(); ++j) scores.push_back(problem_.input(i, j));
      expect(Reference(std::move(scores), k_, problem_.tau(i)), i);
      for (int64_t j = 0; j < problem_.classes(); ++j) keep(problem_.output(i, j));
      if (call_.row_value != nullptr) keep(problem_.row_value(i));
    }
  }

  void keep(double value) { results_.push_back(std::isnan(value) ? 12345.0 : value); }

  double unit(int64_t row) const {
    return (problem_.wide() ? 1e-12 : 2e-5) * (1 + 1 / problem_.tau(row));
  }

  void expect_sample(const Reference& of, int64_t row) const {
    for (int64_t j = 0; j < problem_.classes(); ++j)
      if (of.defined())
        EXPECT_NEAR(problem_.output(row, j), of.sample(j), unit(row)) << row << " " << j;
      else
        EXPECT_TRUE(std::isnan(problem_.output(row, j))) << row << " " << j;
  }

  void expect_gradient(const Reference& of, int64_t row) const {
    std::vector<double> grad;
    for (int64_t j = 0; j < problem_.classes(); ++j) grad.push_back(problem_.grad(row, j));
    const auto [at_scores, at_tau] = of.gradient(grad);
    double size = 1;
    for (const double each : at_scores) size = std::max(size, std::fabs(each));
    for (int64_t j = 0; j < problem_.classes(); ++j)
      if (of.defined())
        EXPECT_NEAR(problem_.output(row, j), at_scores[j], 40 * unit(row) * size)
            << row << " " << j;
      else
        EXPECT_TRUE(std::isnan(problem_.output(row, j))) << row << " " << j;
    if (call_.row_value == nullptr) return;
    if (of.defined())
      EXPECT_NEAR(problem_.row_value(row), at_tau, 400 * unit(row) * std::max(size, at_tau)) << row;
    else
      EXPECT_TRUE(std::isnan(problem_.row_value(row))) << row;
  }

  int64_t k_;
  Problem problem_;
  cpu::SubsetCall call_;
  std::vector<double> results_;
};

/// Every build has the bits of the first one.
void check(const Subset& wanted) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  std::vector<double> first;
  for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(::testing::Message()
                 << builds[i].kernels->name << " " << name_of(wanted.layout.input) << ", dim "
                 << wanted.layout.dim << " of size " << wanted.layout.sizes[wanted.layout.dim]
                 << ", k " << wanted.k);
    const Run run(wanted, cpu::subset_kernels(*builds[i].kernels));
    if (first.empty()) first = run.results();
    EXPECT_TRUE(run.results() == first) << "other bits";
  }
}

Case case_of(DType type, Sizes sizes, int dim) {
  Case wanted;
  wanted.input = wanted.grad = wanted.output = type;
  wanted.sizes = std::move(sizes), wanted.dim = dim, wanted.tau = 1.3, wanted.spread = 3;
  return wanted;
}

constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat64};

TEST(Subset, EveryRowLengthMatchesTheReference) {
  for (const DType type : kTypes)
    for (const int64_t classes : {1, 2, 3, 8, 15, 16, 17, 33, 100, 256, 1000, 2049})
      for (const int64_t k : {1, 2, 8}) {
        if (HasFailure()) return;
        if (k <= classes) check({case_of(type, {7, classes}, 1), k});
      }
}

TEST(Subset, EveryDimensionAndPlacementMatchesTheReference) {
  for (const DType type : kTypes)
    for (const Placement place :
         {Placement::kContiguous, Placement::kGaps, Placement::kStepped, Placement::kTransposed})
      for (const int dim : {0, 1, 2})
        for (const bool row_value : {false, true}) {
          if (HasFailure()) return;
          Case layout = case_of(type, {9, 37, 19}, dim);
          layout.input_place = layout.grad_place = layout.output_place = place;
          layout.tau_per_row = true, layout.row_value = row_value;
          check({layout, 3});
        }
}

TEST(Subset, TheMostRoundsMatchTheReference) {
  for (const DType type : kTypes) check({case_of(type, {3, 400}, 1), math::kMostRounds});
}

}  // namespace
}  // namespace torch_gumbel::testing
