// SPDX-License-Identifier: Apache-2.0
// Every op over row lengths, numbers of rows, element types, temperatures, and starts.
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "../cpp/reference.h"
#include "on_model.h"
#include "switches.h"

namespace torch_gumbel::testing {
namespace {

constexpr int64_t kLongest = kSmall ? 20'000 : 300'000;

/// 1 to 70, both sides of every switch of kernel, and lengths that are round or are not.
std::set<int64_t> lengths(Op op, DType type) {
  std::set<int64_t> found;
  for (int64_t k = 1; k <= 70; ++k) found.insert(k);
  for (const int64_t at : switches(op, type, kLongest))
    for (const int64_t k : {at - 1, at, at + 3}) found.insert(k);
  for (const int64_t round : {100, 256, 512, 1000, 1024, 2048, 4096})
    for (const int64_t k : {round, round + 1}) found.insert(k);
  found.insert(300'000);
  if (!kSmall) found.insert({20'000, 32'769, 65'536, 131'075});
  if (deep())
    for (int64_t k = 71; k < kLongest; k += 1 + k / 40) found.insert(k);
  return found;
}

/// One row, and enough for more than one warp and block; of long ones, few.
Sizes row_counts(int64_t classes) {
  if (classes > 20'000) return {1};
  if (classes > 2'000) return {2};
  if (classes > 70) return {1, 5};
  return kSmall ? Sizes{11} : Sizes{1, 67};
}

class Lengths : public ::testing::TestWithParam<std::tuple<Op, DType>> {
 protected:
  Case base(int64_t rows, int64_t classes) const {
    Case wanted;
    std::tie(wanted.op, wanted.input) = GetParam();
    wanted.grad = wanted.output = wanted.input;
    wanted.sizes = {rows, classes};
    wanted.input_lead = wanted.grad_lead = wanted.output_lead = 0;
    return wanted;
  }
};

TEST_P(Lengths, AgreeWithTheCpu) {
  const auto& [op, type] = GetParam();
  for (const int64_t classes : lengths(op, type))
    for (const int64_t rows : row_counts(classes)) {
      check_on_model(base(rows, classes));
      if (HasFailure()) return;
    }
}

TEST_P(Lengths, ManyShortRowsAgreeWithTheCpu) {
  const Sizes most = kSmall ? Sizes{100, 65} : deep() ? Sizes{1000, 4099} : Sizes{300, 1031};
  for (const int64_t classes : {1, 2, 3, 4, 7, 8, 10, 16, 31, 32}) {
    check_on_model(base(most[classes < 8], classes));
    if (HasFailure()) return;
  }
}

TEST_P(Lengths, EveryStartAgreesWithTheCpu) {
  for (const int64_t classes : {3, 8, 61, 300, 1024, 5000})
    for (int lead = 0; lead < 8; ++lead) {
      if (kSmall && classes > 300 && lead > 1) continue;
      Case wanted = base(classes > 300 ? 2 : 9, classes);
      wanted.input_lead = lead;
      wanted.grad_lead = lead * 3 % 8;
      wanted.output_lead = lead % 4 == 3 ? 0 : lead;
      check_on_model(wanted);
      if (HasFailure()) return;
    }
}

/// All operands and the words begin equally far after a boundary: vectors with scalar heads and
/// tails.
TEST_P(Lengths, LinesThatBeginAnywhereAgreeWithTheCpu) {
  for (const int64_t classes : {3, 33, 40, 300, 1024, 1500, 9001, 17'000})
    for (int lead = 0; lead < 8; ++lead) {
      if ((kSmall && classes > 300 && lead % 3 != 1) || (classes > 5000 && lead % 4 != 3)) continue;
      Case wanted = base(classes > 300 ? 1 : 5, classes);
      wanted.input_lead = wanted.grad_lead = wanted.output_lead = lead;
      wanted.full = {wanted.sizes[0] + 1, classes + 12};
      wanted.start = {0, lead};
      check_on_model(wanted);
      if (HasFailure()) return;
    }
}

/// One key for all rows, which the kernel reads, on both sides of every switch.
TEST_P(Lengths, KeysOnTheDeviceAgreeWithTheCpu) {
  const auto& [op, type] = GetParam();
  if (op == Op::kBackward) return;  // reads no words
  static const uint64_t key[] = {7, uint64_t{1} << 33};
  std::set<int64_t> some = {1, 16384};
  for (const int64_t at : switches(op, type, 17'000)) some.insert({at - 1, at});
  for (const int64_t classes : some) {
    Case wanted = base(2, classes);
    wanted.key = {key[0], key[1]};
    check_on_model(wanted, [](Problem& problem) {
      problem.arguments().key = key;
      problem.arguments().host_key = {};
    });
    if (HasFailure()) return;
  }
}

/// Looped over by the words' vectors, with loads of one element: by one block and by several, for
/// keys of the host and of the device.
TEST_P(Lengths, IndicesOffAVectorsBoundaryAgreeWithTheCpu) {
  if (std::get<0>(GetParam()) != Op::kArgmax) return;
  static const uint64_t key[] = {7, uint64_t{1} << 33};
  for (const int64_t classes : {600, 40'001})
    for (const int lead : {1, 3})
      for (const bool on_device : {false, true}) {
        Case wanted = base(1, classes);
        wanted.input_lead = lead;
        wanted.key = {key[0], key[1]};
        check_on_model(wanted, [&](Problem& problem) {
          if (!on_device) return;
          problem.arguments().key = key;
          problem.arguments().host_key = {};
        });
        if (HasFailure()) return;
      }
}

TEST_P(Lengths, EveryTemperatureAgreesWithTheCpu) {
  for (const double tau : {0.1, 0.5, 3.0, 10.0})
    for (const int64_t classes : {5, 64, 300, 3000, 9000}) {
      if (kSmall && classes > 300) continue;
      Case wanted = base(3, classes);
      wanted.tau = tau;
      wanted.spread = 30;
      check_on_model(wanted);
      if (HasFailure()) return;
    }
}

/// The first maximum is taken, also where many are equal: scores of 1e9 leave the noise no bits.
TEST_P(Lengths, TiesAndHugeLogitsAgreeWithTheCpu) {
  const Op op = std::get<Op>(GetParam());
  if (!is_exact(op) && op != Op::kHardSoft) return;
  for (const double size : {1e5, 1e9})
    for (const int64_t classes : {2, 7, 32, 300, 5000, 17'000}) {
      const auto fill = [&](Problem& problem) {
        for (int64_t r = 0; r < problem.rows(); ++r)
          for (int64_t k = 0; k < classes; ++k)
            problem.set_input(r, k, k % 5 < 3 ? size : size - r);
      };
      Case wanted = base(5, classes);
      wanted.tau = 0.7;
      if (op == Op::kHardSoft)
        check_one_hots_on_model(wanted, fill);
      else
        check_on_model(wanted, op == Op::kNoise ? Change{} : fill);
      if (HasFailure()) return;
    }
}

/// The first class and the last have equal scores or nearly: fast scores know no order there.
void make_two_equal(Problem& problem) {
  const int64_t last = problem.classes() - 1;
  for (int64_t r = 0; r < problem.rows(); ++r) {
    for (int64_t k = 1; k < last; ++k) problem.set_input(r, k, -100);
    problem.set_input(r, 0, 0);
    problem.set_input(r, last, 0);
    problem.set_input(r, last, exact_score(problem, r, 0) - exact_score(problem, r, last));
  }
}

/// At a tiny temperature the sample is then, in many rows, that of another class than the choice.
TEST_P(Lengths, AChoiceKeepsItsOneWhereItsSampleIsNothing) {
  const auto& [op, type] = GetParam();
  if (op != Op::kHardSoft || type != DType::kFloat32) return;
  for (const Sizes& sizes : std::vector<Sizes>{
           {400, 3}, {100, 32}, {50, 300}, {20, 2000}, {9, 9000}, {9, 17'000}, {60, 64}}) {
    Case wanted = base(sizes[0], sizes[1]);
    wanted.dim = sizes[1] == 64 ? 0 : 1;
    wanted.tau = 1e-9;
    check_one_hots_on_model(wanted, make_two_equal);
    if (HasFailure()) return;
    Problem problem(wanted);
    make_two_equal(problem);
    run_on_model(problem);
    int nothing = 0;
    for (int64_t r = 0; r < problem.rows(); ++r)
      for (int64_t k = 0; k < problem.classes(); ++k)
        nothing += problem.one_hot(r, k) == 1 && problem.output(r, k) == 0;
    EXPECT_GT(nothing, 0) << text_of(wanted) << ": does not occur";
  }
}

std::string name(const ::testing::TestParamInfo<std::tuple<Op, DType>>& info) {
  return std::string(name_of(std::get<0>(info.param))) + "_" + name_of(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Model, Lengths,
                         ::testing::Combine(::testing::ValuesIn(kAllOps),
                                            ::testing::ValuesIn(kAllTypes)),
                         name);

}  // namespace
}  // namespace torch_gumbel::testing
