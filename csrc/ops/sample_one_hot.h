// SPDX-License-Identifier: Apache-2.0
// One-hot samples for public ops.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "ops.h"

namespace torch_gumbel::ops {

/// Arguments of estimators, as users give them.
struct OneHotSettings {
  std::string estimator;
  double uniform_mix = 0;
  int64_t samples = 10;
  double gap = 1, tau_forward = 1;
  bool return_index = false;
};

/// Absent, a number, or a tensor.
using OneHotTau = std::variant<std::monostate, double, Tensor>;

/// The sample, of type `type` (default: that of logits), and its index, [*], or an empty tensor if
/// it was not made. Checks every argument; errors name `who`.
TensorPair sample_one_hot(const char* who, const Tensor& logits, const OneHotTau& tau, int64_t dim,
                          const OneHotSettings& how, std::optional<ScalarType> type,
                          const std::optional<at::Generator>& generator,
                          const std::optional<Tensor>& key);

}  // namespace torch_gumbel::ops
