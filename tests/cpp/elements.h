// SPDX-License-Identifier: Apache-2.0
// Element types, slowly and from their definitions: nothing here is shared with the kernels.
#pragma once

#include <cstdint>

#include "math/rows.h"

namespace torch_gumbel::testing {

constexpr DType kAllTypes[] = {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16};

int64_t size_of(DType type);
const char* name_of(DType type);

/// The value nearest to x in an element type, ties to even; infinity beyond its range.
double rounded(DType type, double x);

/// Half the distance of neighbouring values around x.
double half_step(DType type, double x);

/// Writes rounded(type, x); reads a value.
void store(DType type, double x, void* to);
double load(DType type, const void* from);

}  // namespace torch_gumbel::testing
