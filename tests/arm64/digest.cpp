// SPDX-License-Identifier: Apache-2.0
// A number for the bits of every op on the build that TORCH_GUMBEL_CPU names: equal on every
// processor.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../cpp/log_prob_problem.h"
#include "../cpp/problem.h"
#include "cpu/filter_params.h"
#include "cpu/log_prob_params.h"
#include "cpu/subset_params.h"

namespace torch_gumbel::testing {
namespace {

class Digest {
 public:
  void add(uint64_t bits) { value_ = (value_ ^ bits) * 1099511628211u; }  // FNV-1a
  void add(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    add(std::isnan(value) ? ~uint64_t{0} : bits);
  }
  void add(const Problem& problem) {
    for (const uint64_t bits : problem.results()) add(bits);
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 14695981039346656037u;
};

Case case_of(Op op, DType type, int64_t classes, int dim, double tau) {
  Case wanted;
  wanted.op = op;
  wanted.input = wanted.grad = wanted.output = type;
  wanted.dim = dim, wanted.tau = tau;
  wanted.sizes = dim == 0 ? Sizes{classes, 18} : Sizes{5, classes};
  return wanted;
}

void add_log_prob(Digest& digest, Case wanted) {
  LogProbProblem of(wanted);
  const cpu::LogProbCall a = {of.params(), cpu::make_log_prob_plan(of.params())};
  const GuardedBuffer scratch(a.plan.scratch_bytes);
  const auto& kernels = cpu::log_prob_kernels(cpu::selected_kernels());
  kernels.forward(a, 0, of.problem().rows(), scratch.get());
  kernels.backward(a, 0, of.problem().rows(), scratch.get());
  for (const double value : of.results()) digest.add(value);
}

void add_subset(Digest& digest, const Case& wanted) {
  const auto& kernels = cpu::subset_kernels(cpu::selected_kernels());
  for (const Op op : {Op::kSoft, Op::kHardBackward}) {
    Case layout = wanted;
    layout.op = op;
    Problem problem(layout);
    cpu::SubsetCall a;
    static_cast<KernelParams&>(a) = problem.arguments();
    a.k = 2;
    a.plan = cpu::make_subset_plan(a, op != Op::kSoft);
    const GuardedBuffer scratch(a.plan.scratch_bytes);
    (op == Op::kSoft ? kernels.forward : kernels.backward)(a, 0, problem.rows(), scratch.get());
    digest.add(problem);
  }
}

void add_filter(Digest& digest, const Case& wanted) {
  Problem problem(wanted);
  std::vector<int64_t> index(problem.rows());
  std::vector<double> values(2 * problem.rows());
  FilterParams a;
  static_cast<KernelParams&>(a) = problem.arguments();
  a.top_k.number = 40, a.top_p.number = 0.9, a.min_p.number = 0.01;
  a.output = nullptr, a.index = index.data();
  a.row_value = values.data(), a.entropy = values.data() + problem.rows();
  const DType opmath = problem.wide() ? DType::kFloat64 : DType::kFloat32;
  const GuardedBuffer scratch(cpu::filter_scratch_bytes(problem.classes(), opmath));
  cpu::filter_kernel(cpu::selected_kernels())(a, 0, problem.rows(), scratch.get());
  for (const int64_t each : index) digest.add(static_cast<uint64_t>(each));
  const auto* floats = reinterpret_cast<const float*>(values.data());
  for (int64_t i = 0; i < problem.rows(); ++i) {
    digest.add(problem.wide() ? values[i] : floats[i]);
    digest.add(problem.wide() ? values[problem.rows() + i] : floats[2 * problem.rows() + i]);
  }
}

void add_all(Digest& digest) {
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16};
  const auto each = [&](const auto& add) {
    for (const DType type : kTypes)
      for (const int64_t classes : {2, 5, 10, 31, 33, 100, 300, 1000, 2049, 9000})
        for (const int dim : {0, 1})
          for (const double tau : {0.6, 1.0}) add(type, classes, dim, tau);
  };
  for (const Op op : kAllOps)
    each([&](DType type, int64_t classes, int dim, double tau) {
      Problem problem(case_of(op, type, classes, dim, tau));
      problem.run(cpu::selected_kernels());
      digest.add(problem);
    });
  each([&](DType type, int64_t classes, int dim, double tau) {
    const bool half = type == DType::kFloat16 || type == DType::kBFloat16;
    const Case wanted = case_of(Op::kSoft, type, classes, dim, tau);
    add_log_prob(digest, wanted);
    if (!half) add_subset(digest, wanted);
    if (!half && dim == 1) add_filter(digest, wanted);
  });
}

}  // namespace
}  // namespace torch_gumbel::testing

int main() {
  torch_gumbel::testing::Digest digest;
  torch_gumbel::testing::add_all(digest);
  std::printf("%s %016llx\n", torch_gumbel::cpu::selected_kernels().name,
              static_cast<unsigned long long>(digest.value()));
}
