// SPDX-License-Identifier: Apache-2.0
// The backward of one-hot samples: cases, and a float64 reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "math/estimators.h"
#include "problem.h"

namespace torch_gumbel::testing {

constexpr Estimator kAllEstimators[] = {Estimator::kStraightThrough, Estimator::kZgr,
                                        Estimator::kReinMax, Estimator::kGapped,
                                        Estimator::kGumbelRao};

/// A problem of logits and gradients, with drawn classes.
class OneHotProblem {
 public:
  OneHotProblem(const Case& wanted, Estimator estimator, int32_t draws = 3)
      : problem_(with_op(wanted)), chosen_(problem_.rows()) {
    KernelParams& a = problem_.arguments();
    for (int64_t i = 0; i < problem_.rows(); ++i) chosen_[i] = i * 7 % problem_.classes();
    for (int64_t i = 0; i < problem_.rows(); ++i)  // masked classes are not drawn
      while (problem_.input(i, chosen_[i]) == -INFINITY) chosen_[i] = 0;
    a.index = chosen_.data(), a.estimator = estimator, a.draws = draws, a.gap = 0.75;
    if (estimator == Estimator::kZgr || estimator == Estimator::kReinMax) a.row_value = nullptr;
  }

  Problem& problem() { return problem_; }
  KernelParams& arguments() { return problem_.arguments(); }

  void expect_reference(double allowance) const {
    const double unit = allowance * (problem_.wide() ? 1e-12 : 3e-6);
    for (int64_t i = 0; i < problem_.rows() && !::testing::Test::HasFailure(); ++i) {
      double at_tau = 0;
      const std::vector<double> wanted = gradient(i, at_tau);
      const double tolerance = unit * (1 + 1 / problem_.tau(i) + std::fabs(log_range(i)));
      for (int64_t k = 0; k < problem_.classes(); ++k) {
        const double rounding = half_step(problem_.wanted().output, wanted[k]) * 1.01;
        EXPECT_NEAR(problem_.output(i, k), wanted[k], tolerance + rounding) << i << " " << k;
      }
      if (problem_.arguments().row_value != nullptr) {
        EXPECT_NEAR(problem_.row_value(i), at_tau, 100 * tolerance) << i;
      }
    }
  }

 private:
  static Case with_op(Case wanted) {
    wanted.op = Op::kHardBackward;  // of logits and gradients
    return wanted;
  }

  double log_range(int64_t row) const {
    double most = 0;
    for (int64_t k = 0; k < problem_.classes(); ++k)
      if (problem_.input(row, k) > -INFINITY)
        most = std::max(most, std::fabs(problem_.input(row, k)));
    return most;
  }

  /// softmax(x / tau).
  static std::vector<double> softmax(std::vector<double> x, double tau) {
    double most = -INFINITY, sum = 0;
    for (const double each : x) most = std::max(most, each);
    for (double& each : x) sum += each = std::exp((each - most) / tau);
    for (double& each : x) each /= sum;
    return x;
  }

  /// scale J(y) g, added to `to`.
  void add_jacobian(const std::vector<double>& y, int64_t row, double scale,
                    std::vector<double>& to) const {
    double mean = 0;
    for (size_t k = 0; k < y.size(); ++k) mean += y[k] * problem_.grad(row, k);
    for (size_t k = 0; k < y.size(); ++k) to[k] += scale * y[k] * (problem_.grad(row, k) - mean);
  }

  double exponential(int64_t row, int64_t k, int32_t draw) const {
    const math::Plane plane = math::plane_of_draw(draw);
    const math::Key key = problem_.key(row);
    const uint64_t position = problem_.position(row, k);
    const uint64_t word = math::key_word(key, position, plane);
    const uint64_t more = math::key_word(key, position, math::extension_of(plane));
    long double v = (word + 0.5L) * 0x1p-32L;
    if (problem_.wide() || word < math::kExtendBelow)
      v = static_cast<long double>(word << 32 | more) * 0x1p-64L + 0x1p-65L;
    return static_cast<double>(-std::log1p(-v));
  }

  /// -sum_k l_k log y_k of l = J(y) g scale.
  double tau_gradient(const std::vector<double>& y, int64_t row, double scale) const {
    std::vector<double> l(y.size());
    add_jacobian(y, row, scale, l);
    double sum = 0;
    for (size_t k = 0; k < y.size(); ++k)
      if (y[k] > 0) sum -= l[k] * std::log(y[k]);
    return sum;
  }

  std::vector<double> gradient(int64_t row, double& at_tau) const {
    const KernelParams& a = problem_.arguments();
    const int64_t classes = problem_.classes(), choice = chosen_[row];
    const double tau = problem_.tau(row);
    std::vector<double> x, result(classes);
    for (int64_t k = 0; k < classes; ++k) x.push_back(problem_.input(row, k));
    const std::vector<double> p = softmax(x, 1);
    const auto surrogate = [&](const std::vector<double>& y, double share) {
      add_jacobian(y, row, share / tau, result);
      at_tau += tau_gradient(y, row, share / tau);
    };
    if (a.estimator == Estimator::kStraightThrough) {
      surrogate(softmax(x, tau), 1);
    } else if (a.estimator == Estimator::kGapped) {
      double most = -INFINITY;
      for (const double each : x) most = std::max(most, each);
      for (int64_t k = 0; k < classes; ++k)
        x[k] = k == choice ? most : std::min(x[k], most - a.gap);
      surrogate(softmax(x, tau), 1);
    } else if (a.estimator == Estimator::kGumbelRao) {
      for (int32_t m = 0; m < a.draws; ++m) {
        std::vector<double> scores(classes);
        for (int64_t k = 0; k < classes; ++k)
          if (k != choice)
            scores[k] = -std::log1p(exponential(row, k, m) / (exponential(row, choice, m) * p[k]));
        surrogate(softmax(scores, tau), 1.0 / a.draws);
      }
    } else {
      std::vector<double> middle = softmax(x, a.estimator == Estimator::kZgr ? 1 : tau);
      for (int64_t k = 0; k < classes; ++k) middle[k] = (middle[k] + (k == choice)) / 2;
      add_jacobian(middle, row, 2, result);
      add_jacobian(p, row, -0.5, result);
    }
    return result;
  }

  Problem problem_;
  std::vector<int64_t> chosen_;
};

}  // namespace torch_gumbel::testing
