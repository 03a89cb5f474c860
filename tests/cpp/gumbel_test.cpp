// SPDX-License-Identifier: Apache-2.0
// Word -> Gumbel noise: edges, and errors against wider arithmetic.
#include "math/gumbel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "isa_probe.h"

namespace torch_gumbel::math {
namespace {

using Real = long double;

constexpr uint32_t kEdges[] = {
    0,          1,          2,          254,        255,        256,        257,
    0x00FFFFFF, 0x01000000, 0x3FFFFFFF, 0x40000000, 0x7FFFFF7F, 0x7FFFFFFE, 0x7FFFFFFF,
    0x80000000, 0x80000001, 0xBFFFFFFF, 0xC0000000, 0xFFFFFF00, 0xFFFFFFFE, 0xFFFFFFFF};
constexpr uint32_t kExtensions[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};

/// -log1p(-v) for v = (word + 1/2) 2^-32, and for the extended v; 1 - v is exact where v is large.
Real true_exponential(uint32_t word) {
  if (word < 0x80000000) return -std::log1p(-(word + 0.5L) * 0x1p-32L);
  return -std::log((~word + 0.5L) * 0x1p-32L);
}

Real true_exponential(uint32_t word, uint32_t extension) {
  const uint64_t wide = uint64_t{word} << 32 | extension;
  if (word < 0x80000000) return -std::log1p(-(static_cast<Real>(wide) * 0x1p-64L + 0x1p-65L));
  return -std::log(static_cast<Real>(~wide) * 0x1p-64L + 0x1p-65L);
}

Real relative(Real got, Real wanted) { return std::fabs(got / wanted - 1); }

/// |noise error| in units of 2^-24 max(1, |noise|), from an exponential with a relative error.
Real noise_error(float got, Real e) {
  const Real wanted = -std::log(e);
  return std::fabs(got - wanted) / (0x1p-24L * std::max<Real>(1, std::fabs(wanted)));
}

TEST(Exponential, EdgesAreRight) {
  for (const uint32_t word : kEdges) {
    EXPECT_LT(relative(exp1(word), true_exponential(word)), 0x1p-23) << word;
    EXPECT_GE(exp1(word), 0x1p-33f);
    EXPECT_LE(exp1(word), 23.0f);
  }
  EXPECT_EQ(exp1(0), 0x1p-33f);
}

TEST(Exponential, ExtendedEdgesAreRight) {
  for (uint32_t word = 0; word < kExtendBelow; ++word)
    for (const uint32_t extension : kExtensions) {
      const float e = exp1(word, extension);
      EXPECT_LT(relative(e, true_exponential(word, extension)), 0x1p-23);
      EXPECT_GE(e, 0x1p-65f);
      EXPECT_LE(e, 0x1p-24f);
    }
  EXPECT_EQ(exp1(0, 0), 0x1p-65f);
}

TEST(Exponential, SweepMeetsItsBound) {
  Real worst = 0;
  for (uint64_t word = 0; word < (uint64_t{1} << 32); word += 4093) {
    const auto w = static_cast<uint32_t>(word);
    worst = std::max(worst, relative(exp1(w), true_exponential(w)));
  }
  EXPECT_LT(worst, 0x1.4p-23L);
}

TEST(MinusLog1pMinus, SweepMeetsItsBound) {
  Real worst = 0;
  for (uint32_t bits = bit_cast<uint32_t>(0x1p-24f); bits <= bit_cast<uint32_t>(0.5f); bits += 61) {
    const auto t = bit_cast<float>(bits);
    worst = std::max(worst, relative(minus_log1p_minus(t), -std::log1p(-static_cast<Real>(t))));
  }
  EXPECT_LT(worst, 0x1.6p-24L);
}

TEST(LogNormal, EveryMantissaMeetsItsBound) {
  double worst = 0;
  for (const int exponent : {0, -1, 1, -24, -65, 4, -126, 127})
    for (uint32_t fraction = 0; fraction < (1u << 23); fraction += exponent == 0 ? 1 : 37) {
      const auto x = bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23 | fraction);
      const double wanted = std::log(static_cast<double>(x));
      worst = std::max(worst, std::fabs(log_normal(x) - wanted) / std::max(1.0, std::fabs(wanted)));
    }
  EXPECT_LT(worst, 0x1.6p-24);
  EXPECT_EQ(log_normal(1.0f), 0.0f);
}

TEST(LogNormal, Float64SweepStaysWithinAnUlp) {
  Real worst = 0;
  for (uint64_t i = 0; i < 2000000; ++i) {
    const uint64_t random = key_word({3, 0}, 2 * i) | uint64_t{key_word({3, 0}, 2 * i + 1)} << 32;
    const uint64_t exponent = i % 3 == 0 ? 1 + random % 2046 : 1021 + random % 4;
    const auto x = bit_cast<double>(exponent << 52 | random >> 12);
    const Real wanted = std::log(static_cast<Real>(x));
    const int scale = wanted == 0 ? -1022 : std::ilogb(static_cast<double>(wanted));
    worst = std::max(worst, std::fabs(log_normal(x) - wanted) / std::ldexp(1.0L, scale - 52));
  }
  EXPECT_LT(worst, 1.0L);
  EXPECT_EQ(log_normal(1.0), 0.0);
}

TEST(Gumbel, EdgesAreRight) {
  for (const uint32_t word : kEdges)
    for (const uint32_t extension : kExtensions) {
      const float g = gumbel(word, extension);
      const Real e =
          word < kExtendBelow ? true_exponential(word, extension) : true_exponential(word);
      EXPECT_LT(noise_error(g, e), 3) << word << " " << extension;
      EXPECT_GE(g, -3.14f);
      EXPECT_LE(g, 45.06f);
    }
  EXPECT_NEAR(gumbel(0, 0), 45.0546, 1e-4);
  EXPECT_NEAR(gumbel(0xFFFFFFFF, 0), -3.13, 0.01);
}

TEST(Gumbel, ExtensionCountsOnlyBelow256) {
  for (const uint32_t word : kEdges) {
    const bool extended = word < kExtendBelow;
    EXPECT_EQ(gumbel(word, 0) != gumbel(word, 0xFFFFFFFF), extended) << word;
    if (!extended) {
      EXPECT_EQ(gumbel(word, 1), gumbel_of_exp1(exp1(word)));
    }
  }
}

TEST(Gumbel, SweepMeetsItsBound) {
  Real worst = 0;
  for (uint64_t word = 256; word < (uint64_t{1} << 32); word += 4099) {
    const auto w = static_cast<uint32_t>(word);
    worst = std::max(worst, noise_error(gumbel(w, 0), true_exponential(w)));
  }
  EXPECT_LT(worst, 3);  // one unit of the logarithm, two of the exponential
}

/// Noise never grows by more than its rounding from one word to the next.
TEST(Gumbel, FallsAsTheWordGrows) {
  for (const uint32_t edge : {0x100u, 0x1000000u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFF000u})
    for (uint32_t word = edge; word - edge < 0xFFE; ++word)
      ASSERT_LE(gumbel(word + 1, 0), gumbel(word, 0) + 0x1p-20f) << word;
  for (uint32_t word = 0; word < kExtendBelow; ++word)
    ASSERT_LE(gumbel(word, 0xFFFFFFFF), gumbel(word, 0)) << word;
  EXPECT_LT(gumbel(256, 0), gumbel(255, 0xFFFFFFFF));
}

TEST(Gumbel64, SweepAgreesWithLongDouble) {
  Real worst = 0;
  const auto check = [&](uint32_t word, uint32_t extension) {
    const Real wanted = -std::log(true_exponential(word, extension));
    const double got = gumbel64(word, extension);
    ASSERT_GE(got, -3.81);
    ASSERT_LE(got, 45.06);
    worst = std::max(worst, std::fabs(got - wanted) / std::max<Real>(1, std::fabs(wanted)));
  };
  for (const uint32_t word : kEdges)
    for (const uint32_t extension : kExtensions) check(word, extension);
  for (uint64_t i = 0; i < 1000000; ++i)
    check(static_cast<uint32_t>(i * 4294), key_word({4, 0}, i));
  EXPECT_LT(worst, 0x1p-51L);
}

TEST(Gumbel64, ExactDoubleIsExact) {
  for (const uint32_t word : kEdges) EXPECT_EQ(exact_double(word), static_cast<double>(word));
}

/// Vectorised builds give the bits of the scalar text.
TEST(GumbelBuilds, GiveEqualBits) {
  std::vector<uint32_t> words(kEdges, kEdges + std::size(kEdges)), extensions(words.size(), 7);
  for (uint64_t i = 0; i < 300000; ++i) {
    words.push_back(i % 5 == 0 ? i % 256 : key_word({6, 0}, i));
    extensions.push_back(key_word({6, 0}, i, Plane::kExtension));
  }
  const auto count = static_cast<int64_t>(words.size());
  int builds = 0;
  const auto* build = testing::runnable_builds(builds);
  for (int b = 0; b < builds; ++b) {
    const testing::IsaProbe& probe = *build[b].probe;
    std::vector<float> plain(count), extended(count);
    std::vector<double> wide(count);
    probe.gumbel(words.data(), count, plain.data());
    probe.gumbel_extended(words.data(), extensions.data(), count, extended.data());
    probe.gumbel64(words.data(), extensions.data(), count, wide.data());
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(plain[i], gumbel_of_exp1(exp1(words[i]))) << probe.name;
      ASSERT_EQ(extended[i], gumbel(words[i], extensions[i])) << probe.name;
      ASSERT_EQ(wide[i], gumbel64(words[i], extensions[i])) << probe.name;
    }
  }
}

}  // namespace
}  // namespace torch_gumbel::math
