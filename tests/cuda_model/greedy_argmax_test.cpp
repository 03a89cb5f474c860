// SPDX-License-Identifier: Apache-2.0
// Argmax at a temperature of 0, which leaves the noise out, beside rows of other temperatures.
#include <gtest/gtest.h>

#include <cmath>

#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

constexpr double kTemperatures[] = {0.0, 0.7, 0.0, NAN, -1.0};

/// Random, with ties, all masked, with NaN, with +inf.
void fill_row(Problem& problem, int64_t row) {
  const int64_t classes = problem.classes();
  const int64_t kind = row / 5 + row + classes;  // 25 rows: every kind at every temperature
  for (int64_t k = 0; k < classes && kind % 5 == 1; ++k)
    problem.set_input(row, k, (k + row) % 7 < 3 ? 2.5 : -1);
  for (int64_t k = 0; k < classes && kind % 5 == 2; ++k) problem.set_input(row, k, -INFINITY);
  const int64_t somewhere = (row + 11) * 29 % classes;
  if (kind % 5 == 3) problem.set_input(row, somewhere, NAN);
  if (kind % 5 == 4) problem.set_input(row, somewhere, INFINITY);
}

void fill_rows(Problem& problem) {
  for (int64_t row = 0; row < problem.rows(); ++row) fill_row(problem, row);
}

void fill_rows_and_temperatures(Problem& problem) {
  fill_rows(problem);
  auto* tau = static_cast<double*>(const_cast<void*>(problem.arguments().tau));
  for (int64_t row = 0; row < problem.rows(); ++row) tau[row] = kTemperatures[row % 5];
}

class GreedyArgmaxOnModel : public ::testing::TestWithParam<DType> {
 protected:
  void check(Case wanted) {
    wanted.op = Op::kArgmax;
    wanted.input = GetParam();
    wanted.tau = 0;
    check_on_model(wanted, fill_rows);
    wanted.tau_per_row = true;
    check_on_model(wanted, fill_rows_and_temperatures);
  }
};

TEST_P(GreedyArgmaxOnModel, OfContiguousRows) {
  for (const int64_t classes : {1, 3, 4, 5, 31, 128, 129, 300, 1100, 1500, 9001, 17'000}) {
    check({.sizes = {classes > 1500 ? 6 : 25, classes}, .input_lead = 0});
    if (HasFailure()) return;
  }
}

TEST_P(GreedyArgmaxOnModel, OfRowsThatBeginAnywhere) {
  for (const int64_t classes : {5, 40, 300, 1500, 9001})
    for (const int lead : {1, 2, 7}) {
      Case wanted{.sizes = {6, classes}, .input_lead = lead};
      check(wanted);
      wanted.full = {7, classes + 12};
      wanted.start = {0, lead};
      check(wanted);
      if (HasFailure()) return;
    }
}

TEST_P(GreedyArgmaxOnModel, OfSpatialRows) {
  for (const int64_t classes : {1, 7, 100, 1000})
    for (const int64_t rows : {25, 32}) {
      check({.sizes = {classes, rows}, .dim = 0, .input_lead = 0});
      if (HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(Model, GreedyArgmaxOnModel, ::testing::ValuesIn(kAllTypes),
                         [](const auto& info) {
                           return std::string("Argmax_") + name_of(info.param);
                         });

}  // namespace
}  // namespace torch_gumbel::testing
