// SPDX-License-Identifier: Apache-2.0
// The kernel table of one instruction set: which function does which op, for short rows and for
// long ones.
#include <type_traits>

#include "kernels/gate.h"
#include "kernels/gumbel_rao.h"
#include "kernels/kl.h"
#include "kernels/spatial_argmax.h"
#include "kernels/spatial_backward.h"
#include "kernels/spatial_softmax.h"

#define TG_TEXT_OF(name) #name
#define TG_TEXT(name) TG_TEXT_OF(name)
#define TG_TABLE_OF(isa) kernels_##isa
#define TG_TABLE(isa) TG_TABLE_OF(isa)

namespace torch_gumbel::cpu {
namespace TG_ISA {
namespace {

template <typename F>
void dispatch_opmath_type(const PlannedParams& a, F&& f) {
  if (a.plan.opmath == DType::kFloat64)
    f(double{});
  else
    f(float{});
}

template <typename T>
void run_spatial(const PlannedParams& a, const Group& group, T* scratch) {
  switch (a.op) {
    case Op::kSoft:
    case Op::kHardSoft:
      return soft_spatial(a, group, scratch);
    case Op::kHard:
      return hard_spatial(a, group, scratch);
    case Op::kArgmax:
      return argmax_spatial(a, group, scratch);
    case Op::kBackward:
      return backward_spatial<T>(a, group);
    case Op::kHardBackward:
      return hard_backward_spatial(a, group, scratch);
    case Op::kNoise:
      return noise_spatial<T>(a, group);
  }
}

template <typename T>
void run_group(const PlannedParams& a, const Group& group, T* scratch, T* second) {
  switch (a.op) {
    case Op::kSoft:
    case Op::kHardSoft:
      return soft_group(a, group, scratch);
    case Op::kHard:
      return hard_group(a, group, scratch);
    case Op::kArgmax:
      return argmax_group(a, group, scratch);
    case Op::kBackward:
      return backward_group(a, group, scratch, second);
    case Op::kHardBackward:
      return hard_backward_group(a, group, scratch, second);
    case Op::kNoise:
      return noise_group(group, scratch);
  }
}

void run_rows(const PlannedParams& a, int64_t begin, int64_t end, void* scratch) {
  dispatch_opmath_type(a, [&](auto zero) {
    using T = decltype(zero);
    auto* first = static_cast<T*>(scratch);
    // The second scratch, for gradients that need converting, follows the first.
    for_each_group(a, begin, end, a.plan.rows_per_call, [&](const Group& group) {
      if (a.plan.path == Path::kSpatial) return run_spatial(a, group, first);
      run_group(a, group, first, first + group.rows * a.rows.classes + kScratchSlack);
    });
    if (a.plan.nontemporal) fence_nontemporal();
  });
}

void reduce_tiles(const PlannedParams& a, int64_t row, int64_t begin, int64_t end, TileStat* stats,
                  void* scratch, void* weight_cache) {
  dispatch_opmath_type(a, [&](auto zero) {
    LongRow<decltype(zero)> long_row(a, group_at(a, row, 1), scratch, weight_cache);
    long_row.reduce(begin, end, stats);
  });
}

void finish_tiles(const PlannedParams& a, int64_t row, int64_t begin, int64_t end, TileStat* stats,
                  void* scratch, void* weight_cache) {
  dispatch_opmath_type(a, [&](auto zero) {
    const LongRow<decltype(zero)> long_row(a, group_at(a, row, 1), scratch, weight_cache);
    long_row.finish(begin, end, stats);
  });
}

void finish_row(const PlannedParams& a, int64_t row, const TileStat* stats) {
  dispatch_opmath_type(a, [&](auto zero) {
    LongRow<decltype(zero)>(a, group_at(a, row, 1), nullptr, nullptr).finish_row(stats);
  });
}

void kl(const KlParams& a, int64_t begin, int64_t end, void* scratch) {
  a.type == DType::kFloat64 ? kl_forward(a, begin, end, static_cast<double*>(scratch))
                            : kl_forward(a, begin, end, static_cast<float*>(scratch));
}

void kl_gradient(const KlParams& a, int64_t begin, int64_t end, void* scratch) {
  a.type == DType::kFloat64 ? kl_backward(a, begin, end, static_cast<double*>(scratch))
                            : kl_backward(a, begin, end, static_cast<float*>(scratch));
}

void gates(GateOp op, const GateParams& a, int64_t begin, int64_t end) {
  a.input_type == DType::kFloat64 ? run_gates<double>(op, a, begin, end)
                                  : run_gates<float>(op, a, begin, end);
}

void one_hot(const PlannedParams& a, int64_t begin, int64_t end, void* scratch) {
  dispatch_opmath_type(a, [&](auto zero) {
    one_hot_backward(a, begin, end, static_cast<decltype(zero)*>(scratch));
  });
}

}  // namespace
}  // namespace TG_ISA

extern const Kernels TG_TABLE(TG_ISA);
const Kernels TG_TABLE(TG_ISA) = {TG_TEXT(TG_ISA),      TG_ISA::run_rows,   TG_ISA::reduce_tiles,
                                  TG_ISA::finish_tiles, TG_ISA::finish_row, TG_ISA::kl,
                                  TG_ISA::kl_gradient,  TG_ISA::gates,      TG_ISA::one_hot};

}  // namespace torch_gumbel::cpu
