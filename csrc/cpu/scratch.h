// SPDX-License-Identifier: Apache-2.0
// What the launchers share.
#pragma once

#include <stdint.h>

#include <new>

namespace torch_gumbel::cpu {

/// Memory of its own, contents undefined; null for no bytes. Little of it costs nothing.
class Scratch {
 public:
  explicit Scratch(int64_t bytes)
      : data_(bytes == 0        ? nullptr
              : bytes <= kSmall ? small_
                                : ::operator new(bytes, kAlignment)) {}
  ~Scratch() {
    if (data_ != small_) ::operator delete(data_, kAlignment);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* get() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  static constexpr int64_t kSmall = 1024;
  alignas(64) char small_[kSmall];
  void* data_;
};

}  // namespace torch_gumbel::cpu
