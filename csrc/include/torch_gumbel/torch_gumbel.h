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
/// wanted, and what came. No call that fails on its arguments moves a generator.
///
/// Randomness: noise is a pure function of a key and an element's position in the logical shape,
/// the same on every device, for any number of threads and any strides. A key is a uint64 (or
/// int64, same bits) tensor [2] = (seed, offset), as torch.func._random makes; [*batch, 2] gives
/// each slice of the leading dimensions its own. Without a key, a call draws one from `generator`
/// (absent: the device's default generator).
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <torch_gumbel/options.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#if defined(__GNUC__)
#define TORCH_GUMBEL_API __attribute__((visibility("default")))
#else
#define TORCH_GUMBEL_API
#endif

namespace torch_gumbel {

/// A sample of the Gumbel-Softmax distribution: softmax((logits + g) / tau), g standard Gumbel
/// noise. Jang, Gu, Poole, "Categorical reparameterization with Gumbel-Softmax", 2016, eq. 2;
/// Maddison, Mnih, Teh, "The Concrete distribution", 2016.
///
/// \param logits  [*, K, *] float32, float64, float16, or bfloat16; -inf masks a class: probability
/// and gradient exactly 0.
///                A row without a finite logit, or with NaN or +inf, gives a row of NaN.
/// \param tau     temperature > 0, finite.
/// \param hard    false: the soft sample. true: its one-hot, with the gradient of the soft sample
/// of the same noise
///                (straight-through); exactly one 1 and K - 1 zeros.
/// \return        shape and dtype of `logits` (under autocast on CUDA: float32), contiguous;
/// differentiable. \throws c10::ValueError  tau not positive and finite, key or generator of the
/// wrong device or shape, or both given. \throws c10::TypeError   logits not floating point, key
/// not uint64 or int64. \throws c10::IndexError  dim out of range; hard with K = 0.
TORCH_GUMBEL_API at::Tensor gumbel_softmax(const at::Tensor& logits, double tau = 1.0,
                                           bool hard = false, int64_t dim = -1,
                                           std::optional<at::Generator> generator = std::nullopt,
                                           const std::optional<at::Tensor>& key = std::nullopt);

/// The same with the temperature a tensor: a scalar, or one value per row (size 1, or absent, at
/// `dim`). It gets a gradient, and is never read on the host: an entry that is not positive and
/// finite makes its rows NaN. \throws c10::ValueError  also if tau's shape would enlarge logits.
TORCH_GUMBEL_API at::Tensor gumbel_softmax(const at::Tensor& logits, const at::Tensor& tau,
                                           bool hard = false, int64_t dim = -1,
                                           std::optional<at::Generator> generator = std::nullopt,
                                           const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API at::Tensor gumbel_softmax(const at::Tensor& logits,
                                           const GumbelSoftmaxFuncOptions& options);

/// An exact draw from Categorical(softmax(logits / temperature)): argmax(logits / temperature + g).
/// No probabilities and no one-hot are formed. At temperature 1 it is the position of the 1 in the
/// hard sample of the same key. Gumbel, "Statistical theory of extreme values", 1954; Maddison,
/// Tarlow, Minka, "A* sampling", 2014.
///
/// \return  int64 [*, *] (with `keepdim`: [*, 1, *]), always in [0, K); 0 for a row that has no
/// distribution. \throws  as gumbel_softmax; c10::IndexError for K = 0.
TORCH_GUMBEL_API at::Tensor gumbel_argmax(const at::Tensor& logits, int64_t dim = -1,
                                          bool keepdim = false, double temperature = 1.0,
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// The same with named options.
TORCH_GUMBEL_API at::Tensor gumbel_argmax(const at::Tensor& logits,
                                          const GumbelArgmaxFuncOptions& options);

/// 128 fresh bits of a generator (absent: the device's default one) as a key on `device`.
TORCH_GUMBEL_API at::Tensor new_key(std::optional<at::Generator> generator = std::nullopt,
                                    std::optional<at::Device> device = std::nullopt);

/// The key (seed, 0): uint64 [2], equal to torch.func._random.key(seed).
TORCH_GUMBEL_API at::Tensor key(uint64_t seed, at::Device device = at::kCPU);

/// `num` independent keys, [num, *key.shape]; equal to torch.func._random.split. Call it by its
/// full name: unqualified, at::split is found as well.
TORCH_GUMBEL_API at::Tensor split(const at::Tensor& key, int64_t num = 2);

/// A new key from a key and a number (a layer, a step, a rank): equal to
/// torch.func._random.fold_in.
TORCH_GUMBEL_API at::Tensor fold_in(const at::Tensor& key, uint64_t data);

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
