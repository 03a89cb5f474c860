// SPDX-License-Identifier: Apache-2.0
#include "checks.h"

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <cmath>

namespace torch_gumbel::checks {

namespace {

bool is_supported(at::ScalarType type) {
  return type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16;
}

/// Whether a tensor has the shape of logits without `dim`.
bool has_shape_of_rows(const at::Tensor& value, const at::Tensor& logits, int64_t dim) {
  const auto given = value.sym_sizes(), wanted = logits.sym_sizes();
  if (given.size() + 1 != wanted.size()) return false;
  for (int64_t i = 0; i < value.dim(); ++i)
    if (given[i] != wanted[i < dim ? i : i + 1]) return false;
  return true;
}

void real_tensor(const char* who, const char* name, const at::Tensor& value) {
  const auto type = value.scalar_type();
  TORCH_CHECK_TYPE(is_supported(type) || at::isIntegralType(type, /*includeBool=*/false), who, ": ",
                   name, " must be a real tensor, got ", type);
  TORCH_CHECK_TYPE(value.layout() == at::kStrided, who, ": ", name,
                   " must be a strided tensor, got layout ", value.layout());
}

/// On the logits' device, or of no dimensions on the CPU.
void check_place(const char* who, const char* name, const at::Tensor& value,
                 const at::Tensor& logits) {
  TORCH_CHECK_VALUE(value.device() == logits.device() || (value.dim() == 0 && value.is_cpu()), who,
                    ": ", name, " must be on ", logits.device(), " or a 0-d CPU tensor, got shape ",
                    value.sym_sizes(), " on ", value.device());
}

/// Integers become float64.
at::Tensor floating(const at::Tensor& value) {
  return at::isFloatingType(value.scalar_type()) ? value : value.to(at::kDouble);
}

}  // namespace

void element_type(const char* who, const char* name, at::ScalarType type) {
  TORCH_CHECK_TYPE(is_supported(type), who, ": ", name,
                   " must be float32, float64, float16, or bfloat16, got ", type);
}

void values(const char* who, const char* name, const at::Tensor& values) {
  TORCH_CHECK_TYPE(values.defined(), who, ": ", name, " must be a tensor, got an undefined one");
  element_type(who, name, values.scalar_type());
  TORCH_CHECK_TYPE(values.layout() == at::kStrided, who, ": ", name,
                   " must be a strided tensor, got layout ", values.layout());
}

void logits(const char* who, const at::Tensor& logits) { values(who, "logits", logits); }

int64_t wrapped_dim(const char* who, int64_t dim, int64_t rank) {
  const int64_t range = std::max<int64_t>(rank, 1);
  TORCH_CHECK_INDEX(dim >= -range && dim < range, who, ": dim must be in [", -range, ", ",
                    range - 1, "], got ", dim);
  return dim < 0 ? dim + range : dim;
}

void temperature(const char* who, const char* name, double value) {
  TORCH_CHECK_VALUE(value > 0 && std::isfinite(value), who, ": ", name,
                    " must be > 0 and finite, got ", value);
}

void sampling_temperature(const char* who, double value) {
  TORCH_CHECK_VALUE(value >= 0 && std::isfinite(value), who,
                    ": temperature must be >= 0 and finite, got ", value);
}

void count(const char* who, const char* name, const c10::SymInt& value) {
  TORCH_CHECK_VALUE(value > 0, who, ": ", name, " must be > 0, got ", value);
}

bool broadcasts_to_rows(const at::Tensor& temperature, const at::Tensor& logits, int64_t dim) {
  const auto given = temperature.sym_sizes(), wanted = logits.sym_sizes();
  const int64_t excess = logits.dim() - temperature.dim();
  if (excess < 0) return false;
  // The class dimension first: sizes that are symbols are then compared only where they must be
  // equal.
  if (dim >= excess && dim < logits.dim() && given[dim - excess] != 1) return false;
  for (int64_t i = 0; i < temperature.dim(); ++i)
    if (given[i] != 1 && given[i] != wanted[i + excess]) return false;
  return true;
}

at::Tensor per_row(const char* who, const char* name, const at::Tensor& value,
                   const at::Tensor& logits, int64_t dim) {
  real_tensor(who, name, value);
  const bool broadcasts = broadcasts_to_rows(value, logits, dim);
  TORCH_CHECK_VALUE(broadcasts || has_shape_of_rows(value, logits, dim), who, ": ", name,
                    " must have one value, or one per row (size 1 at dim ", dim,
                    ", or that dimension left out) for logits of shape ", logits.sym_sizes(),
                    ", got shape ", value.sym_sizes());
  check_place(who, name, value, logits);
  return broadcasts ? value : value.unsqueeze(dim);
}

at::Tensor temperature(const char* who, const char* name, const at::Tensor& value,
                       const at::Tensor& logits, int64_t dim) {
  return floating(per_row(who, name, value, logits, dim));
}

at::Tensor elementwise_temperature(const char* who, const char* name, const at::Tensor& value,
                                   const at::Tensor& logits) {
  real_tensor(who, name, value);
  TORCH_CHECK_VALUE(broadcasts_to_rows(value, logits, /*dim=*/logits.dim()), who, ": ", name,
                    " must broadcast to logits of shape ", logits.sym_sizes(), ", got shape ",
                    value.sym_sizes());
  check_place(who, name, value, logits);
  return floating(value);
}

void source(const char* who, const at::Tensor& logits,
            const std::optional<at::Generator>& generator, const std::optional<at::Tensor>& key) {
  const bool has_generator = generator.has_value() && generator->defined();
  TORCH_CHECK_VALUE(!(has_generator && key.has_value()), who,
                    ": wanted a key or a generator, got both");
  TORCH_CHECK_VALUE(!has_generator || generator->device() == logits.device(), who,
                    ": generator must be on ", logits.device(), ", got one on ",
                    has_generator ? generator->device() : at::Device(at::kCPU));
}

void key_format(const char* who, const at::Tensor& key) {
  TORCH_CHECK_TYPE(key.layout() == at::kStrided, who, ": key must be a strided tensor, got layout ",
                   key.layout());
  TORCH_CHECK_TYPE(key.scalar_type() == at::kUInt64 || key.scalar_type() == at::kLong, who,
                   ": key must be a uint64 or int64 tensor, got ", key.scalar_type());
  TORCH_CHECK_VALUE(key.dim() >= 1 && key.sym_size(-1) == 2, who,
                    ": key must have shape [*batch, 2], got ", key.sym_sizes());
}

at::Tensor fitted_key(const char* who, const at::Tensor& key, const at::Tensor& logits,
                      int64_t dim) {
  key_format(who, key);
  TORCH_CHECK_VALUE(key.device() == logits.device() || key.is_cpu(), who, ": key must be on ",
                    logits.device(), logits.is_cpu() ? "" : " or the CPU", ", got ", key.device());
  const auto sizes = logits.sym_sizes(), key_sizes = key.sym_sizes();
  auto batch = static_cast<int64_t>(key_sizes.size()) - 1;
  if (batch == static_cast<int64_t>(sizes.size()))
    while (batch > 0 && key_sizes[batch - 1] == 1) --batch;
  bool fits = batch <= dim;
  for (int64_t i = 0; fits && i < batch; ++i) fits = key_sizes[i] == sizes[i];
  TORCH_CHECK_VALUE(fits, who,
                    ": key must have shape [*batch, 2] with batch the leading sizes before dim ",
                    dim, " of logits of shape ", sizes, ", got ", key_sizes);
  if (batch == static_cast<int64_t>(key_sizes.size()) - 1) return key;
  c10::SymDimVector unpadded(key_sizes.begin(), key_sizes.begin() + batch);
  unpadded.emplace_back(2);
  return key.view_symint(unpadded);
}

void has_classes(const char* who, const at::Tensor& logits, int64_t dim) {
  TORCH_CHECK_INDEX(logits.dim() == 0 || logits.sym_size(dim) != 0, who,
                    ": wanted at least one class, got size 0 at dim ", dim, " of shape ",
                    logits.sym_sizes());
}

}  // namespace torch_gumbel::checks
