// SPDX-License-Identifier: Apache-2.0
// Which build of the kernels runs here.
#include <cstdlib>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

#include "filter_params.h"
#include "kernels.h"
#include "log_prob_params.h"
#include "subset_params.h"

namespace torch_gumbel::cpu {

// What csrc/cpu/*kernels.cpp define, once for each instruction set.
#define TG_DECLARE_BUILD(isa)                                                          \
  extern const Kernels kernels_##isa;                                                  \
  void filter_##isa(const FilterParams& a, int64_t begin, int64_t end, void* scratch); \
  extern const LogProbKernels log_prob_##isa;                                          \
  extern const SubsetKernels subset_##isa;
#define TG_BUILD(isa, runs_here) \
  {&kernels_##isa, filter_##isa, &log_prob_##isa, &subset_##isa, runs_here}

TG_DECLARE_BUILD(generic)
#ifdef TORCH_GUMBEL_X86
TG_DECLARE_BUILD(avx2)
TG_DECLARE_BUILD(avx512)
#endif

namespace {

struct Build {
  const Kernels* kernels;
  FilterKernel filter;
  const LogProbKernels* log_prob;
  const SubsetKernels* subset;
  bool runs_here;
};

std::span<const Build> builds() {
  static const Build all[] = {
      TG_BUILD(generic, true),
#ifdef TORCH_GUMBEL_X86
      TG_BUILD(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")),
      TG_BUILD(avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl") &&
                           __builtin_cpu_supports("avx512bw")),
#endif
  };
  return all;
}

const Build& build_of(const Kernels& kernels) {
  for (const Build& build : builds())
    if (build.kernels == &kernels) return build;
  throw std::logic_error("torch_gumbel: kernels of no build");
}

const Kernels& select_kernels() {
  const char* wanted = std::getenv("TORCH_GUMBEL_CPU");
  if (wanted != nullptr && *wanted != '\0') {
    if (const Kernels* kernels = kernels_by_name(wanted)) return *kernels;
    throw std::invalid_argument(std::string("torch_gumbel: TORCH_GUMBEL_CPU must be one of ")
                                    .append(runnable_names())
                                    .append(", got ")
                                    .append(wanted));
  }
  const Kernels* fastest = nullptr;
  for (const Build& build : builds())
    if (build.runs_here) fastest = build.kernels;
  return *fastest;
}

}  // namespace

const Kernels& selected_kernels() {
  static const Kernels& selected = select_kernels();
  return selected;
}

const Kernels* kernels_by_name(const char* name) {
  for (const Build& build : builds())
    if (build.runs_here && std::strcmp(build.kernels->name, name) == 0) return build.kernels;
  return nullptr;
}

FilterKernel filter_kernel(const Kernels& kernels) { return build_of(kernels).filter; }

const LogProbKernels& log_prob_kernels(const Kernels& kernels) {
  return *build_of(kernels).log_prob;
}

const SubsetKernels& subset_kernels(const Kernels& kernels) { return *build_of(kernels).subset; }

const char* runnable_names() {
  static const std::string names = [] {
    std::string joined;
    for (const Build& build : builds())
      if (build.runs_here) joined.append(joined.empty() ? "" : " ").append(build.kernels->name);
    return joined;
  }();
  return names.c_str();
}

}  // namespace torch_gumbel::cpu
