// SPDX-License-Identifier: Apache-2.0
// The noise of single positions on the CPU, shared among threads.
#include "../ops/noise_at.h"

#include <torch/library.h>

#include "../ops/parallel.h"

namespace torch_gumbel::cpu {
namespace {

constexpr int64_t kGrain = 1024;  // about 0.1 ms

struct Backend {
  template <typename T>
  static void fill(const NoiseAtParams& a) {
    auto* output = static_cast<T*>(a.output);
    ops::parallel_for(0, a.count, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) output[i] = math::noise_at<T>(a, i);
    });
  }

  static void run(const NoiseAtParams& a, bool wide, const at::Tensor&) {
    wide ? fill<double>(a) : fill<float>(a);
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) {
  m.impl("_gumbel_at", TORCH_FN(ops::noise_at_op<Backend>));
}

}  // namespace
}  // namespace torch_gumbel::cpu
