// SPDX-License-Identifier: Apache-2.0
// Filtered draws: every instruction set keeps the classes of a sort in float64, draws the first best
// score among them, and gives the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "cpu/filter_params.h"
#include "cpu/kernels.h"
#include "math/gumbel.h"

namespace torch_gumbel {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr const char* kNames[] = {"generic", "avx2", "avx512"};

struct Filter {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
};

/// What a filter keeps, by its definition.
struct Sorted {
  std::vector<int64_t> order;
  int64_t kept = 0;
  bool close = false;  // the mass at the edge is within 1e-6 of p

  template <typename T>
  Sorted(const std::vector<T>& x, const Filter& f) : order(x.size()) {
    for (size_t i = 0; i < x.size(); ++i) order[i] = static_cast<int64_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x[a] > x[b]; });
    const auto count = static_cast<int64_t>(x.size());
    std::vector<double> weights(x.size());
    for (int64_t j = 0; j < count; ++j) {
      weights[j] = std::exp((static_cast<double>(x[order[j]]) - x[order[0]]) / f.temperature);
      kept += x[order[j]] > -kInfinity;
    }
    if (f.top_k > 0) kept = std::min(kept, f.top_k);
    if (f.top_p < 1) keep_top_p(weights, f.top_p);
    int64_t above = 0;
    for (int64_t j = 0; f.min_p > 0 && j < kept; ++j) {
      above += weights[j] >= f.min_p;
      close |= std::abs(weights[j] / f.min_p - 1) < 1e-6;
    }
    if (f.min_p > 0) kept = above;
  }
  void keep_top_p(const std::vector<double>& weights, double p) {
    double total = 0, mass = 0;
    for (int64_t j = 0; j < kept; ++j) total += weights[j];
    int64_t prefix = 0;
    for (int64_t j = 0; j < kept; ++j) {
      prefix += mass < p * total;
      mass += weights[j];
      close |= std::abs(mass / total - p) < 1e-6;
    }
    kept = prefix;
  }
};

template <typename T>
std::vector<T> some_row(std::mt19937& random, int64_t count, int kind) {
  std::normal_distribution<double> normal(0, kind == 2 ? 0.03 : 3);
  std::vector<T> x(count);
  for (auto& value : x) value = static_cast<T>(kind == 1 ? random() % 8 : normal(random));
  if (kind == 3)
    for (auto& value : x) value = random() % 2 == 0 ? value : -static_cast<T>(kInfinity);
  if (kind == 4) std::fill(x.begin(), x.end(), T{1.5});
  if (kind == 5) std::sort(x.begin(), x.end());
  if (kind >= 3) x[random() % count] += 9;
  if (kind == 3) x[0] = 1;
  return x;
}

/// One row of a call; arrays end where their memory does.
template <typename T>
struct Row {
  std::vector<T> x;
  FilterParams a;
  std::vector<T> output;
  T log_prob = 0, entropy = 0;
  int64_t index = -1;

  Row(std::vector<T> values, const Filter& f, int64_t word_step) : x(std::move(values)) {
    a.rows.count = 1;
    a.rows.classes = static_cast<int64_t>(x.size());
    for (auto& step : a.rows.class_stride) step = 1;
    a.rows.class_stride[static_cast<int>(Operand::kWord)] = word_step;
    a.rows.first_word = 3;
    a.input = x.data();
    a.input_type = a.output_type = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;
    a.host_tau = f.temperature;
    a.host_key = {5, 7};
    a.top_k = {&f.top_k, 0, 0}, a.top_p = {&f.top_p, 0, 0}, a.min_p = {&f.min_p, 0, 0};
  }
  void run(const char* isa) {
    const auto kernel = cpu::filter_kernel(*cpu::kernels_by_name(isa));
    const auto bytes = cpu::filter_scratch_bytes(a.rows.classes, a.input_type);
    const std::unique_ptr<void, void (*)(void*)> scratch(
        std::aligned_alloc(64, (bytes + 63) / 64 * 64), std::free);
    output.assign(x.size(), 7);
    a.output = output.data(), a.index = nullptr, a.row_value = a.entropy = nullptr;
    kernel(a, 0, 1, scratch.get());
    a.output = nullptr, a.index = &index, a.row_value = &log_prob, a.entropy = &entropy;
    kernel(a, 0, 1, scratch.get());
  }
  /// The first best score among the filtered logits.
  int64_t choice() const {
    double best = -kInfinity;
    int64_t at = 0;
    for (size_t k = 0; k < x.size(); ++k) {
      const uint64_t position =
          a.rows.first_word + k * a.rows.class_stride[static_cast<int>(Operand::kWord)];
      const uint32_t word = math::key_word(a.host_key, position);
      const uint32_t second = math::key_word(a.host_key, position, math::Plane::kExtension);
      const T score = output[k] + (sizeof(T) == 8 ? static_cast<T>(math::gumbel64(word, second))
                                                  : static_cast<T>(math::gumbel(word, second)));
      if (score > best) best = score, at = static_cast<int64_t>(k);
    }
    return at;
  }
};

/// Whether the classes that are not -inf are those of the sort, or one apart where that is close.
template <typename T>
bool keeps(const std::vector<T>& output, const Sorted& wanted) {
  const auto open = std::count_if(output.begin(), output.end(), [](T y) { return y > -kInfinity; });
  if (std::abs(open - wanted.kept) > (wanted.close ? 1 : 0)) return false;
  for (int64_t j = 0; j < open; ++j)
    if (!(output[wanted.order[j]] > -kInfinity)) return false;
  return true;
}

template <typename T>
void check_rows(int rows) {
  std::mt19937 random(9);
  const auto uniform = [&] { return random() / 4294967296.0; };
  for (int i = 0; i < rows; ++i) {
    const auto count =
        static_cast<int64_t>(i % 2 ? 1 + random() % 64 : std::exp(3 + 8 * uniform()));
    const int64_t top_ks[] = {0, 1, 50, 1 + static_cast<int64_t>(count * uniform())};
    const double top_ps[] = {1, .9, .99, .01 + .98 * uniform()}, min_ps[] = {0, 0, .05, uniform()};
    const Filter f = {i % 3 ? 1.0 : .7, top_ks[random() % 4], top_ps[random() % 4],
                      min_ps[random() % 4]};
    Row<T> row(some_row<T>(random, count, i % 6), f, i % 5 ? 1 : 3);
    const Sorted wanted(row.x, f);
    row.run("generic");
    EXPECT_TRUE(keeps(row.output, wanted)) << i << ": " << count << " classes";
    EXPECT_EQ(row.index, row.choice()) << i;
    EXPECT_LE(row.log_prob, 0) << i;
    const Row<T> generic = row;
    for (const char* isa : kNames) {
      if (cpu::kernels_by_name(isa) == nullptr) continue;
      row.run(isa);
      EXPECT_EQ(row.output, generic.output) << isa << " " << i;
      EXPECT_EQ(row.index, generic.index) << isa << " " << i;
      EXPECT_NEAR(row.entropy, generic.entropy, 1e-5 * (1 + generic.entropy)) << isa << " " << i;
    }
  }
}

TEST(Filter, KeepsTheClassesOfASortOnEveryInstructionSet) {
  check_rows<float>(300);
  check_rows<double>(60);
}

}  // namespace
}  // namespace torch_gumbel
