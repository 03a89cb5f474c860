// SPDX-License-Identifier: Apache-2.0
// Where the words lie that take a second one.
#pragma once

#include <cstdint>
#include <vector>

namespace torch_gumbel::testing {

constexpr uint64_t kExtendedSeed = 5;

/// Positions of words below 256 among the first 2^27 of the key (kExtendedSeed, 0): eight are
/// expected.
const std::vector<uint64_t>& extended_positions();

}  // namespace torch_gumbel::testing
