// SPDX-License-Identifier: Apache-2.0
// Scaling by a temperature, exponentials of non-positive numbers, logarithms of probabilities.
#include "math/softmax.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <vector>

#include "isa_probe.h"
#include "math/philox.h"

namespace torch_gumbel::math {
namespace {

constexpr double kInfinity = INFINITY;
constexpr double kBadTaus[] = {0.0, -0.0, -1.0, -1e-320, kInfinity, -kInfinity, NAN};
constexpr double kEdgeTaus[] = {5e-324, 1e-310, DBL_MIN, 1e-300, 1e-46, 1e-45,  1e-39,
                                1e-38,  1e-10,  0.1,     1.0,    3.0,   1e10,   1e38,
                                1e39,   1e45,   1e46,    1e300,  1e308, DBL_MAX};

double unit(uint64_t i) { return key_word({8, 0}, i) * 0x1p-32; }

TEST(Temperature, ValidIsPositiveAndFinite) {
  for (const double tau : kBadTaus) EXPECT_FALSE(valid_temperature(tau)) << tau;
  for (const double tau : kEdgeTaus) EXPECT_TRUE(valid_temperature(tau)) << tau;
}

TEST(InverseTemperature, IsPositiveAndFiniteForEveryValidTau) {
  for (const double tau : kEdgeTaus) {
    const float single = inverse_temperature<float>(tau);
    const double wide = inverse_temperature<double>(tau);
    EXPECT_TRUE(single > 0 && std::isfinite(single)) << tau;
    EXPECT_TRUE(wide > 0 && std::isfinite(wide)) << tau;
    EXPECT_EQ(-INFINITY * single, -INFINITY);
  }
}

TEST(InverseTemperature, IsTheRoundedQuotient) {
  for (const double tau : {0.1, 0.5, 1.0, 3.0, 7.0, 1e-10, 1e10}) {
    EXPECT_EQ(inverse_temperature<float>(tau), 1.0f / static_cast<float>(tau));
    EXPECT_EQ(inverse_temperature<double>(tau), 1.0 / tau);
  }
}

TEST(InverseTemperature, IsNanForEveryOtherTau) {
  for (const double tau : kBadTaus) {
    EXPECT_TRUE(std::isnan(inverse_temperature<float>(tau)));
    EXPECT_TRUE(std::isnan(inverse_temperature<double>(tau)));
    EXPECT_TRUE(std::isnan(exponent_scale<float>(tau).high));
    EXPECT_TRUE(std::isnan(exponent_scale<double>(tau).high));
  }
}

TEST(ScaledLogit, SaturatesFiniteLogitsOnly) {
  for (const double tau : kEdgeTaus) {
    const float inverse = inverse_temperature<float>(tau);
    EXPECT_TRUE(std::isfinite(scaled_logit(FLT_MAX, inverse))) << tau;
    EXPECT_TRUE(std::isfinite(scaled_logit(-FLT_MAX, inverse))) << tau;
    EXPECT_EQ(scaled_logit(-INFINITY, inverse), -INFINITY) << tau;
    EXPECT_EQ(scaled_logit(INFINITY, inverse), INFINITY) << tau;
    EXPECT_EQ(scaled_logit(0.0f, inverse), 0.0f) << tau;
    EXPECT_TRUE(std::isnan(scaled_logit(NAN, inverse))) << tau;
  }
  EXPECT_EQ(scaled_logit(1e30f, 1e30f), FLT_MAX);
  EXPECT_EQ(scaled_logit(-1e30f, 1e30f), -FLT_MAX);
  EXPECT_EQ(scaled_logit(1e300, 1e300), DBL_MAX);
  EXPECT_EQ(scaled_logit(3.0f, 0.1f), 3.0f * 0.1f);
  for (const double tau : kBadTaus)
    EXPECT_TRUE(std::isnan(scaled_logit(1.0f, inverse_temperature<float>(tau)))) << tau;
}

TEST(ScaledLogit, KeepsMasksWhereTheInverseWasFlushedToZero) {
  EXPECT_EQ(scaled_logit(-INFINITY, 0.0f), -INFINITY);
  EXPECT_EQ(scaled_logit(-kInfinity, 0.0), -kInfinity);
}

TEST(SamplingInverse, IsBoundedSoThatLogitsKeepTheirOrder) {
  for (const double tau : kEdgeTaus) {
    const float single = sampling_inverse_of<float>(tau);
    const double wide = sampling_inverse_of<double>(tau);
    EXPECT_EQ(single, std::fmin(inverse_temperature<float>(tau), 0x1p64f)) << tau;
    EXPECT_EQ(wide, std::fmin(inverse_temperature<double>(tau), 0x1p512)) << tau;
    EXPECT_LT(scaled_logit(-0x1.8p63f, single), scaled_logit(-0x1p63f, single)) << tau;
    if (tau <= 1e10) {
      EXPECT_LT(scaled_logit(1.0f, single), scaled_logit(1.0f + FLT_EPSILON, single)) << tau;
    }
    EXPECT_LT(scaled_logit(0x1p500, wide), scaled_logit(0x1.8p500, wide)) << tau;
  }
  for (const double tau : kBadTaus) EXPECT_TRUE(std::isnan(sampling_inverse_of<float>(tau))) << tau;
}

TEST(ExpOfDifference, IsRightWhereTheDifferenceOverflows) {
  for (const double tau : {3e38, 1e38, 2e37, 1e300}) {
    const double wanted = std::exp(-6.8e38 / tau), eps = 1e-5 * wanted + 1e-7;
    EXPECT_NEAR(exp_of_difference(-3.4e38f, 3.4e38f, exponent_scale<float>(tau)), wanted, eps);
    EXPECT_NEAR(exp_of_difference(-3.4e38, 3.4e38, exponent_scale<double>(tau)), wanted, eps);
    EXPECT_EQ(exp_of_difference(-INFINITY, 3.4e38f, exponent_scale<float>(tau)), 0.0f);
  }
  const double wanted = std::exp(-2.0), tau = 1.7e308;
  EXPECT_NEAR(exp_of_difference(-tau, tau, exponent_scale<double>(tau)), wanted, 1e-12);
  EXPECT_EQ(exp_of_difference(-3e38f, 3e38f, exponent_scale<float>(1.0)), 0.0f);
  EXPECT_EQ(exp_of_difference(-3e38f, 3e38f, exponent_scale<float>(1e-40)), 0.0f);
  const auto ordinary = exponent_scale<float>(0.7);
  EXPECT_EQ(exp_of_difference(1.0f, 3.0f, ordinary), exp_scaled(-2.0f, ordinary));
}

TEST(ExponentScale, CarriesMoreThanAFloat) {
  for (const double tau : {0.1, 0.3, 1.0, 3.0, 10.0}) {
    const auto scale = exponent_scale<float>(tau);
    const double sum = static_cast<double>(scale.high) + scale.low;
    EXPECT_LT(std::fabs(sum * tau / std::log2(std::exp(1.0)) - 1), 0x1p-46) << tau;
  }
}

TEST(ExponentScale, IsFiniteAndPositiveForEveryValidTau) {
  for (const double tau : kEdgeTaus) {
    const auto scale = exponent_scale<float>(tau);
    EXPECT_TRUE(scale.high > 0 && std::isfinite(scale.high) && std::isfinite(scale.low)) << tau;
  }
}

/// Worst error of exp(d / tau) over a sweep, in units of its stated bound.
double worst_error(double tau) {
  const auto scale = exponent_scale<float>(tau);
  double worst = 0;
  for (uint64_t i = 0; i < 400000; ++i) {
    const auto d = static_cast<float>(-unit(i) * 87 * tau);
    const double wanted = std::exp(d / tau), error = std::fabs(exp_scaled(d, scale) / wanted - 1);
    worst = std::max(worst, error / (0x1p-23 + std::fabs(d / tau) * 0x1p-45));
  }
  return worst;
}

TEST(ExpScaled, MeetsItsBound) {
  for (const double tau : {0.01, 0.1, 0.3, 1.0, 2.0, 10.0, 1e6}) EXPECT_LT(worst_error(tau), 1);
}

TEST(ExpScaled, Float64MeetsItsBound) {
  double worst = 0;
  for (const double tau : {0.1, 1.0, 3.0})
    for (uint64_t i = 0; i < 200000; ++i) {
      const double d = -unit(i) * 700 * tau;
      const long double wanted = std::exp(static_cast<long double>(d) / tau);
      const double got = exp_scaled(d, exponent_scale<double>(tau));
      const auto error = static_cast<double>(std::fabs(got / wanted - 1));
      worst = std::max(worst, error / (0x1p-52 + std::fabs(d / tau) * 0x1p-52));
    }
  EXPECT_LT(worst, 1);
}

TEST(ExpScaled, SpecialValues) {
  for (const double tau : kEdgeTaus) {
    const auto single = exponent_scale<float>(tau);
    const auto wide = exponent_scale<double>(tau);
    EXPECT_EQ(exp_scaled(0.0f, single), 1.0f) << tau;
    EXPECT_EQ(exp_scaled(0.0, wide), 1.0) << tau;
    EXPECT_EQ(exp_scaled(-INFINITY, single), 0.0f) << tau;
    EXPECT_EQ(exp_scaled(-kInfinity, wide), 0.0) << tau;
    EXPECT_TRUE(std::isnan(exp_scaled(NAN, single))) << tau;
    EXPECT_TRUE(std::isnan(exp_scaled(std::nan(""), wide))) << tau;
  }
}

TEST(ExpScaled, NeverLeavesZeroToOne) {
  for (const double tau : kEdgeTaus)
    for (const float d :
         {-FLT_MAX, -1e30f, -1e10f, -1e3f, -1.0f, -1e-3f, -1e-30f, -FLT_MIN, -1e-45f}) {
      const float single = exp_scaled(d, exponent_scale<float>(tau));
      const double wide = exp_scaled(static_cast<double>(d), exponent_scale<double>(tau));
      EXPECT_TRUE(single >= 0 && single <= 1) << d << " " << tau << " gave " << single;
      EXPECT_TRUE(wide >= 0 && wide <= 1) << d << " " << tau << " gave " << wide;
    }
}

TEST(ExpScaled, IsZeroBelowTheSmallestNormalResult) {
  const auto scale = exponent_scale<float>(1.0);
  EXPECT_EQ(exp_scaled(-87.4f, scale), 0.0f);
  EXPECT_GT(exp_scaled(-87.3f, scale), 0.0f);
  EXPECT_EQ(exp_scaled(-708.5, exponent_scale<double>(1.0)), 0.0);
  EXPECT_GT(exp_scaled(-707.9, exponent_scale<double>(1.0)), 0.0);
}

TEST(ExpScaled, BadTemperatureGivesNan) {
  for (const double tau : kBadTaus)
    for (const float d : {0.0f, -1.0f, -1e30f, -INFINITY}) {
      EXPECT_TRUE(std::isnan(exp_scaled(d, exponent_scale<float>(tau)))) << tau << " " << d;
      const auto wide = static_cast<double>(d);
      EXPECT_TRUE(std::isnan(exp_scaled(wide, exponent_scale<double>(tau)))) << tau << " " << d;
    }
}

TEST(LogProbability, ZeroCountsAsZero) {
  EXPECT_EQ(log_probability(0.0f), 0.0f);
  EXPECT_EQ(log_probability(0.0), 0.0);
  EXPECT_EQ(log_probability(1.0f), 0.0f);
  EXPECT_EQ(log_probability(1.0), 0.0);
  EXPECT_TRUE(std::isnan(log_probability(NAN)));
  EXPECT_TRUE(std::isnan(log_probability(std::nan(""))));
}

TEST(LogProbability, IsTheLogarithmAndTamesSubnormals) {
  for (const float y : {0.5f, 1e-3f, 1e-20f, FLT_MIN, 0.99999994f})
    EXPECT_NEAR(log_probability(y), std::log(y), 0x1p-23 * std::max(1.0f, -std::log(y)));
  for (const float y : {1e-45f, 1e-40f, 1.1e-38f}) {
    EXPECT_NEAR(y * log_probability(y), y * std::log(y), 1e-36) << y;
    EXPECT_TRUE(std::isfinite(log_probability(y)));
  }
}

/// Loops end where they should, whatever they are cut into.
TEST(SoftmaxBuilds, WriteNothingBehindTheEnd) {
  const std::vector<float> d(70, -1.5f);
  const float wanted = exp_scaled(-1.5f, exponent_scale<float>(1.0));
  int builds = 0;
  const auto* build = testing::runnable_builds(builds);
  for (int b = 0; b < builds; ++b)
    for (int64_t count = 0; count <= 66; ++count) {
      std::vector<float> result(70, 8.0f);
      build[b].probe->exp_scaled(d.data(), count, 1.0, result.data());
      for (int64_t i = 0; i < 70; ++i)
        ASSERT_EQ(result[i], i < count ? wanted : 8.0f) << count << " " << i;
    }
}

/// Vectorised builds give the bits of the scalar text.
TEST(SoftmaxBuilds, GiveEqualBits) {
  std::vector<float> d, y;
  std::vector<double> wide;
  for (uint64_t i = 0; i < 100000; ++i) {
    d.push_back(static_cast<float>(-unit(i) * (i % 7 == 0 ? 1e5 : 100)));
    wide.push_back(-unit(i) * (i % 7 == 0 ? 1e5 : 800));
    y.push_back(static_cast<float>(std::exp(-unit(i) * 80)));
  }
  d.insert(d.end(), {0.0f, -INFINITY, -FLT_MAX, -1e-45f, 0.3f, 5.5f, 15.9f, 16.0f});
  wide.insert(wide.end(), {0.0, -kInfinity, -DBL_MAX, -5e-324, -1e-300, -0.3, -707.9, -708.1});
  y.insert(y.end(), {0.0f, 1.0f, 1e-45f, FLT_MIN, 0.5f, 0.25f, FLT_EPSILON, 0.99f});
  ASSERT_TRUE(wide.size() == d.size() && y.size() == d.size());
  const auto count = static_cast<int64_t>(d.size());
  int builds = 0;
  const auto* build = testing::runnable_builds(builds);
  for (int b = 0; b < builds; ++b)
    for (const double tau : {0.1, 1.0, 3.0, 1e-300, 1e300}) {
      std::vector<float> single(count), logs(count);
      std::vector<double> doubles(count);
      build[b].probe->exp_scaled(d.data(), count, tau, single.data());
      build[b].probe->exp_scaled64(wide.data(), count, tau, doubles.data());
      build[b].probe->log_probability(y.data(), count, logs.data());
      for (int64_t i = 0; i < count; ++i) {
        const float wanted = exp_scaled(d[i], exponent_scale<float>(tau));
        ASSERT_TRUE(single[i] == wanted || d[i] / tau > 88) << d[i] << " " << tau;
        ASSERT_EQ(doubles[i], exp_scaled(wide[i], exponent_scale<double>(tau))) << wide[i];
        ASSERT_EQ(logs[i], log_probability(y[i])) << y[i];
      }
    }
}

}  // namespace
}  // namespace torch_gumbel::math
