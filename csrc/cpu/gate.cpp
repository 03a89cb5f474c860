// SPDX-License-Identifier: Apache-2.0
// Gates on the CPU: tiles of elements shared among threads.
#include <torch/library.h>

#include "../ops/gate_backend.h"
#include "../ops/parallel.h"
#include "kernels.h"

namespace torch_gumbel::cpu {
namespace {

struct Backend {
  static void run(GateOp op, GateParams a, const at::Tensor&) {
    a.nontemporal = stores_gates_nontemporally(a.rows.count, a.output_type);
    const Kernels& kernels = selected_kernels();
    const int64_t tiles = tiles_of(a.rows.count);
    ops::parallel_for(0, tiles, kGateTilesPerThread, [&](int64_t begin, int64_t end) {
      kernels.gates(op, a, begin * kTile, std::min(end * kTile, a.rows.count));
    });
  }
};

TORCH_LIBRARY_IMPL(torch_gumbel, CPU, m) { ops::GateOps<Backend>::register_on(m); }

}  // namespace
}  // namespace torch_gumbel::cpu
