// SPDX-License-Identifier: Apache-2.0
// The GPU against the CPU: noise, hard samples, and indices in the same bits, soft samples and
// gradients within their bounds.
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gpu.h"
#include "ops/ops.h"

namespace torch_gumbel {
namespace {

using std::nullopt;

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class GpuBits : public Gpu {};

/// Part of the noise of a line of `all` positions, made on the device of `like`.
at::Tensor noise_of(const at::Tensor& like, int64_t all, int64_t first) {
  const std::vector<c10::SymInt> whole = {all}, start = {first};
  return ops::noise().call(like, key(5), c10::SymIntArrayRef(whole), c10::SymIntArrayRef(start));
}

void compare_noise(at::ScalarType type, int64_t chunks) {
  constexpr int64_t kChunk = 1 << 24;
  const at::Tensor here = at::empty({kChunk}, type), there = on_gpu(here);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * kChunk, all = chunks * kChunk;
    ASSERT_TRUE(same_bits(noise_of(there, all, first), noise_of(here, all, first)))
        << "from word " << first;
  }
}

TEST_F(GpuBits, OfABillionFloat32Noises) { compare_noise(at::kFloat, 60); }
TEST_F(GpuBits, OfFloat64Noises) { compare_noise(at::kDouble, 4); }

/// Logits [*, K, *] and where K is: every family of kernels, and both sides of their limits.
struct Shape {
  std::vector<int64_t> sizes;
  int64_t dim = -1;
};
const std::vector<Shape> kShapes = {
    {{1000, 1}},  {{777, 2}},         {{513, 3}},      {{400, 10}},
    {{99, 32}},   {{99, 33}},         {{50, 100}},     {{50, 128}},
    {{50, 129}},  {{20, 300}},        {{9, 1000}},     {{9, 1024}},
    {{9, 1027}},  {{5, 4097}},        {{3, 8192}},     {{3, 8200}},
    {{3, 16390}}, {{300, 33001}},     {{1, 128256}},   {{2, 262147}},
    {{37, 3}, 0}, {{2, 35, 8, 8}, 1}, {{3, 21, 5}, 1}, {{1, 1024, 16, 16}, 1},
};

std::string name_of(const Shape& shape, at::ScalarType type) {
  std::ostringstream text;
  text << at::IntArrayRef(shape.sizes) << " dim " << shape.dim << " " << type;
  return text.str();
}

/// Calls check(logits, the same on the GPU, dim, name) for all shapes and types, also with a start
/// off a boundary. Both are cut where they are: moving a part would put it at a boundary.
template <typename Check>
void for_all_logits(Check check) {
  for (const Shape& shape : kShapes)
    for (const at::ScalarType type : kTypes) {
      const at::Tensor logits = some_logits(shape.sizes, type), there = on_gpu(logits);
      check(logits, there, shape.dim, name_of(shape, type));
      if (shape.dim != -1 || shape.sizes.back() < 40) continue;
      const at::Tensor part = there.slice(-1, 3);
      EXPECT_NE(reinterpret_cast<uintptr_t>(part.const_data_ptr()) % 16, 0);
      check(logits.slice(-1, 3), part, shape.dim, name_of(shape, type) + " from class 3");
    }
}

TEST_F(GpuBits, OfHardSamples) {
  for_all_logits(
      [](const at::Tensor& x, const at::Tensor& there, int64_t dim, const std::string& name) {
        const auto hard = [&](const at::Tensor& of) {
          return gumbel_softmax(of, 0.7, true, dim, false, nullopt, key(11));
        };
        EXPECT_TRUE(same_bits(hard(there), hard(x))) << name;
      });
}

TEST_F(GpuBits, OfIndicesAtATemperature) {
  for_all_logits(
      [](const at::Tensor& x, const at::Tensor& there, int64_t dim, const std::string& name) {
        for (const double temperature : {1.0, 0.3, 0.0}) {
          const auto index = [&](const at::Tensor& of) {
            return gumbel_argmax(of, dim, false, nullopt, temperature, nullopt, key(12));
          };
          EXPECT_TRUE(same_bits(index(there), index(x))) << name << " " << temperature;
        }
      });
}

TEST_F(GpuBits, OfRowsWithMasksAndWithoutADistribution) {
  for (const int64_t classes : {5, 100, 700, 20000})
    for (const at::ScalarType type : kTypes) {
      at::Tensor x = some_logits({8, classes}, type);
      x[1].slice(0, 0, classes / 2).fill_(-kInfinity);
      x[2].fill_(-kInfinity);
      x[3][classes / 2] = std::nan("");
      x[4][classes - 1] = kInfinity;
      x[5].slice(0, 0, classes - 1).fill_(-kInfinity);
      x[6].fill_(6e4);
      const auto hard = [&](const at::Tensor& of) {
        return gumbel_softmax(of, 0.7, true, -1, false, nullopt, key(13));
      };
      const auto [one_hot, soft] = ops::hard_soft().call(
          on_gpu(x), at::scalar_tensor(0.7, at::kDouble), key(13), 1, nullopt, nullopt, nullopt);
      EXPECT_TRUE(same_bits(one_hot, hard(x))) << classes << " " << type;
      EXPECT_TRUE(at::equal(soft.isnan().cpu(), hard(x).isnan())) << classes << " " << type;
      const auto index = [&](const at::Tensor& of) {
        return gumbel_argmax(of, -1, false, nullopt, 1.0, nullopt, key(13));
      };
      EXPECT_TRUE(same_bits(hard(on_gpu(x)), hard(x))) << classes << " " << type;
      EXPECT_TRUE(same_bits(index(on_gpu(x)), index(x))) << classes << " " << type;
    }
}

TEST_F(GpuBits, OfNoiseAtSomeClasses) {
  const at::Tensor keys = torch_gumbel::split(key(5), 64);
  const at::Tensor index = at::randint(151936, {64, 1000}, at::kLong);
  for (const at::Tensor& each : {key(5), keys})
    for (const at::ScalarType type : {at::kFloat, at::kDouble})
      EXPECT_TRUE(same_bits(gumbel_at(on_gpu(index), 151936, on_gpu(each), type),
                            gumbel_at(index, 151936, each, type)));
}

TEST_F(GpuBits, OfKeys) {
  const at::Tensor one = fold_in(key(5), 7);
  const at::Tensor many = torch_gumbel::split(one, 1000);
  EXPECT_TRUE(at::equal(torch_gumbel::split(on_gpu(one), 1000).cpu(), many));
  EXPECT_TRUE(at::equal(fold_in(on_gpu(many), ~0ull).cpu(), fold_in(many, ~0ull)));
  const at::Tensor logits = some_logits({1000, 40});
  const auto hard = [&](const at::Tensor& of, const at::Tensor& with) {
    return gumbel_softmax(of, 1.0, true, -1, false, nullopt, with);
  };
  EXPECT_TRUE(same_bits(hard(on_gpu(logits), on_gpu(many)), hard(logits, many)));
}

/// Half a unit in the last place, relative.
double rounding(at::ScalarType type) {
  if (type == at::kHalf) return 0x1p-11;
  if (type == at::kBFloat16) return 0x1p-8;
  return type == at::kFloat ? 0x1p-24 : 0x1p-53;
}

/// |got - wanted| within `bound` and the rounding of the result; a subnormal half may round to 0.
void expect_near(const at::Tensor& got, const at::Tensor& wanted, const at::Tensor& bound,
                 const std::string& name) {
  const double least = got.scalar_type() == at::kHalf ? 0x1p-25 : 1e-38;
  const at::Tensor allowed = bound + wanted.abs() * rounding(got.scalar_type()) + least;
  const at::Tensor error = (got.cpu().to(at::kDouble) - wanted).abs();
  EXPECT_TRUE(error.le(allowed).all().item<bool>())
      << name << ": worst error " << error.div(allowed).max().item<double>() << " of the bound";
}

constexpr double kTau = 0.7;

/// The sample in float64, from the scores that the CPU's noise gives.
at::Tensor exact_sample(const at::Tensor& logits, int64_t dim, const at::Tensor& with_key) {
  const auto type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor noise = ops::noise().call(logits, with_key, nullopt, nullopt);
  return logits.to(type).add(noise).to(at::kDouble).div(kTau).softmax(dim);
}

/// What a soft value may be off by, relative to it.
double accuracy(at::ScalarType type, double of_float) {
  return (type == at::kDouble ? 1e-12 : 2.5 * of_float) / kTau;
}

TEST_F(GpuBits, SoftSamplesAreNear) {
  for_all_logits(
      [](const at::Tensor& x, const at::Tensor& there, int64_t dim, const std::string& name) {
        const at::Tensor y = gumbel_softmax(there, kTau, false, dim, false, nullopt, key(14));
        const at::Tensor wanted = exact_sample(x, dim, key(14));
        expect_near(y, wanted, wanted * accuracy(x.scalar_type(), 1.2e-5), name);
      });
}

TEST_F(GpuBits, OneHotsBesideSoftSamplesHaveTheBitsOfHardOnes) {
  const at::Tensor tau = at::scalar_tensor(kTau, at::kDouble);
  for_all_logits(
      [&](const at::Tensor& x, const at::Tensor& there, int64_t dim, const std::string& name) {
        const auto [one_hot, y] = ops::hard_soft().call(
            there, tau, key(16), dim < 0 ? dim + x.dim() : dim, nullopt, nullopt, nullopt);
        const at::Tensor hard = gumbel_softmax(x, kTau, true, dim, false, nullopt, key(16));
        EXPECT_TRUE(same_bits(one_hot, hard)) << name;
        const at::Tensor wanted = exact_sample(x, dim, key(16));
        expect_near(y, wanted, wanted * accuracy(x.scalar_type(), 1.2e-5), name);
      });
}

TEST_F(GpuBits, GradientsAreNear) {
  const at::Tensor tau = at::scalar_tensor(kTau, at::kDouble);
  for_all_logits(
      [&](const at::Tensor& x, const at::Tensor& there, int64_t dim, const std::string& name) {
        dim = dim < 0 ? dim + x.dim() : dim;
        const at::Tensor grad = some_logits(x.sizes(), x.scalar_type()).flip(0);
        const at::Tensor g = grad.to(at::kDouble);
        const auto check = [&](const at::Tensor& got, const at::Tensor& y, const char* which) {
          const at::Tensor wanted = y * (g - (y * g).sum(dim, true)) / kTau;
          const at::Tensor largest = y * g.abs().amax(dim, true) / kTau;
          expect_near(got, wanted, largest * accuracy(x.scalar_type(), 1.5e-5), name + which);
        };
        const at::Tensor y = exact_sample(x, dim, key(15)).to(x.scalar_type());
        check(std::get<0>(ops::backward().call(on_gpu(grad), on_gpu(y), tau, dim, nullopt, false)),
              y.to(at::kDouble), " from y");
        check(std::get<0>(ops::hard_backward().call(on_gpu(grad), there, tau, key(15), dim, false,
                                                    nullopt, nullopt)),
              exact_sample(x, dim, key(15)), " from logits");
      });
}

}  // namespace
}  // namespace torch_gumbel
