// SPDX-License-Identifier: Apache-2.0
// Every op of every build, over row lengths and element types, against the reference; and the same
// bits from every build. Only noise and choices are promised to be equal between instruction sets:
// soft values are today as well, which is tested so that a change is noticed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>

#include "isa_probe.h"
#include "problem.h"
#include "reference.h"

namespace torch_gumbel::testing {
namespace {

Sizes class_counts() {
  Sizes counts;
  for (int64_t k = 1; k <= 40; ++k) counts.push_back(k);
  counts.insert(counts.end(), {63, 64, 100, 255, 256, 257, 1000, 2047, 2048, 2049, 4097, 8191, 8192,
                               8193, 20000});
  return counts;
}

/// Rows enough for more than one group, where rows are grouped.
int64_t rows_for(int64_t classes) { return classes > 1000 ? 2 : cpu::kTile / classes + 3; }

class Ops : public ::testing::TestWithParam<std::tuple<Op, DType>> {
 protected:
  Case base(int64_t classes) const {
    Case wanted;
    std::tie(wanted.op, wanted.input) = GetParam();
    wanted.grad = wanted.output = wanted.input;
    wanted.sizes = {rows_for(classes), classes};
    return wanted;
  }
};

TEST_P(Ops, EveryRowLengthMatchesTheReference) {
  for (const int64_t classes : class_counts()) {
    check_every_build(base(classes));
    if (HasFailure()) return;
  }
}

TEST_P(Ops, EveryTemperatureMatchesTheReference) {
  for (const double tau : {0.1, 0.5, 3.0, 10.0})
    for (const int64_t classes : {5, 300, 3000, 9000}) {
      Case wanted = base(classes);
      wanted.tau = tau;
      wanted.spread = 30;
      check_every_build(wanted);
      if (HasFailure()) return;
    }
}

TEST_P(Ops, EveryOutputAndGradientTypeMatchesTheReference) {
  for (const DType output : kAllTypes)
    for (const DType grad : kAllTypes)
      for (const int64_t classes : {17, 2100, 8200}) {
        Case wanted = base(classes);
        const bool reads_grad = wanted.op == Op::kBackward || wanted.op == Op::kHardBackward;
        if (grad != output && !reads_grad) continue;
        wanted.output = output;
        wanted.grad = grad;
        wanted.sizes[0] = 3;
        wanted.row_value = classes != 17;
        check_every_build(wanted);
        if (HasFailure()) return;
      }
}

TEST_P(Ops, KeysAndOffsetsMatchTheReference) {
  for (const math::Key key : {math::Key{0, 0}, math::Key{~0ull, ~0ull - 3},
                              math::Key{1, (1ull << 32) - 9}, math::Key{2, 1ull << 40}}) {
    Case wanted = base(301);
    wanted.key = key;
    check_every_build(wanted);
    if (HasFailure()) return;
  }
}

std::string name(const ::testing::TestParamInfo<std::tuple<Op, DType>>& info) {
  return std::string(name_of(std::get<0>(info.param))) + "_" + name_of(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Ops,
                         ::testing::Combine(::testing::ValuesIn(kAllOps),
                                            ::testing::ValuesIn(kAllTypes)),
                         name);

TEST(Builds, AreNamedAndSelectable) {
  int count = 0;
  const IsaBuild* builds = runnable_builds(count);
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (i > 0) names.push_back(' ');
    names.append(builds[i].kernels->name);
    EXPECT_STREQ(builds[i].probe->name + std::strlen("probe_"), builds[i].kernels->name);
  }
  EXPECT_EQ(names, cpu::runnable_names());
  EXPECT_EQ(cpu::kernels_by_name("vax"), nullptr);
  EXPECT_EQ(cpu::kernels_by_name(cpu::selected_kernels().name), &cpu::selected_kernels());
}

/// In a process of its own: the environment is read once.
TEST(Builds, OfTheEnvironmentAreTaken) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto select = [](const char* name) {
    setenv("TORCH_GUMBEL_CPU", name, 1);
    try {
      std::exit(std::strcmp(cpu::selected_kernels().name, name) == 0 ? 0 : 1);
    } catch (const std::invalid_argument&) {
      std::exit(2);
    }
  };
  EXPECT_EXIT(select("generic"), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(select("vax"), ::testing::ExitedWithCode(2), "");
}

}  // namespace
}  // namespace torch_gumbel::testing
