// SPDX-License-Identifier: Apache-2.0
// Conversions of element types, as every build of the kernels does them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "elements.h"
#include "isa_probe.h"

namespace torch_gumbel::testing {
namespace {

constexpr int kValues = 65536;

struct Conversion {
  const char* isa;
  DType type;
  void (*widen)(const uint16_t*, int64_t, float*);
  void (*narrow)(const float*, int64_t, uint16_t*);
};

std::vector<Conversion> conversions() {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  std::vector<Conversion> all;
  for (int i = 0; i < count; ++i) {
    const IsaProbe& p = *builds[i].probe;
    all.push_back({p.name, DType::kFloat16, p.widen_half, p.narrow_half});
    all.push_back({p.name, DType::kBFloat16, p.widen_bfloat16, p.narrow_bfloat16});
  }
  return all;
}

std::vector<uint16_t> every_value() {
  std::vector<uint16_t> all(kValues);
  for (int i = 0; i < kValues; ++i) all[i] = static_cast<uint16_t>(i);
  return all;
}

bool same_value(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

/// Narrowing of `from` against the slow rounding.
void expect_rounded(const Conversion& conversion, const std::vector<float>& from) {
  std::vector<uint16_t> to(from.size());
  conversion.narrow(from.data(), static_cast<int64_t>(from.size()), to.data());
  for (size_t i = 0; i < from.size(); ++i) {
    const double got = load(conversion.type, &to[i]);
    const double expected = rounded(conversion.type, from[i]);
    ASSERT_TRUE(same_value(got, expected))
        << conversion.isa << " " << name_of(conversion.type) << ": " << std::hexfloat << from[i]
        << " gave " << got << ", wanted " << expected;
  }
}

TEST(Elements, SlowConversionsInvertEachOther) {
  for (const DType type : {DType::kFloat16, DType::kBFloat16})
    for (int i = 0; i < kValues; ++i) {
      const auto bits = static_cast<uint16_t>(i);
      uint16_t again = 0;
      const double value = load(type, &bits);
      store(type, value, &again);
      if (!std::isnan(value)) {
        ASSERT_EQ(bits, again) << name_of(type);
      }
    }
}

TEST(Convert, EveryHalfAndBFloat16Widens) {
  const auto from = every_value();
  for (const Conversion& conversion : conversions()) {
    std::vector<float> to(kValues);
    conversion.widen(from.data(), kValues, to.data());
    for (int i = 0; i < kValues; ++i)
      ASSERT_TRUE(same_value(to[i], load(conversion.type, &from[i])))
          << conversion.isa << " " << name_of(conversion.type) << " " << i;
  }
}

TEST(Convert, EveryHalfAndBFloat16SurvivesARoundTrip) {
  const auto from = every_value();
  for (const Conversion& conversion : conversions()) {
    std::vector<float> wide(kValues);
    std::vector<uint16_t> again(kValues);
    conversion.widen(from.data(), kValues, wide.data());
    conversion.narrow(wide.data(), kValues, again.data());
    for (int i = 0; i < kValues; ++i) {
      if (std::isnan(wide[i])) {
        ASSERT_TRUE(std::isnan(load(conversion.type, &again[i])));
      } else {
        ASSERT_EQ(again[i], from[i]) << conversion.isa << " " << name_of(conversion.type);
      }
    }
  }
}

TEST(Convert, TiesGoToEvenAndTheirNeighboursToTheNearest) {
  for (const Conversion& conversion : conversions()) {
    std::vector<float> from;
    for (int i = 0; i + 1 < 0x8000; ++i) {
      const auto low = static_cast<uint16_t>(i), high = static_cast<uint16_t>(i + 1);
      const double a = load(conversion.type, &low), b = load(conversion.type, &high);
      if (!std::isfinite(a)) continue;
      const double step = std::isinf(b) ? 2 * half_step(conversion.type, a) : b - a;
      const auto tie = static_cast<float>(a + step / 2);
      for (const float x : {tie, std::nextafterf(tie, 0), std::nextafterf(tie, INFINITY)})
        from.insert(from.end(), {x, -x});
    }
    expect_rounded(conversion, from);
  }
}

TEST(Convert, ASweepOverAllFloatsRoundsToNearest) {
  std::vector<float> from;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 8191) {
    const auto word = static_cast<uint32_t>(bits);
    float value = 0;
    std::memcpy(&value, &word, sizeof value);
    from.push_back(value);
  }
  for (const float x : {65519.99f, 65520.0f, 65536.0f, 3.4e38f, INFINITY, 1e-8f, 2.98e-8f, 0.0f,
                        1e-45f, 0x1.FEp127f, 0x1.FFp127f, 0x1.FEFFFEp127f})
    from.insert(from.end(), {x, -x});
  for (const Conversion& conversion : conversions()) expect_rounded(conversion, from);
}

TEST(Convert, NanStaysNanWhateverItsPayload) {
  std::vector<float> from;
  for (uint32_t payload = 1; payload < (1u << 23); payload = payload * 3 + 1)
    for (const uint32_t sign : {0u, 0x80000000u}) {
      const uint32_t bits = 0x7F800000u | payload | sign;
      float value = 0;
      std::memcpy(&value, &bits, sizeof value);
      from.push_back(value);
    }
  for (const Conversion& conversion : conversions()) {
    std::vector<uint16_t> to(from.size());
    conversion.narrow(from.data(), static_cast<int64_t>(from.size()), to.data());
    for (const uint16_t bits : to) ASSERT_TRUE(std::isnan(load(conversion.type, &bits)));
  }
}

}  // namespace
}  // namespace torch_gumbel::testing
