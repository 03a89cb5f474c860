// SPDX-License-Identifier: Apache-2.0
#include "isa_probe.h"

namespace torch_gumbel {

namespace cpu::probe_generic {
extern const testing::IsaProbe probe;
}
#ifdef TORCH_GUMBEL_X86
namespace cpu::probe_avx2 {
extern const testing::IsaProbe probe;
}
namespace cpu::probe_avx512 {
extern const testing::IsaProbe probe;
}
#endif

namespace testing {
namespace {

constexpr int kMost = 3;

int collect(IsaBuild* builds) {
  const IsaBuild all[] = {
      {cpu::kernels_by_name("generic"), &cpu::probe_generic::probe},
#ifdef TORCH_GUMBEL_X86
      {cpu::kernels_by_name("avx2"), &cpu::probe_avx2::probe},
      {cpu::kernels_by_name("avx512"), &cpu::probe_avx512::probe},
#endif
  };
  int count = 0;
  for (const IsaBuild& build : all)
    if (build.kernels != nullptr) builds[count++] = build;
  return count;
}

}  // namespace

const IsaBuild* runnable_builds(int& count) {
  static IsaBuild builds[kMost];
  static const int found = collect(builds);
  count = found;
  return builds;
}

const IsaBuild* fast_builds(int& count) {
  const IsaBuild* builds = runnable_builds(count);
  if (count == 1) return builds;
  --count;
  return builds + 1;
}

}  // namespace testing
}  // namespace torch_gumbel
