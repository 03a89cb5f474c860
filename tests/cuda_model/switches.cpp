// SPDX-License-Identifier: Apache-2.0
#include "switches.h"

#include <algorithm>
#include <set>

#include "../cpp/elements.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

/// Never read or written.
alignas(256) unsigned char somewhere[256];

void lay(Arguments& a, Operand operand, const Sketch& sketch) {
  const auto o = static_cast<int>(operand);
  a.rows.class_stride[o] = sketch.inner;
  a.rows.stride[o][0] = sketch.inner > 1 ? 1 : sketch.classes;
}

Arguments arguments_of(const Sketch& sketch) {
  Arguments a;
  a.rows.count = sketch.rows;
  a.rows.classes = sketch.classes;
  a.rows.dims = 1;
  a.rows.size[0] = sketch.rows;
  for (const Operand o : {Operand::kInput, Operand::kGrad, Operand::kOutput, Operand::kWord})
    lay(a, o, sketch);
  a.input_type = a.grad_type = a.output_type = sketch.type;
  unsigned char* start = somewhere + sketch.lead * size_of(sketch.type);
  a.input = a.grad = start;
  a.output = start;
  a.row_value = somewhere;
  a.index = reinterpret_cast<int64_t*>(somewhere);
  return a;
}

/// Whether one of several numbers of rows lets other kernels run at `b` classes than at `a`.
bool differ(Sketch sketch, int64_t a, int64_t b) {
  for (const int64_t rows : {1, 3, 8, 100, 100'000}) {
    sketch.rows = rows;
    sketch.classes = a;
    const std::string before = kernels_of(sketch);
    sketch.classes = b;
    if (kernels_of(sketch) != before) return true;
  }
  return false;
}

/// Switches among 8 i + odd, i in (from, to], by halving: kernels that come back in between are
/// not seen.
void halve(const Sketch& sketch, int odd, int64_t from, int64_t to, std::set<int64_t>& found) {
  if (!differ(sketch, 8 * from + odd, 8 * to + odd)) return;
  if (to - from == 1) {
    found.insert(8 * to + odd);
    return;
  }
  const int64_t middle = (from + to) / 2;
  halve(sketch, odd, from, middle, found);
  halve(sketch, odd, middle, to, found);
}

}  // namespace

std::string kernels_of(const Sketch& sketch) {
  cuda_model::take_launches();
  cuda_model::settings().run = false;
  launch(sketch.op, arguments_of(sketch));
  cuda_model::settings() = {};
  std::string names;
  for (const cuda_model::Launch& launch : cuda_model::take_launches())
    names += (names.empty() ? "" : " + ") + launch.kernel;
  return names;
}

std::vector<int64_t> switches(Op op, DType type, int64_t most) {
  const Sketch sketch = {op, type};
  std::set<int64_t> found;
  for (const int odd : {0, 1})
    for (int64_t i = 1; 8 * i < most; i += std::max<int64_t>(1, i / 16))
      halve(sketch, odd, i, std::min(i + std::max<int64_t>(1, i / 16), most / 8), found);
  return {found.begin(), found.end()};
}

}  // namespace torch_gumbel::testing
