// SPDX-License-Identifier: Apache-2.0
// Checks of users' arguments. Every message says who, what was wanted, and what came.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch_gumbel/export.h>

#include <optional>

namespace torch_gumbel::checks {

/// float32, float64, float16, or bfloat16 (TypeError).
void element_type(const char* who, const char* name, at::ScalarType type);

/// Elements of such a type, strided (TypeError); `logits` are values of that name.
void values(const char* who, const char* name, const at::Tensor& values);
void logits(const char* who, const at::Tensor& logits);

/// `dim` wrapped to [0, rank) (a 0-d tensor counts as rank 1); IndexError.
int64_t wrapped_dim(const char* who, int64_t dim, int64_t rank);

/// A temperature given as a number: positive and finite (ValueError).
void temperature(const char* who, const char* name, double value);

/// That of a sampler, for which 0 means the greedy argmax: not negative, and finite (ValueError).
void sampling_temperature(const char* who, double value);

/// A number of things wanted: at least one (ValueError).
TORCH_GUMBEL_API void count(const char* who, const char* name, const c10::SymInt& value);

/// A temperature given as a tensor, as the private ops take it: floating point (an integer one
/// becomes float64), on the logits' device or 0-d on the CPU, broadcasting against logits without
/// enlarging them, size 1 or absent at `dim`. One of the rows' shape, that of logits without `dim`,
/// gets that dimension here. Where a shape can be read both ways, all sizes before `dim` are 1, and
/// both readings are the same.
at::Tensor temperature(const char* who, const char* name, const at::Tensor& value,
                       const at::Tensor& logits, int64_t dim);

/// A parameter of rows given as a tensor, of such a shape and place; its type stays.
at::Tensor per_row(const char* who, const char* name, const at::Tensor& value,
                   const at::Tensor& logits, int64_t dim);

/// The temperature of functions of elements: of any shape that broadcasts to logits.
at::Tensor elementwise_temperature(const char* who, const char* name, const at::Tensor& value,
                                   const at::Tensor& logits);

/// Whether a temperature broadcasts against logits so.
bool broadcasts_to_rows(const at::Tensor& temperature, const at::Tensor& logits, int64_t dim);

/// At most one of key and generator (ValueError), the generator of the logits' device (ValueError).
void source(const char* who, const at::Tensor& logits,
            const std::optional<at::Generator>& generator, const std::optional<at::Tensor>& key);

/// dtype uint64 or int64 (TypeError), last size 2 (ValueError).
TORCH_GUMBEL_API void key_format(const char* who, const at::Tensor& key);

/// A key [*batch, 2] for logits: batch = their leading sizes, ending before `dim`; torch's form
/// padded with 1s to the logits' rank is accepted. Returns it without that padding. ValueError,
/// TypeError.
at::Tensor fitted_key(const char* who, const at::Tensor& key, const at::Tensor& logits,
                      int64_t dim);

/// At least one class (IndexError), for ops that must name one.
TORCH_GUMBEL_API void has_classes(const char* who, const at::Tensor& logits, int64_t dim);

}  // namespace torch_gumbel::checks
