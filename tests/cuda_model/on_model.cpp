// SPDX-License-Identifier: Apache-2.0
#include "on_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "../cpp/reference.h"

namespace torch_gumbel::testing {
namespace {

using cuda_model::Order;

void note_launches() {
  for (const cuda_model::Launch& launch : cuda_model::take_launches())
    tally().kernels.insert(launch.kernel);
}

void expect_cpu_bits(const Case& wanted, const Change& change, const Problem& on_model) {
  Problem on_cpu(wanted);
  if (change) change(on_cpu);
  on_cpu.run(cpu::selected_kernels());
  EXPECT_TRUE(on_model.results() == on_cpu.results()) << "other bits than the CPU op's";
}

/// Where every access is seen, any order shows a missing barrier, so that the orders take turns.
std::vector<Order> some_orders() {
  constexpr Order kAll[] = {Order::kForward, Order::kReverse, Order::kShuffled};
  if (deep()) return {kAll[0], kAll[1], kAll[2]};
  if (kSmall) return {kAll[tally().cases % 3]};
  return {Order::kForward, kAll[1 + tally().cases % 2]};
}

std::vector<uint64_t> results_of(const Case& wanted, const Change& change, const Conditions& under,
                                 bool compare) {
  Problem problem(wanted);
  if (change) change(problem);
  run_on_model(problem, under);
  if (!compare || ::testing::Test::HasFailure()) return problem.results();
  if (is_exact(wanted.op))
    expect_cpu_bits(wanted, change, problem);
  else
    expect_reference(problem, kDeviceAllowance);
  return problem.results();
}

/// Numbers of multiprocessors with which a case is run; 0: without a workspace.
std::vector<int> devices_for(const Case& wanted) {
  constexpr int kFew = 5, kMany = 132;
  const Problem problem(wanted);
  if (wanted.op == Op::kNoise || cuda::workspace_bytes(wanted.op, problem.arguments(), kMany) == 0)
    return {0};
  return problem.rows() < kFew ? std::vector{0, kFew, kMany} : std::vector{0, kMany};
}

}  // namespace

bool deep() {
  static const bool wanted = std::getenv("TORCH_GUMBEL_MODEL_DEEP") != nullptr;
  return wanted;
}

bool is_exact(Op op) { return op == Op::kHard || op == Op::kArgmax || op == Op::kNoise; }

Tally& tally() {
  static Tally the_tally;
  return the_tally;
}

void launch(Op op, const KernelParams& a, const cuda::Resources& resources) {
  cuda::run_op(op, a, nullptr, resources);
}

void run_on_model(Problem& problem, const Conditions& under) {
  const Op op = problem.wanted().op;
  const KernelParams& a = problem.arguments();
  const bool given = under.multiprocessors > 0;
  const GuardedBuffer workspace(
      given ? cuda::workspace_bytes(op, a, under.multiprocessors, under.clusters) : 0);
  cuda_model::settings() = {under.order, tally().cases, true};
  try {
    launch(op, a,
           given ? cuda::Resources{workspace.get(), under.multiprocessors, under.clusters}
                 : cuda::Resources{});
  } catch (const cuda_model::Fault& fault) {
    ADD_FAILURE() << fault.what();
  }
  cuda_model::settings() = {};
  note_launches();
  problem.expect_surroundings_intact();
}

std::string text_of(const Case& wanted) {
  std::string text = std::string(name_of(wanted.op)) + " of " + name_of(wanted.input) + " to " +
                     name_of(wanted.output) + ", dim " + std::to_string(wanted.dim) + " of";
  for (const int64_t size : wanted.sizes) text.append(" ").append(std::to_string(size));
  return text;
}

void check_on_model(const Case& wanted, const Change& change) {
  SCOPED_TRACE(text_of(wanted));
  ++tally().cases;
  for (const int multiprocessors : devices_for(wanted)) {
    SCOPED_TRACE(std::to_string(multiprocessors) + " multiprocessors");
    std::vector<uint64_t> first;
    for (const Order order : some_orders()) {
      const Conditions under = {order, multiprocessors};
      const auto results = results_of(wanted, change, under, first.empty());
      if (first.empty()) first = results;
      EXPECT_TRUE(results == first) << "order " << static_cast<int>(order);
      if (::testing::Test::HasFailure()) return;
    }
    if (wanted.op != Op::kArgmax || !wanted.row_value) continue;
    Case index_alone = wanted;  // what the public op asks for
    index_alone.row_value = false;
    results_of(index_alone, change, {some_orders().front(), multiprocessors}, true);
    if (::testing::Test::HasFailure()) return;
  }
}

void check_in_clusters(const Case& wanted, const Change& change) {
  SCOPED_TRACE(text_of(wanted) + ", in clusters");
  ++tally().cases;
  std::vector<uint64_t> first;
  for (const Order order : some_orders()) {
    const auto results = results_of(wanted, change, {order, 2, true}, first.empty());
    if (first.empty()) first = results;
    EXPECT_TRUE(results == first) << "order " << static_cast<int>(order);
    if (::testing::Test::HasFailure()) return;
  }
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void check_one_hots_on_model(const Case& wanted, const Change& change) {
  SCOPED_TRACE(text_of(wanted));
  ++tally().cases;
  Case hard = wanted;
  hard.op = Op::kHard;
  Problem on_cpu(hard);
  change(on_cpu);
  on_cpu.run(cpu::selected_kernels());
  for (const int multiprocessors : devices_for(wanted))
    for (const Order order : some_orders()) {
      Problem problem(wanted);
      change(problem);
      run_on_model(problem, {order, multiprocessors});
      for (int64_t row = 0; row < problem.rows(); ++row)
        for (int64_t k = 0; k < problem.classes(); ++k)
          ASSERT_TRUE(same(problem.one_hot(row, k), on_cpu.output(row, k))) << row << " " << k;
    }
}

}  // namespace torch_gumbel::testing
