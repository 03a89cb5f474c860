// SPDX-License-Identifier: Apache-2.0
// Filtered draws and filtered logits on the execution model, beside the CPU's kernel.
#include "../../cuda/filter.h"

#include <cmath>

#include "../cpp/log_prob_problem.h"
#include "cpu/filter_params.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

struct Filter {
  int64_t top_k;
  double top_p, min_p;
};

/// The last three are no filters: their rows are undefined.
std::vector<Filter> filters_of(int64_t classes) {
  return {{-1, 1, 0},      {1, 1, 0},    {0, .9, 0}, {5, .7, 0},   {classes / 2 + 1, .5, .01},
          {-1, 1, .05},    {3, 1, 1},    {7, 1, 0},  {-1, .3, .2}, {classes, .999, 0},
          {40, 1e-300, 0}, {-1, .99, 0}, {-2, 1, 0}, {1, 0, 0},    {1, 1, 1.5}};
}

Case case_of(Op op, DType type, Sizes sizes, int dim) {
  Case wanted;
  wanted.op = op, wanted.input = wanted.output = type;
  wanted.sizes = std::move(sizes), wanted.dim = dim, wanted.tau = 0.7;
  return wanted;
}

/// Draws, or the filtered logits of a case that has an output; every row has the next filter.
class FilterProblem {
 public:
  FilterProblem(const Case& wanted, const Change& change) : problem_(wanted) {
    if (change) change(problem_);
    const auto all = filters_of(problem_.classes());
    for (int64_t row = 0; row < problem_.rows(); ++row) {
      const Filter& filter = all[row % all.size()];
      top_k_.push_back(filter.top_k);
      top_p_.push_back(filter.top_p), min_p_.push_back(filter.min_p);
    }
    static_cast<KernelParams&>(params_) = problem_.arguments();
    params_.top_k = {top_k_.data(), 1, 0}, params_.top_p = {top_p_.data(), 1, 0};
    params_.min_p = {min_p_.data(), 1, 0};
    if (draws()) params_.entropy = entropy_.data(), params_.output = nullptr;
  }
  bool draws() const { return problem_.wanted().op == Op::kArgmax; }
  const FilterParams& params() const { return params_; }

  std::vector<double> results() const {
    std::vector<double> all;
    for (int64_t row = 0; row < problem_.rows(); ++row) {
      if (draws()) {
        all.push_back(static_cast<double>(problem_.index(row)));
        all.push_back(problem_.row_value(row)), all.push_back(entropy_[row]);
      }
      for (int64_t k = 0; k < problem_.classes() && !draws(); ++k)
        all.push_back(problem_.output(row, k));
    }
    return all;
  }

  void expect_cpu() const {
    problem_.expect_surroundings_intact();
    for (int64_t row = 0; row < problem_.rows() && !::testing::Test::HasFailure(); ++row) {
      SCOPED_TRACE(::testing::Message() << "row " << row << ", top_k " << top_k_[row] << ", top_p "
                                        << top_p_[row] << ", min_p " << min_p_[row]);
      expect_row(row);
    }
  }

 private:
  /// The row alone, with its logits next to each other, by the CPU's kernel.
  void expect_row(int64_t row) const {
    const int64_t classes = problem_.classes();
    ValuesOfRows logits(problem_.wide(), classes), log_prob(problem_.wide(), 1),
        entropy(problem_.wide(), 1);
    for (int64_t k = 0; k < classes; ++k) logits.set(k, problem_.input(row, k));
    int64_t index = -1;
    GuardedTensor output(params_.output_type, {1, classes}, Placement::kContiguous, 1);
    FilterParams a;
    a.input = logits.data();
    a.input_type = problem_.wide() ? DType::kFloat64 : DType::kFloat32;
    a.output_type = params_.output_type;
    if (!draws()) a.output = output.data();
    a.index = &index, a.row_value = log_prob.data(), a.entropy = entropy.data();
    a.host_key = problem_.key(row), a.host_tau = problem_.tau(row);
    a.top_k.number = top_k_[row], a.top_p.number = top_p_[row], a.min_p.number = min_p_[row];
    a.rows.count = 1, a.rows.classes = classes, a.rows.first_word = problem_.position(row, 0);
    for (int64_t& step : a.rows.class_stride) step = 1;
    a.rows.class_stride[static_cast<int>(Operand::kWord)] = params_.rows.step(Operand::kWord);
    const GuardedBuffer scratch(cpu::filter_scratch_bytes(classes, a.input_type));
    cpu::filter_kernel(cpu::selected_kernels())(a, 0, 1, scratch.get());
    for (int64_t k = 0; k < classes && !draws(); ++k)
      ASSERT_TRUE(same(problem_.output(row, k), output.get(k))) << k;
    if (!draws()) return;
    EXPECT_EQ(problem_.index(row), index);
    expect_close(problem_.row_value(row), log_prob[0], "log-probability");
    expect_close(entropy_[row], entropy[0], "entropy");
  }
  void expect_close(double got, double wanted, const char* what) const {
    const double unit = problem_.wide() ? 1e-12 : 4e-6;
    if (std::isnan(wanted)) {
      EXPECT_TRUE(std::isnan(got)) << what;
    } else {
      EXPECT_NEAR(got, wanted, unit * std::max(1.0, std::fabs(wanted))) << what;
    }
  }

  Problem problem_;
  ValuesOfRows entropy_ = {problem_.wide(), problem_.rows()};
  std::vector<int64_t> top_k_;
  std::vector<double> top_p_, min_p_;
  FilterParams params_;
};

void check(const Case& wanted, const Change& change = {}) {
  SCOPED_TRACE(text_of(wanted));
  ++tally().cases;
  std::vector<double> first;
  for (const auto order : {cuda_model::Order::kForward, cuda_model::Order::kReverse}) {
    if (::testing::Test::HasFailure()) return;
    FilterProblem problem(wanted, change);
    cuda_model::settings() = {order, tally().cases, true};
    try {
      cuda::filtered(problem.params(), nullptr);
    } catch (const cuda_model::Fault& fault) {
      ADD_FAILURE() << fault.what();
    }
    cuda_model::settings() = {};
    const auto launches = cuda_model::take_launches();
    EXPECT_EQ(launches.size(), 1u);
    for (const auto& launch : launches) tally().kernels.insert(launch.kernel);
    if (first.empty()) {
      problem.expect_cpu();
      first = problem.results();
    } else {
      const auto again = problem.results();
      for (size_t i = 0; i < first.size(); ++i) ASSERT_TRUE(same(first[i], again[i])) << i;
    }
  }
}

/// Values of 3 bits, zeros of both signs among them.
void tie(Problem& problem) {
  for (int64_t row = 0; row < problem.rows(); ++row)
    for (int64_t k = 0; k < problem.classes(); ++k)
      problem.set_input(row, k, std::round(problem.input(row, k) / 3) * 0.5);
}

const std::vector<DType> kTypes = {DType::kFloat32, DType::kFloat64, DType::kFloat16,
                                   DType::kBFloat16};

TEST(FiltersOnModel, EveryLengthKeepsAndDrawsWhatTheCpuDoes) {
  const Sizes lengths =
      kSmall ? Sizes{1, 33, 300, 1100} : Sizes{1, 2, 31, 64, 65, 300, 512, 1030, 4100};
  for (const DType type : kTypes)
    for (const int64_t classes : lengths)
      for (const Op op : {Op::kArgmax, Op::kSoft}) {
        check(case_of(op, type, {15, classes}, 1));
        check(case_of(op, type, {15, classes}, 1), tie);
      }
}

TEST(FiltersOnModel, EveryLayout) {
  for (const Op op : {Op::kArgmax, Op::kSoft}) {
    Case spatial = case_of(op, DType::kFloat32, {3, 90, 5}, 1);
    spatial.tau_per_row = true;
    check(spatial);
    spatial.input = spatial.output = DType::kFloat64;
    check(spatial);
    Case batch = case_of(op, DType::kFloat32, {3, 5, 77}, 2);
    batch.key_batch = 1, batch.input_place = Placement::kStepped;
    batch.output_place = Placement::kGaps;
    check(batch);
    Case part = case_of(op, DType::kBFloat16, {2, 8, 130}, 2);
    part.full = {2, 9, 301}, part.start = {0, 1, 2};
    check(part);
  }
}

TEST(FiltersOnModel, SpecialRows) {
  for (const double special : {double{NAN}, double{INFINITY}, -double{INFINITY}})
    for (const DType type : {DType::kFloat32, DType::kFloat64})
      for (const double tau : {0.0, 1e-40, 0.7, -1.0, double{INFINITY}})
        for (const Op op : {Op::kArgmax, Op::kSoft}) {
          Case wanted = case_of(op, type, {15, 70}, 1);
          wanted.tau = tau;
          check(wanted, [&](Problem& problem) {
            for (int64_t k = 0; k < 70; ++k) problem.set_input(2, k, k == 3 ? special : -INFINITY);
            problem.set_input(5, 69, special);
            problem.set_input(8, 7, 3e38), problem.set_input(8, 5, -3e38);
          });
        }
}

TEST(FiltersOnModel, NothingIsLaunchedForNothing) {
  cuda_model::take_launches();
  cuda::filtered(FilterParams{}, nullptr);
  EXPECT_TRUE(cuda_model::take_launches().empty());
}

}  // namespace
}  // namespace torch_gumbel::testing
