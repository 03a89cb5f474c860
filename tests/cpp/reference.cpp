// SPDX-License-Identifier: Apache-2.0
#include "reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "isa_probe.h"
#include "math/softmax.h"

namespace torch_gumbel::testing {
namespace {

/// Relative errors per unit of max(1, 1 / tau), for float32 and float64.
struct Bound {
  double sample;
  double gradient;
  double nothing;  // absolute
  bool of_device = false;
};

Bound bound_of(const Problem& problem, double allowance) {
  const Bound bound = problem.wide() ? Bound{1e-13, 1e-13, 1e-290} : Bound{1.2e-5, 1.5e-5, 1e-30};
  return {bound.sample * allowance, bound.gradient * allowance, bound.nothing, allowance != 1};
}

double sharpness(const Problem& problem, int64_t row) {
  return std::max(1.0, 1 / problem.tau(row));
}

void expect_near(double got, double wanted, double tolerance, const char* what, int64_t row,
                 int64_t k) {
  if (std::fabs(got - wanted) <= tolerance) return;
  ADD_FAILURE() << what << " of row " << row << ", class " << k << ": got " << got << ", wanted "
                << wanted << " +- " << tolerance;
}

/// An output near a wanted value, narrowing to the output's type allowed for: a float64 becomes a
/// half by way of float32, as in PyTorch.
void expect_output(const Problem& problem, int64_t row, int64_t k, double wanted, double error) {
  const DType type = problem.wanted().output;
  const double size = std::fabs(wanted) + error;
  const bool twice = problem.wide() && size_of(type) == 2;
  const double narrowing = half_step(type, size) + (twice ? half_step(DType::kFloat32, size) : 0);
  expect_near(problem.output(row, k), wanted, error + narrowing, "output", row, k);
}

void expect_sample(const Problem& problem, int64_t row, const Bound& bound) {
  double lse = 0;
  const auto y = true_sample(problem, row, &lse);
  for (int64_t k = 0; k < problem.classes(); ++k) {
    if (y[k] == 0 && std::isinf(problem.input(row, k))) {
      EXPECT_EQ(problem.output(row, k), 0) << "a masked class";
      continue;
    }
    const double error = bound.sample * sharpness(problem, row) * y[k] + bound.nothing;
    expect_output(problem, row, k, y[k], error);
  }
  if (problem.arguments().row_value == nullptr) return;
  const double error = bound.sample * std::max(1.0, std::fabs(lse));
  expect_near(problem.row_value(row), lse, error, "log-sum-exp", row, 0);
}

/// What a gradient y (grad - dot) / tau may be off by, per y max(1, 1 / tau) / tau. A device's
/// samples are within their bound b by design, which puts y off by b y and dot by b times the mean
/// of |grad - dot|; in peaked rows, where |grad - dot| comes to twice the steepest gradient, that
/// is more than the bound of gradients. No sample of a CPU is off by that much.
double gradient_error(const Bound& bound, double steepest, double difference, double mean) {
  const double promised = bound.gradient * steepest;
  return bound.of_device ? std::max(promised, bound.sample * (std::fabs(difference) + mean))
                         : promised;
}

void expect_gradient(const Problem& problem, int64_t row, const std::vector<double>& y,
                     const Bound& bound) {
  const double tau = problem.tau(row), scale = sharpness(problem, row) / tau;
  double dot = 0, steepest = 0, mean = 0, tau_gradient = 0, entropy = 0;
  for (int64_t k = 0; k < problem.classes(); ++k) {
    dot += y[k] * problem.grad(row, k);
    steepest = std::max(steepest, std::fabs(problem.grad(row, k)));
  }
  for (int64_t k = 0; k < problem.classes(); ++k)
    mean += y[k] * std::fabs(problem.grad(row, k) - dot);
  for (int64_t k = 0; k < problem.classes(); ++k) {
    const double difference = problem.grad(row, k) - dot, wanted = y[k] * difference / tau;
    if (y[k] > 0) {
      tau_gradient -= wanted * std::log(y[k]);
      entropy -= y[k] * std::log(y[k]);
      expect_output(
          problem, row, k, wanted,
          scale * y[k] * gradient_error(bound, steepest, difference, mean) + bound.nothing);
    } else {
      EXPECT_EQ(problem.output(row, k), 0) << "a masked class";
    }
  }
  if (problem.arguments().row_value == nullptr) return;
  const double error = scale * bound.gradient * steepest * entropy + bound.nothing;
  expect_near(problem.row_value(row), tau_gradient, error, "tau's gradient", row, 0);
}

void expect_choice(const Problem& problem, int64_t row) {
  const int64_t choice = exact_choice(problem, row);
  if (problem.wanted().op == Op::kArgmax) {
    EXPECT_EQ(problem.index(row), choice) << "row " << row;
    if (problem.arguments().row_value != nullptr) {
      EXPECT_EQ(problem.row_value(row), exact_score(problem, row, choice)) << "row " << row;
    }
    return;
  }
  const bool beside = problem.wanted().op == Op::kHardSoft;
  for (int64_t k = 0; k < problem.classes(); ++k) {
    const double got = beside ? problem.one_hot(row, k) : problem.output(row, k);
    ASSERT_EQ(got, k == choice ? 1 : 0) << "row " << row << ", class " << k;
  }
}

void expect_noise(const Problem& problem, int64_t row) {
  for (int64_t k = 0; k < problem.classes(); ++k) {
    const double wanted = true_noise(problem.key(row), problem.position(row, k), problem.wide());
    const double unit = problem.wide() ? 0x1p-51 : 0x1p-22;
    const double error = unit * std::max(1.0, std::fabs(wanted));
    expect_output(problem, row, k, wanted, error);
  }
}

std::vector<double> given_sample(const Problem& problem, int64_t row) {
  std::vector<double> y;
  for (int64_t k = 0; k < problem.classes(); ++k) y.push_back(problem.input(row, k));
  return y;
}

}  // namespace

double true_noise(math::Key key, uint64_t position, bool both_words) {
  const uint64_t word = math::key_word(key, position);
  const uint64_t extension = math::key_word(key, position, math::Plane::kExtension);
  long double v = (word + 0.5L) * 0x1p-32L;
  if (both_words || word < math::kExtendBelow)
    v = static_cast<long double>(word << 32 | extension) * 0x1p-64L + 0x1p-65L;
  return static_cast<double>(-std::log(-std::log1p(-v)));
}

double exact_score(const Problem& problem, int64_t row, int64_t k) {
  const math::Key key = problem.key(row);
  const uint64_t position = problem.position(row, k);
  const uint32_t word = math::key_word(key, position);
  const uint32_t extension = math::key_word(key, position, math::Plane::kExtension);
  const bool scaled = problem.wanted().op == Op::kArgmax;
  const double x = problem.input(row, k), tau = problem.tau(row);
  if (problem.wide()) {
    const double inverse = math::sampling_inverse_of<double>(tau);
    return (scaled ? math::scaled_logit(x, inverse) : x) + math::gumbel64(word, extension);
  }
  const auto single = static_cast<float>(x);
  const float inverse = math::sampling_inverse_of<float>(tau);
  return (scaled ? math::scaled_logit(single, inverse) : single) + math::gumbel(word, extension);
}

int64_t exact_choice(const Problem& problem, int64_t row) {
  double best = -INFINITY;
  int64_t choice = 0;
  for (int64_t k = 0; k < problem.classes(); ++k) {
    const double score = exact_score(problem, row, k);
    if (score > best) best = score, choice = k;
  }
  return choice;
}

std::vector<double> true_sample(const Problem& problem, int64_t row, double* lse) {
  const math::Key key = problem.key(row);
  const double tau = problem.tau(row);
  std::vector<double> y;
  double highest = -INFINITY, sum = 0;
  for (int64_t k = 0; k < problem.classes(); ++k) {
    const double noise = true_noise(key, problem.position(row, k), problem.wide());
    y.push_back((problem.input(row, k) + noise) / tau);
    highest = std::max(highest, y.back());
  }
  for (double& value : y) sum += value = std::exp(value - highest);
  for (double& value : y) value /= sum;
  if (lse != nullptr) *lse = highest + std::log(sum);
  return y;
}

void expect_reference(const Problem& problem, double allowance) {
  const Bound bound = bound_of(problem, allowance);
  for (int64_t row = 0; row < problem.rows() && !::testing::Test::HasFailure(); ++row) {
    switch (problem.wanted().op) {
      case Op::kSoft:
        expect_sample(problem, row, bound);
        break;
      case Op::kHardSoft:
        expect_sample(problem, row, bound);
        expect_choice(problem, row);
        break;
      case Op::kBackward:
        expect_gradient(problem, row, given_sample(problem, row), bound);
        break;
      case Op::kHardBackward:
        expect_gradient(problem, row, true_sample(problem, row, nullptr), bound);
        break;
      case Op::kNoise:
        expect_noise(problem, row);
        break;
      default:
        expect_choice(problem, row);
    }
  }
}

void check_every_build(const Case& wanted) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  std::vector<uint64_t> first;
  for (int i = 0; i < count && !::testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(::testing::Message()
                 << builds[i].kernels->name << " " << name_of(wanted.input) << " to "
                 << name_of(wanted.output) << ", dim " << wanted.dim << " of "
                 << ::testing::PrintToString(wanted.sizes) << ", tau " << wanted.tau
                 << (wanted.tau_per_row ? " by row" : ""));
    Problem problem(wanted);
    problem.run(*builds[i].kernels);
    if (i == 0) {
      expect_reference(problem);
      first = problem.results();
    } else {
      EXPECT_TRUE(first == problem.results()) << "bits differ from those of the first build";
    }
  }
}

}  // namespace torch_gumbel::testing
