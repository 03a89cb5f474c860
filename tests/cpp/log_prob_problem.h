// SPDX-License-Identifier: Apache-2.0
// Log-probabilities and entropies: cases, and a float64 reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "math/log_prob.h"
#include "problem.h"

namespace torch_gumbel::testing {

/// One value per row, of the compute type.
class ValuesOfRows {
 public:
  ValuesOfRows(bool wide, int64_t count) : wide_(wide), doubles_(count), floats_(count) {}
  void* data() { return wide_ ? static_cast<void*>(doubles_.data()) : floats_.data(); }
  double operator[](int64_t i) const { return wide_ ? doubles_[i] : floats_[i]; }
  void set(int64_t i, double value) { doubles_[i] = value, floats_[i] = static_cast<float>(value); }

 private:
  bool wide_;
  std::vector<double> doubles_;
  std::vector<float> floats_;
};

/// A problem of logits, with a class and two incoming gradients for every row. `forward` and
/// `backward` are to be run one after the other.
class LogProbProblem {
 public:
  explicit LogProbProblem(const Case& wanted)
      : problem_(with_op(wanted)), chosen_(problem_.rows()) {
    const int64_t count = problem_.rows();
    for (int64_t i = 0; i < count; ++i) {
      chosen_[i] = i * 7 % problem_.classes();
      at_log_prob_.set(i, 1.5 - static_cast<double>(i % 3));
      at_entropy_.set(i, 0.25 * static_cast<double>(i % 5) - 0.5);
    }
    static_cast<KernelParams&>(params_) = problem_.arguments();
    params_.index = chosen_.data(), params_.grad = nullptr;
    params_.log_prob = log_prob_.data(), params_.entropy = entropy_.data();
    params_.max = max_.data(), params_.sum = sum_.data(), params_.mean = mean_.data();
    params_.grad_log_prob = at_log_prob_.data(), params_.grad_entropy = at_entropy_.data();
  }

  const LogProbParams& params() const { return params_; }
  Problem& problem() { return problem_; }

  void expect_reference(double allowance) const {
    problem_.expect_surroundings_intact();
    const double unit = allowance * (problem_.wide() ? 1e-12 : 3e-6);
    for (int64_t i = 0; i < problem_.rows() && !::testing::Test::HasFailure(); ++i)
      expect_row(i, unit * (1 + 1 / problem_.tau(i)));
  }

  /// Everything that was written.
  std::vector<double> results() const {
    std::vector<double> all;
    for (int64_t i = 0; i < problem_.rows(); ++i) {
      for (const auto* each : {&log_prob_, &entropy_, &max_, &sum_, &mean_})
        all.push_back((*each)[i]);
      if (params_.row_value != nullptr) all.push_back(problem_.row_value(i));
      for (int64_t k = 0; k < problem_.classes(); ++k) all.push_back(problem_.output(i, k));
    }
    return all;
  }

 private:
  static Case with_op(Case wanted) {
    wanted.op = Op::kHardBackward;  // of logits and gradients
    return wanted;
  }

  static void expect_close(double got, double wanted, double tolerance, const char* what) {
    if (got == wanted) return;  // infinite ones
    EXPECT_NEAR(got, wanted, tolerance * std::max(1.0, std::fabs(wanted))) << what;
  }

  void expect_row(int64_t row, double tolerance) const {
    const int64_t classes = problem_.classes(), choice = chosen_[row];
    const double tau = problem_.tau(row);
    std::vector<double> log_p(classes);
    double most = -INFINITY, sum = 0, entropy = 0, spread = 0;
    for (int64_t k = 0; k < classes; ++k) most = std::max(most, problem_.input(row, k));
    for (int64_t k = 0; k < classes; ++k)
      sum += std::exp(log_p[k] = (problem_.input(row, k) - most) / tau);
    const auto p = [&](int64_t k) { return std::exp(log_p[k]); };
    for (double& each : log_p) each -= std::log(sum);
    for (int64_t k = 0; k < classes; ++k)
      if (p(k) > 0) entropy -= p(k) * log_p[k];
    expect_close(log_prob_[row], log_p[choice], tolerance, "log-probability");
    expect_close(entropy_[row], entropy, tolerance, "entropy");
    const double a = log_p[choice] > -INFINITY ? at_log_prob_[row] : 0, b = at_entropy_[row];
    for (int64_t k = 0; k < classes; ++k) {
      const double u = p(k) > 0 ? log_p[k] + entropy : 0;
      spread += p(k) * u * u;
      const double wanted = ((k == choice ? a : 0) - p(k) * (a + b * u)) / tau;
      const double rounding = half_step(problem_.wanted().output, wanted) * 1.01;
      EXPECT_NEAR(problem_.output(row, k), wanted, 4 * tolerance / tau + rounding)
          << row << " " << k;
    }
    if (params_.row_value == nullptr) return;
    const double of_choice = a == 0 ? 0 : a * (log_p[choice] + entropy);
    expect_close(problem_.row_value(row), (b * spread - of_choice) / tau, 100 * tolerance / tau,
                 "gradient at the temperature");
  }

  Problem problem_;
  std::vector<int64_t> chosen_;
  ValuesOfRows log_prob_ = rows(), entropy_ = rows(), max_ = rows(), sum_ = rows(), mean_ = rows(),
               at_log_prob_ = rows(), at_entropy_ = rows();
  LogProbParams params_;

  ValuesOfRows rows() const { return {problem_.wide(), problem_.rows()}; }
};

}  // namespace torch_gumbel::testing
