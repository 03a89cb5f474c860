// SPDX-License-Identifier: Apache-2.0
// Relaxed k-hot samples and their gradient: cases, and float64 rounds to compare with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "math/subset.h"
#include "problem.h"

namespace torch_gumbel::testing {

/// The rounds of a row as the paper has them (Xie and Ermon 2019), and their derivative.
class SubsetReference {
 public:
  SubsetReference(std::vector<double> scores, int64_t k, double tau)
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
      for (size_t j = 0; j < p.size(); ++j)
        p[j] = at_scores[j] == 0 ? grad[j] : grad[j] - at_scores[j] / (1 - a[j]);
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

/// `layout`: its input, gradient, and output have one type.
struct Subset {
  Case layout;
  int64_t k = 3;
};

/// What runs a call: forward, or, of one that has a gradient, backward.
using RunSubset = std::function<void(const SubsetParams& a)>;

/// A case, run both ways and compared with the reference; `allowance`: how much further than the
/// CPU's bound a result may be off.
class SubsetProblem {
 public:
  SubsetProblem(const Subset& wanted, const RunSubset& run, double allowance = 1)
      : k_(wanted.k), allowance_(allowance), problem_(of_gradients(wanted.layout)) {
    static_cast<KernelParams&>(call_) = problem_.arguments();
    call_.k = k_;
    const void* grad = std::exchange(call_.grad, nullptr);
    void* row_value = std::exchange(call_.row_value, nullptr);
    run(call_);
    check([&](const SubsetReference& of, int64_t i) { expect_sample(of, i); });
    call_.grad = grad, call_.row_value = row_value;
    run(call_);
    check([&](const SubsetReference& of, int64_t i) { expect_gradient(of, i); });
  }

  const std::vector<double>& results() const { return results_; }

 private:
  static Case of_gradients(Case wanted) {
    wanted.op = Op::kHardBackward;
    return wanted;
  }

  template <typename Expect>
  void check(const Expect& expect) {
    problem_.expect_surroundings_intact();
    for (int64_t i = 0; i < problem_.rows() && !::testing::Test::HasFailure(); ++i) {
      std::vector<double> scores;
      for (int64_t j = 0; j < problem_.classes(); ++j) scores.push_back(problem_.input(i, j));
      expect(SubsetReference(std::move(scores), k_, problem_.tau(i)), i);
      for (int64_t j = 0; j < problem_.classes(); ++j) keep(problem_.output(i, j));
      if (call_.row_value != nullptr) keep(problem_.row_value(i));
    }
  }

  void keep(double value) { results_.push_back(std::isnan(value) ? 12345.0 : value); }

  double unit(int64_t row) const {
    return allowance_ * (problem_.wide() ? 1e-12 : 2e-5) * (1 + 1 / problem_.tau(row));
  }

  void expect_sample(const SubsetReference& of, int64_t row) const {
    for (int64_t j = 0; j < problem_.classes(); ++j)
      if (of.defined())
        EXPECT_NEAR(problem_.output(row, j), of.sample(j), unit(row)) << row << " " << j;
      else
        EXPECT_TRUE(std::isnan(problem_.output(row, j))) << row << " " << j;
  }

  void expect_gradient(const SubsetReference& of, int64_t row) const {
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
  double allowance_;
  Problem problem_;
  SubsetParams call_;
  std::vector<double> results_;
};

inline Case subset_case(DType type, Sizes sizes, int dim) {
  Case wanted;
  wanted.input = wanted.grad = wanted.output = type;
  wanted.sizes = std::move(sizes), wanted.dim = dim, wanted.tau = 1.3, wanted.spread = 3;
  return wanted;
}

}  // namespace torch_gumbel::testing
