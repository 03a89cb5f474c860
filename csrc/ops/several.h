// SPDX-License-Identifier: Apache-2.0
// Draws with replacement: one call on logits that are repeated and not copied.
#pragma once

#include <ATen/core/Tensor.h>

namespace torch_gumbel::ops {

/// The operands of such a call, whose class dimension is one higher. The repetition comes after the
/// batch of keys, whose slices draw as if alone. Logits are not 0-d.
class Several {
 public:
  Several(const at::Tensor& logits, const at::Tensor& key, const c10::SymInt& num_samples)
      : rank_(logits.dim()), batch_(key.dim() - 1) {
    c10::SymDimVector shape(logits.sym_sizes().begin(), logits.sym_sizes().end());
    shape.insert(shape.begin() + batch_, num_samples);
    logits_ = logits.unsqueeze(batch_).expand_symint(shape);
  }
  const at::Tensor& logits() const { return logits_; }

  /// A tensor that broadcast to the logits.
  at::Tensor rows(const at::Tensor& of_rows) const {
    const int64_t unbatched = rank_ - batch_;
    const bool reaches_batch = of_rows.dim() > unbatched;
    return reaches_batch ? of_rows.unsqueeze(of_rows.dim() - unbatched) : of_rows;
  }

  /// A result of the call, [num_samples, *].
  at::Tensor samples_first(const at::Tensor& result) const {
    return batch_ == 0 ? result : result.movedim(batch_, 0).contiguous();
  }

 private:
  int64_t rank_, batch_;
  at::Tensor logits_;
};

}  // namespace torch_gumbel::ops
