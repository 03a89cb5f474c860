// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Dict.h>

#include <string>

#include "include/torch_gumbel/export.h"

namespace torch_gumbel {

/// What build_info() says of CUDA. The library of the CUDA backend calls it when it is loaded.
TORCH_GUMBEL_API void set_cuda_build(const char* version, const char* architectures);

namespace ops {

/// build_info() as an op, for a Python without a module of its own.
c10::Dict<std::string, std::string> build_info();

}  // namespace ops
}  // namespace torch_gumbel
