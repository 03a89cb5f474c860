// SPDX-License-Identifier: Apache-2.0
// Each op's kernels by family, as one type with the same functions.
#pragma once

#include "any_kernels.cuh"
#include "column_kernels.cuh"
#include "long_hard_soft.cuh"
#include "tile_hard_soft.cuh"

namespace torch_gumbel::cuda {

using Kernel = void (*)(Problem);

struct Soft {
  static constexpr bool kHoldsMost = true;
  template <typename Element, int kHeld, bool kDevice>
  static Kernel tile() {
    return soft_tile_kernel<Element, kHeld, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel columns() {
    return soft_columns_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename Team, bool kDevice>
  static Kernel row() {
    return soft_row_kernel<Element, kVectors, Team, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel at_length() {
    return soft_long_kernel<Element, kDevice, kStage>;
  }
};

struct Hard {
  static constexpr bool kHoldsMost = false;
  template <typename Element, int kHeld, bool kDevice>
  static Kernel tile() {
    return hard_tile_kernel<Element, kHeld, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel columns() {
    return hard_columns_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename Team, bool kDevice>
  static Kernel row() {
    return hard_row_kernel<Element, kVectors, Team, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel at_length() {
    constexpr bool kReadsKey = kDevice && kStage != Stage::kFinish;
    return hard_long_kernel<Element, kReadsKey, kStage>;
  }
};

struct HardSoft {
  static constexpr bool kHoldsMost = true;
  template <typename Element, int kHeld, bool kDevice>
  static Kernel tile() {
    return hard_soft_tile_kernel<Element, kHeld, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel columns() {
    return hard_soft_columns_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename Team, bool kDevice>
  static Kernel row() {
    return hard_soft_row_kernel<Element, kVectors, Team, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel at_length() {
    return hard_soft_long_kernel<Element, kDevice, kStage>;
  }
};

struct Argmax {
  static constexpr bool kHoldsMost = false;
  template <typename Element, int kHeld, bool kDevice>
  static Kernel tile() {
    return argmax_tile_kernel<Element, kHeld, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel columns() {
    return argmax_columns_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename Team, bool kDevice>
  static Kernel row() {
    return argmax_row_kernel<Element, kVectors, Team, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel at_length() {
    if constexpr (kStage == Stage::kFinish)
      return argmax_parts_kernel;
    else
      return argmax_long_kernel<Element, kDevice, kStage>;
  }
};

struct Backward {
  static constexpr bool kHoldsMost = false;
  template <typename Element, int kHeld, bool>
  static Kernel tile() {
    return backward_tile_kernel<Element, kHeld>;
  }
  template <typename Element, bool>
  static Kernel columns() {
    return backward_columns_kernel<Element>;
  }
  template <typename Element, int kVectors, typename Team, bool>
  static Kernel row() {
    return backward_row_kernel<Element, kVectors, Team>;
  }
  template <typename Element, bool, Stage kStage>
  static Kernel at_length() {
    return backward_long_kernel<Element, kStage>;
  }
};

struct HardBackward {
  static constexpr bool kHoldsMost = false;
  template <typename Element, int kHeld, bool kDevice>
  static Kernel tile() {
    return hard_backward_tile_kernel<Element, kHeld, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel columns() {
    return hard_backward_columns_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename Team, bool kDevice>
  static Kernel row() {
    return hard_backward_row_kernel<Element, kVectors, Team, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel at_length() {
    return hard_backward_long_kernel<Element, kDevice, kStage>;
  }
};

}  // namespace torch_gumbel::cuda
