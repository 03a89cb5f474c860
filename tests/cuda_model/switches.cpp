// SPDX-License-Identifier: Apache-2.0
#include "switches.h"

#include <tuple>

#include "../cpp/elements.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

constexpr int kMultiprocessors = 132;

/// Never read or written.
alignas(256) unsigned char somewhere[256];

void lay(KernelParams& a, Operand operand, const Sketch& sketch) {
  const auto o = static_cast<int>(operand);
  a.rows.class_stride[o] = sketch.inner;
  a.rows.stride[o][0] = sketch.inner * sketch.classes;
  a.rows.stride[o][1] = 1;
}

KernelParams arguments_of(const Sketch& sketch) {
  KernelParams a;
  a.rows.count = sketch.rows;
  a.rows.classes = sketch.classes;
  a.rows.dims = sketch.inner > 1 ? 2 : 1;
  a.rows.size[0] = sketch.rows / sketch.inner;
  a.rows.size[1] = sketch.inner;
  for (const Operand o : {Operand::kInput, Operand::kGrad, Operand::kOutput, Operand::kWord})
    lay(a, o, sketch);
  a.rows.stride[static_cast<int>(Operand::kWord)][0] += sketch.words_between_rows;
  a.input_type = a.grad_type = a.output_type = sketch.type;
  if (sketch.mixed) a.grad_type = a.output_type = sketch.other;
  a.input = somewhere + sketch.lead * size_of(a.input_type);
  a.output = somewhere + sketch.lead * size_of(a.output_type);
  a.grad = a.output;
  a.one_hot = somewhere + (sketch.lead + sketch.one_hot_lead) * size_of(a.output_type);
  a.row_value = somewhere;
  a.index = reinterpret_cast<int64_t*>(somewhere);
  a.key = sketch.device_key ? reinterpret_cast<const uint64_t*>(somewhere) : nullptr;
  return a;
}

/// What of a plan makes another way through the kernels; parts only whether there are any.
auto way_of(const cuda::Plan& plan) {
  return std::tuple(plan.family, plan.threads, plan.classes_per_thread, plan.block_per_row,
                    plan.spatial, plan.threads_per_row, plan.blocks_per_row > 1);
}

}  // namespace

cuda::Plan plan_of(const Sketch& sketch) {
  return cuda::plan_for(sketch.op, arguments_of(sketch),
                        {kMultiprocessors, sketch.workspace, sketch.clusters});
}

std::string kernels_of(const Sketch& sketch) {
  cuda_model::take_launches();
  cuda_model::settings().run = false;
  const KernelParams a = arguments_of(sketch);
  launch(sketch.op, a, {sketch.workspace ? somewhere : nullptr, kMultiprocessors, sketch.clusters});
  cuda_model::settings() = {};
  std::string names;
  for (const cuda_model::Launch& launch : cuda_model::take_launches())
    names += (names.empty() ? "" : " + ") + launch.kernel;
  for (const std::string space : {"torch_gumbel::cuda::"})
    for (size_t at; (at = names.find(space)) != std::string::npos;) names.erase(at, space.size());
  return names;
}

std::set<int64_t> switches(Op op, DType type, int64_t most) {
  std::set<int64_t> found;
  for (const int64_t rows : {1, 100, 100'000})
    for (const bool workspace : {false, true})
      for (int64_t classes = 2; classes <= most; ++classes) {
        const Sketch before = {op, type, rows, classes - 1, 1, 0, workspace};
        Sketch now = before;
        now.classes = classes;
        if (way_of(plan_of(now)) != way_of(plan_of(before))) found.insert(classes);
      }
  return found;
}

}  // namespace torch_gumbel::testing
