// SPDX-License-Identifier: Apache-2.0
#include "gate_problem.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "elements.h"

namespace torch_gumbel::testing {
namespace {

constexpr double kLower = -0.1, kUpper = 1.1, kThreshold = 0.3;

bool is_half(DType type) { return size_of(type) == 2; }

/// Uniform numbers of element i.
double number(uint64_t stream, int64_t i) {
  return (math::key_word({stream, 9}, static_cast<uint64_t>(i)) + 0.5) * 0x1p-32;
}

}  // namespace

std::string text_of(const GateCase& c) {
  const char* ops[] = {"sample", "backward", "recompute"};
  std::string text = std::string(ops[static_cast<int>(c.op)]) + " of " + name_of(c.type);
  for (const int64_t each : {c.rows, c.columns, c.offset, c.step, int64_t{c.hard}, int64_t{c.keeps},
                             int64_t{c.stretched}, int64_t{c.at_tau}, int64_t(c.taus),
                             int64_t(c.keys), static_cast<int64_t>(c.first_word)})
    text.append(" ").append(std::to_string(each));
  return text + ", tau " + std::to_string(c.tau);
}

const std::vector<uint64_t>& extended_gate_positions() {
  static const std::vector<uint64_t> found = [] {
    uint64_t low = 0, high = 0;
    for (uint64_t block = 0; low == 0 || high == 0; ++block) {
      const math::Block words = math::key_block({kExtendedGateSeed, 0}, block);
      for (uint64_t i = 0; i < 4; ++i) {
        if (words.word[i] < 256) low = 4 * block + i;
        if (words.word[i] >= 0xFFFFFF00u) high = 4 * block + i;
      }
    }
    return std::vector{low, high};
  }();
  return found;
}

GateProblem::GateProblem(const GateCase& wanted)
    : case_(wanted),
      input_((count() * wanted.step + wanted.offset) * size_of(wanted.type)),
      grad_((count() + wanted.offset) * size_of(wanted.type)),
      output_((count() + wanted.offset) * size_of(wanted.type)),
      kept_((count() + wanted.offset) * size_of(wanted.type)),
      at_tau_(count() * (wanted.type == DType::kFloat64 ? 8 : 4)),
      taus_(count() * 8) {
  const bool draws = case_.op != GateOp::kBackward;
  auto* taus = static_cast<double*>(taus_.get());
  for (int64_t i = 0; i < count(); ++i) {
    double x = 12 * number(1, i) - 6;
    if (!draws) {
      const double y = 1.4 * number(1, i) - 0.2, inside = std::min(1.0, std::max(0.0, y));
      x = is_half(case_.type) && inside > 0.5 ? inside - 1 : inside;
    }
    set_input(i, x);
    store(case_.type, 4 * number(2, i) - 2, element(grad_, i, 1));
    taus[i] = case_.taus == Source::kEach ? 0.3 + number(3, i) : case_.tau;
  }
  for (int64_t row = 0; row < case_.rows; ++row) {
    const math::Key key = key_of_row(row);
    keys_.insert(keys_.end(), {key.seed, key.offset});
  }
  KernelParams& a = params_;
  Rows& rows = a.rows;
  rows.count = count(), rows.classes = 1, rows.first_word = case_.first_word;
  const bool two = case_.keys == Source::kEach;  // dimensions that do not merge
  rows.dims = two ? 2 : 1;
  rows.size[two ? 1 : 0] = two ? case_.columns : count();
  if (two) rows.size[0] = case_.rows;
  const auto set = [&](Operand operand, int64_t step) {
    const int at = static_cast<int>(operand);
    rows.stride[at][two ? 1 : 0] = step;
    if (two) rows.stride[at][0] = step * case_.columns;
    rows.class_stride[at] = 1;
  };
  set(Operand::kInput, case_.step), set(Operand::kGrad, 1), set(Operand::kOutput, 1);
  set(Operand::kWord, 1), set(Operand::kTau, case_.taus == Source::kEach), set(Operand::kKey, 0);
  if (two) rows.stride[static_cast<int>(Operand::kWord)][0] = 0;
  if (two) rows.stride[static_cast<int>(Operand::kKey)][0] = 2;
  a.input = element(input_, 0, 1), a.input_type = case_.type;
  a.grad = case_.op == GateOp::kSample ? nullptr : element(grad_, 0, 1), a.grad_type = case_.type;
  a.output = element(output_, 0, 1), a.output_type = case_.type;
  if (case_.keeps) a.one_hot = element(kept_, 0, 1);
  if (case_.at_tau) a.row_value = at_tau_.get();
  a.host_tau = case_.tau;
  if (case_.taus != Source::kHost) a.tau = taus_.get(), a.tau_type = DType::kFloat64;
  a.host_key = case_.key;
  if (draws && case_.keys != Source::kHost) a.key = keys_.data();
  params_.hard = case_.hard;
  params_.threshold = std::log(kThreshold) - std::log1p(-kThreshold);
  if (case_.stretched) params_.lower = kLower, params_.upper = kUpper;
}

char* GateProblem::element(const GuardedBuffer& buffer, int64_t i, int64_t step) const {
  return static_cast<char*>(buffer.get()) + (case_.offset + i * step) * size_of(case_.type);
}
double GateProblem::input(int64_t i) const {
  return load(case_.type, element(input_, i, case_.step));
}
double GateProblem::output(int64_t i) const { return load(case_.type, element(output_, i, 1)); }
double GateProblem::kept(int64_t i) const { return load(case_.type, element(kept_, i, 1)); }
double GateProblem::at_tau(int64_t i) const {
  return case_.type == DType::kFloat64 ? static_cast<const double*>(at_tau_.get())[i]
                                       : static_cast<const float*>(at_tau_.get())[i];
}
void GateProblem::set_input(int64_t i, double value) {
  store(case_.type, value, element(input_, i, case_.step));
}

double GateProblem::tau_of(int64_t i) const {
  return case_.taus == Source::kHost ? case_.tau : static_cast<const double*>(taus_.get())[i];
}
math::Key GateProblem::key_of_row(int64_t row) const {
  return case_.keys == Source::kEach ? math::fold_in(case_.key, static_cast<uint64_t>(row))
                                     : case_.key;
}

long double GateProblem::noise(int64_t i) const {
  const bool each = case_.keys == Source::kEach;
  const math::Key key = key_of_row(each ? i / case_.columns : 0);
  const uint64_t at = case_.first_word + static_cast<uint64_t>(each ? i % case_.columns : i);
  const uint32_t word = math::key_word(key, at);
  if (case_.type != DType::kFloat64 && word >= 256 && word < 0xFFFFFF00u) {
    const long double v = (word + 0.5L) * 0x1p-32L;
    return std::log(v) - std::log(1 - v);
  }
  const uint64_t wide = uint64_t{word} << 32 | math::key_word(key, at, math::Plane::kExtension);
  return std::log(wide + 0.5L) - std::log(~wide + 0.5L);
}

GateProblem::Values GateProblem::expected(int64_t i) const {
  return case_.op == GateOp::kSample ? expected_sample(i) : expected_gradient(i);
}

GateProblem::Values GateProblem::expected_sample(int64_t i) const {
  const long double z = input(i) + noise(i), tau = tau_of(i);
  const long double y = 1 / (1 + std::exp(-z / tau)), rest = 1 / (1 + std::exp(z / tau));
  const long double width = params_.upper - params_.lower, wide = y * width + params_.lower;
  const long double sample = std::min(1.0L, std::max(0.0L, wide));
  const long double margin = z - tau * params_.threshold;
  long double kept = sample;
  if (is_half(case_.type)) kept = wide <= 0 || wide >= 1 ? 0 : y <= rest ? y : -rest;
  return {static_cast<double>(case_.hard ? margin > 0 : sample), static_cast<double>(kept), 0,
          static_cast<double>(margin)};
}

GateProblem::Values GateProblem::expected_gradient(int64_t i) const {
  const double tau = tau_of(i), width = params_.upper - params_.lower;
  const double grad = load(case_.type, element(grad_, i, 1));
  long double open, closed;  // y and 1 - y
  if (case_.op == GateOp::kRecompute) {
    const long double z = (input(i) + noise(i)) / tau;
    open = 1 / (1 + std::exp(-z)), closed = 1 / (1 + std::exp(z));
  } else if (is_half(case_.type)) {
    const long double near = std::fabs(input(i));
    open = std::signbit(input(i)) ? 1 - near : near, closed = 1 - open;
  } else {
    open = (input(i) - params_.lower) / width, closed = (params_.upper - input(i)) / width;
    if (input(i) <= 0 || input(i) >= 1) open = 0;
  }
  const long double logit = grad * width * open * closed / tau;
  const long double odds = open * closed > 0 ? std::log(open) - std::log(closed) : 0;
  return {static_cast<double>(logit), 0, static_cast<double>(-logit * odds), 1};
}

void GateProblem::expect_right(double allowance) const {
  const double unit = case_.type == DType::kFloat64 ? 0x1p-48 : 0x1p-21;
  const double least = case_.stretched ? 0.1 : 1e-3;  // a stretched gate is a difference
  const auto near = [&](double got, double wanted, double scale, double rounding) {
    const double slack = allowance * unit * (std::fabs(wanted) * scale + least) +
                         rounding * std::fabs(wanted) + half_step(case_.type, wanted);
    return std::fabs(got - wanted) <= slack || (std::isnan(got) && std::isnan(wanted));
  };
  for (int64_t i = 0; i < count(); ++i) {
    const Values wanted = expected(i);
    const double scale = 1 + std::fabs(wanted.margin / tau_of(i));
    const bool decided = !case_.hard || std::fabs(wanted.margin) > 1e-5;
    ASSERT_TRUE(!decided || near(output(i), wanted.output, 4 * scale, 0))
        << text_of(case_) << ", " << i << ": " << output(i) << " for " << wanted.output;
    if (case_.keeps) {
      ASSERT_TRUE(near(kept(i), wanted.kept, 4 * scale, 0))
          << text_of(case_) << ", kept " << i << ": " << kept(i) << " for " << wanted.kept;
    }
    if (case_.at_tau) {
      ASSERT_TRUE(near(at_tau(i), wanted.at_tau, 100, 0))
          << text_of(case_) << ", tau " << i << ": " << at_tau(i) << " for " << wanted.at_tau;
    }
  }
}

std::vector<char> GateProblem::bytes() const {
  std::vector<char> all;
  const auto add = [&](const void* from, int64_t size) {
    const char* first = static_cast<const char*>(from);
    all.insert(all.end(), first, first + size);
  };
  add(params_.output, count() * size_of(case_.type));
  if (case_.keeps) add(params_.one_hot, count() * size_of(case_.type));
  if (case_.at_tau) add(at_tau_.get(), count() * (case_.type == DType::kFloat64 ? 8 : 4));
  return all;
}

}  // namespace torch_gumbel::testing
