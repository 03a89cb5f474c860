// SPDX-License-Identifier: Apache-2.0
// Runs one CPU kernel once, on rows that lie end to end: what benchmarks/instructions.py counts.
//
//     run_kernel OP CLASSES TAU ROWS      with the instruction set of TORCH_GUMBEL_CPU, default
//     avx2
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "cpu/kernels.h"

using namespace torch_gumbel;

namespace {

Op op_of(const std::string& name) {
  const char* names[] = {"soft",     "hard",          "hard soft", "index",
                         "backward", "hard backward", "noise"};
  for (int i = 0; i < 7; ++i)
    if (name == names[i]) return static_cast<Op>(i);
  std::abort();
}

/// 64-byte aligned, zero, and untouched: what is made here must not be counted.
float* values(int64_t count) {
  auto* memory = static_cast<char*>(std::calloc(count * 4 + (1 << 20), 1));
  return reinterpret_cast<float*>(memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64));
}

void run(const cpu::Kernels& kernels, const cpu::PlannedParams& a) {
  void* scratch = ::operator new(a.plan.scratch_bytes, std::align_val_t{64});
  if (a.plan.path != cpu::Path::kTiles) return kernels.rows(a, 0, a.rows.count, scratch);
  const int64_t tiles = cpu::tiles_of(a.rows.classes);
  std::vector<cpu::TileStat> stats(tiles);
  const int64_t bytes = a.plan.weight_cache_bytes;
  void* weight_cache = bytes == 0 ? nullptr : ::operator new(bytes, std::align_val_t{64});
  for (int64_t row = 0; row < a.rows.count; ++row) {
    kernels.reduce_tiles(a, row, 0, tiles, stats.data(), scratch, weight_cache);
    kernels.finish_tiles(a, row, 0, tiles, stats.data(), scratch, weight_cache);
    kernels.finish_row(a, row, stats.data());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) return 2;
  const char* wanted = std::getenv("TORCH_GUMBEL_CPU");
  const cpu::Kernels* kernels = cpu::kernels_by_name(wanted != nullptr ? wanted : "avx2");
  if (kernels == nullptr) return 3;
  cpu::PlannedParams a;
  const Op op = a.op = op_of(arguments[1]);
  a.rows.classes = std::atoll(arguments[2]);
  a.host_tau = std::atof(arguments[3]);
  a.rows.count = a.rows.size[0] = std::atoll(arguments[4]);
  a.rows.dims = 1;
  for (auto& stride : a.rows.stride) stride[0] = a.rows.classes;
  for (auto& step : a.rows.class_stride) step = 1;
  const int64_t elements = a.rows.count * a.rows.classes;
  a.input = values(elements);
  const bool backward = op == Op::kBackward || op == Op::kHardBackward;
  a.grad = backward ? values(elements) : nullptr;
  a.output = values(elements);
  a.one_hot = op == Op::kHardSoft ? values(elements) : nullptr;
  a.index = op == Op::kArgmax ? reinterpret_cast<int64_t*>(values(2 * a.rows.count)) : nullptr;
  a.host_key = {5, 0};
  a.plan = cpu::make_plan(op, a, 1);
  run(*kernels, a);
  return 0;
}
