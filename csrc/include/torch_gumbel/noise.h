// SPDX-License-Identifier: Apache-2.0
/// \file
/// The noise itself. Shapes, errors, and randomness: <torch_gumbel/torch_gumbel.h>.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>
#include <torch_gumbel/export.h>

#include <cstdint>
#include <optional>

namespace torch_gumbel {

/// Standard Gumbel noise, -log(-log(u)), as the samplers add it to logits: an element's value is a
/// function of the key and of its row-major position alone. float32 noise lies in [-3.14, 45.06],
/// float64 noise in [-3.81, 45.06]; half types get float32 noise, rounded.
///
/// \param size  sizes >= 0.
/// \param options  dtype (default: LibTorch's default one) and device (default: the CPU).
/// \param key  [2], or [*batch, 2] with batch the leading sizes, without the last dimension.
/// \return  contiguous, without a gradient.
/// \throws c10::ValueError  a negative size, a key or generator of the wrong device or shape, or
///     both given.
/// \throws c10::TypeError  a dtype that is not floating point, a key that is not uint64 or int64.
TORCH_GUMBEL_API at::Tensor sample_gumbel(at::IntArrayRef size,
                                          const at::TensorOptions& options = {},
                                          std::optional<at::Generator> generator = std::nullopt,
                                          const std::optional<at::Tensor>& key = std::nullopt);

/// Noise of the shape and device of a tensor, and of its dtype unless another is given.
TORCH_GUMBEL_API at::Tensor gumbel_like(const at::Tensor& like,
                                        std::optional<at::ScalarType> dtype = std::nullopt,
                                        std::optional<at::Generator> generator = std::nullopt,
                                        const std::optional<at::Tensor>& key = std::nullopt);

/// The noise of some classes alone, without that of the others: bitwise
/// sample_gumbel([*, num_classes], dtype, key=key).gather(-1, index), in time that does not depend
/// on num_classes.
///
/// \param index  int64 [*, m]; a class that is not in [0, num_classes) gives NaN.
/// \param num_classes  > 0: K of the logits [*, K] to which a sampler would add the noise.
/// \param key  as for sample_gumbel of [*, num_classes].
/// \param dtype  floating point; default float32.
/// \return  the shape of index, contiguous, without a gradient.
/// \throws c10::ValueError  num_classes < 1; a key of the wrong device or shape.
/// \throws c10::TypeError  an index that is not int64, a dtype that is not floating point, a key
///     that is not uint64 or int64.
TORCH_GUMBEL_API at::Tensor gumbel_at(const at::Tensor& index, int64_t num_classes,
                                      const at::Tensor& key,
                                      std::optional<at::ScalarType> dtype = std::nullopt);

}  // namespace torch_gumbel
