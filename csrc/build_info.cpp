// SPDX-License-Identifier: Apache-2.0
#include "build_info.h"

#include <torch_gumbel/torch_gumbel.h>

#include "cpu/kernels.h"

namespace torch_gumbel {
namespace {

const char* cuda_version = "";
const char* cuda_architectures = "";

}  // namespace

void set_cuda_build(const char* version, const char* architectures) {
  cuda_version = version;
  cuda_architectures = architectures;
}

BuildInfo build_info() {
  return {TORCH_GUMBEL_VERSION, TORCH_GUMBEL_LIBTORCH_VERSION, cuda_version,
          cuda_architectures,   cpu::runnable_names(),         cpu::selected_kernels().name};
}

c10::Dict<std::string, std::string> ops::build_info() {
  const BuildInfo info = torch_gumbel::build_info();
  c10::Dict<std::string, std::string> out;
  out.insert("version", info.version);
  out.insert("torch", info.torch);
  out.insert("cuda", info.cuda);
  out.insert("cuda_architectures", info.cuda_architectures);
  out.insert("cpu_builds", info.cpu_builds);
  out.insert("cpu_selected", info.cpu_selected);
  return out;
}

}  // namespace torch_gumbel
