// SPDX-License-Identifier: Apache-2.0
// Which build of the kernels runs here.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "filter_params.h"
#include "kernels.h"

namespace torch_gumbel::cpu {

extern const Kernels kernels_generic;
void filter_generic(const FilterParams& a, int64_t begin, int64_t end, void* scratch);
#ifdef TORCH_GUMBEL_X86
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
void filter_avx2(const FilterParams& a, int64_t begin, int64_t end, void* scratch);
void filter_avx512(const FilterParams& a, int64_t begin, int64_t end, void* scratch);
#endif

namespace {

struct Build {
  const Kernels* kernels;
  FilterKernel filter;
  bool runs_here;
};

#ifdef TORCH_GUMBEL_X86
const Build* builds(int& count) {
  static const Build all[] = {
      {&kernels_generic, filter_generic, true},
      {&kernels_avx2, filter_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
      {&kernels_avx512, filter_avx512,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")},
  };
  count = sizeof all / sizeof *all;
  return all;
}
#else
const Build* builds(int& count) {
  static const Build all[] = {{&kernels_generic, filter_generic, true}};
  count = 1;
  return all;
}
#endif

const Kernels& select_kernels() {
  const char* wanted = std::getenv("TORCH_GUMBEL_CPU");
  if (wanted != nullptr && *wanted != '\0') {
    if (const Kernels* kernels = kernels_by_name(wanted)) return *kernels;
    throw std::invalid_argument(std::string("torch_gumbel: TORCH_GUMBEL_CPU must be one of ")
                                    .append(runnable_names())
                                    .append(", got ")
                                    .append(wanted));
  }
  int count = 0;
  const Build* all = builds(count);
  const Kernels* fastest = nullptr;
  for (int i = 0; i < count; ++i)
    if (all[i].runs_here) fastest = all[i].kernels;
  return *fastest;
}

}  // namespace

const Kernels& selected_kernels() {
  static const Kernels& selected = select_kernels();
  return selected;
}

const Kernels* kernels_by_name(const char* name) {
  int count = 0;
  const Build* all = builds(count);
  for (int i = 0; i < count; ++i)
    if (all[i].runs_here && std::strcmp(all[i].kernels->name, name) == 0) return all[i].kernels;
  return nullptr;
}

FilterKernel filter_kernel(const Kernels& kernels) {
  int count = 0;
  const Build* all = builds(count);
  for (int i = 0; i < count; ++i)
    if (all[i].kernels == &kernels) return all[i].filter;
  return nullptr;
}

const char* runnable_names() {
  static const std::string names = [] {
    int count = 0;
    const Build* all = builds(count);
    std::string joined;
    for (int i = 0; i < count; ++i)
      if (all[i].runs_here) joined.append(joined.empty() ? "" : " ").append(all[i].kernels->name);
    return joined;
  }();
  return names.c_str();
}

}  // namespace torch_gumbel::cpu
