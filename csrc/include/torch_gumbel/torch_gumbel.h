// SPDX-License-Identifier: Apache-2.0
/// \file
/// Differentiable sampling from categorical distributions, in one pass.
///
///     #include <torch_gumbel/torch_gumbel.h>
///     using torch_gumbel::GumbelSoftmaxFuncOptions;
///     auto options = GumbelSoftmaxFuncOptions().tau(0.5).hard(true);
///     auto y = torch_gumbel::gumbel_softmax(logits, options);
///
/// In a CMake project: find_package(torch_gumbel) and the target torch_gumbel::torch_gumbel.
///
/// Shapes: `logits` is [*, K, *] with the K classes along `dim`; everything else is a batch.
/// Errors: c10::ValueError, c10::TypeError, or c10::IndexError, naming the function, what was
/// wanted, and what came. No call that fails on its arguments, or for want of memory for its result,
/// moves a generator.
///
/// Randomness: noise is a pure function of a key and an element's position in the logical shape,
/// the same on every device, for any number of threads and any strides. A key is a uint64 (or
/// int64, same bits) tensor [2] = (seed, offset), as torch.func._random makes; [*batch, 2] gives
/// each slice of the leading dimensions its own. Without a key, a call draws one from `generator`
/// (absent: the device's default generator).
#pragma once

#include <torch_gumbel/conditional.h>
#include <torch_gumbel/draws.h>
#include <torch_gumbel/export.h>
#include <torch_gumbel/gates.h>
#include <torch_gumbel/information.h>
#include <torch_gumbel/keys.h>
#include <torch_gumbel/log_prob.h>
#include <torch_gumbel/lookup.h>
#include <torch_gumbel/noise.h>
#include <torch_gumbel/one_hot.h>
#include <torch_gumbel/options.h>
#include <torch_gumbel/probabilities.h>
#include <torch_gumbel/sampling.h>
#include <torch_gumbel/subset.h>

#include <string>

namespace torch_gumbel {

/// How this library was built.
struct BuildInfo {
  std::string version;             ///< of torch_gumbel
  std::string torch;               ///< LibTorch it was compiled against
  std::string cuda;                ///< CUDA toolkit, empty for a CPU build
  std::string cuda_architectures;  ///< as in TORCH_CUDA_ARCH_LIST, empty for a CPU build
  std::string cpu_builds;          ///< instruction sets that this machine runs, separated by spaces
  std::string cpu_selected;        ///< the one in use
};

TORCH_GUMBEL_API BuildInfo build_info();

}  // namespace torch_gumbel
