// SPDX-License-Identifier: Apache-2.0
// Each op's kernels by family, as one type with the same functions.
#pragma once

#include "../kernels/generic_kernels.cuh"
#include "../kernels/noise.cuh"
#include "../kernels/spatial_hard_soft.cuh"
#include "../kernels/tile_hard_soft.cuh"

namespace torch_gumbel::cuda {

using Kernel = void (*)(Problem);

struct Soft {
  static constexpr bool kUsesMaxItems = true;
  template <typename Element, int kItemsPerThread, bool kDevice>
  static Kernel tile() {
    return soft_tile_kernel<Element, kItemsPerThread, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel spatial() {
    return soft_spatial_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename ThreadGroup, bool kDevice>
  static Kernel row() {
    return soft_row_kernel<Element, kVectors, ThreadGroup, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel looped() {
    return soft_looped_kernel<Element, kDevice, kStage>;
  }
};

struct Hard {
  static constexpr bool kUsesMaxItems = false;
  template <typename Element, int kItemsPerThread, bool kDevice>
  static Kernel tile() {
    return hard_tile_kernel<Element, kItemsPerThread, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel spatial() {
    return hard_spatial_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename ThreadGroup, bool kDevice>
  static Kernel row() {
    return hard_row_kernel<Element, kVectors, ThreadGroup, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel looped() {
    constexpr bool kReadsKey = kDevice && kStage != Stage::kFinish;
    return hard_looped_kernel<Element, kReadsKey, kStage>;
  }
};

struct HardSoft {
  static constexpr bool kUsesMaxItems = true;
  template <typename Element, int kItemsPerThread, bool kDevice>
  static Kernel tile() {
    return hard_soft_tile_kernel<Element, kItemsPerThread, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel spatial() {
    return hard_soft_spatial_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename ThreadGroup, bool kDevice>
  static Kernel row() {
    return hard_soft_row_kernel<Element, kVectors, ThreadGroup, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel looped() {
    return hard_soft_looped_kernel<Element, kDevice, kStage>;
  }
};

struct Argmax {
  static constexpr bool kUsesMaxItems = false;
  template <typename Element, int kItemsPerThread, bool kDevice>
  static Kernel tile() {
    return argmax_tile_kernel<Element, kItemsPerThread, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel spatial() {
    return argmax_spatial_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename ThreadGroup, bool kDevice>
  static Kernel row() {
    return argmax_row_kernel<Element, kVectors, ThreadGroup, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel looped() {
    if constexpr (kStage == Stage::kFinish)
      return argmax_multi_block_kernel;
    else
      return argmax_looped_kernel<Element, kDevice, kStage>;
  }
};

struct Backward {
  static constexpr bool kUsesMaxItems = false;
  template <typename Element, int kItemsPerThread, bool>
  static Kernel tile() {
    return backward_tile_kernel<Element, kItemsPerThread>;
  }
  template <typename Element, bool>
  static Kernel spatial() {
    return backward_spatial_kernel<Element>;
  }
  template <typename Element, int kVectors, typename ThreadGroup, bool>
  static Kernel row() {
    return backward_row_kernel<Element, kVectors, ThreadGroup>;
  }
  template <typename Element, bool, Stage kStage>
  static Kernel looped() {
    return backward_looped_kernel<Element, kStage>;
  }
};

struct HardBackward {
  static constexpr bool kUsesMaxItems = false;
  template <typename Element, int kItemsPerThread, bool kDevice>
  static Kernel tile() {
    return hard_backward_tile_kernel<Element, kItemsPerThread, kDevice>;
  }
  template <typename Element, bool kDevice>
  static Kernel spatial() {
    return hard_backward_spatial_kernel<Element, kDevice>;
  }
  template <typename Element, int kVectors, typename ThreadGroup, bool kDevice>
  static Kernel row() {
    return hard_backward_row_kernel<Element, kVectors, ThreadGroup, kDevice>;
  }
  template <typename Element, bool kDevice, Stage kStage>
  static Kernel looped() {
    return hard_backward_looped_kernel<Element, kDevice, kStage>;
  }
};

}  // namespace torch_gumbel::cuda
