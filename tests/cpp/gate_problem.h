// SPDX-License-Identifier: Apache-2.0
// Gates to run, in memory of their own, and what they are in long double.
#pragma once

#include <string>
#include <vector>

#include "math/gate.h"
#include "problem.h"

namespace torch_gumbel::testing {

/// kHost: read by the host. kOne: one in memory. kEach: one for each element (temperatures), or for
/// each row (keys).
enum class Source { kHost, kOne, kEach };

/// Elements [rows][columns], words by position in them.
struct GateCase {
  GateOp op = GateOp::kSample;
  DType type = DType::kFloat32;
  int64_t rows = 1, columns = 1;
  bool hard = false, keeps = false, stretched = false;  // of kSample; stretched also of kBackward
  bool at_tau = false;                                  // of the backwards
  double tau = 0.7;
  int64_t offset = 0;  // of the first element of every tensor, from a line
  int64_t step = 1;    // between input's elements
  Source taus = Source::kHost, keys = Source::kHost;
  uint64_t first_word = 0;
  math::Key key = {77, 3};
};

std::string text_of(const GateCase& wanted);

/// Positions of the first word below 256 and of the first within 256 of 2^32, of the key
/// (kExtendedGateSeed, 0).
constexpr uint64_t kExtendedGateSeed = 123;
const std::vector<uint64_t>& extended_gate_positions();

class GateProblem {
 public:
  explicit GateProblem(const GateCase& wanted);

  const GateParams& params() const { return params_; }
  int64_t count() const { return case_.rows * case_.columns; }
  /// Of element i: the input, and what was written.
  double input(int64_t i) const;
  double output(int64_t i) const;
  double kept(int64_t i) const;
  double at_tau(int64_t i) const;
  /// Sets the input of element i.
  void set_input(int64_t i, double value);

  /// In long double: output, kept, at_tau.
  struct Values {
    double output, kept, at_tau, margin;  // hard: margin of the decision
  };
  Values expected(int64_t i) const;

  /// Compares all elements; `allowance`: how many times the rounding of float32 arithmetic.
  void expect_right(double allowance) const;

  /// Everything written, as it lies in memory.
  std::vector<char> bytes() const;

 private:
  char* element(const GuardedBuffer& buffer, int64_t i, int64_t step) const;
  double tau_of(int64_t i) const;
  math::Key key_of_row(int64_t row) const;
  long double noise(int64_t i) const;
  Values expected_sample(int64_t i) const;
  Values expected_gradient(int64_t i) const;

  GateCase case_;
  GuardedBuffer input_, grad_, output_, kept_, at_tau_, taus_;
  std::vector<uint64_t> keys_;
  GateParams params_;
};

}  // namespace torch_gumbel::testing
