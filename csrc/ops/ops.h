// SPDX-License-Identifier: Apache-2.0
// Typed handles of the private ops: one function each that enters the dispatcher.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <tuple>

namespace torch_gumbel::ops {

using at::OptionalSymIntArrayRef;
using at::ScalarType;
using at::Tensor;
using TensorPair = std::tuple<Tensor, Tensor>;
/// (output [*, D], index [*], defined [*]) of logits [*, K], codebook [K, D], tau, and key.
using LookupResult = std::tuple<Tensor, Tensor, Tensor>;
/// (one_hot, kept, index) of logits: kept is a copy of them, or [0].
using OneHotResult = std::tuple<Tensor, Tensor, Tensor>;
/// One value per row: KL, and what its backward needs (see KlParams in csrc/cpu/kl_params.h).
using KlResult = std::tuple<Tensor, Tensor, Tensor>;
/// One value per row, of size 1 at dim: the choice, its log-probability, and the entropy; empty ones
/// were not asked for.
using FilterResult = std::tuple<Tensor, Tensor, Tensor>;

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

using SoftmaxSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, bool,
                                std::optional<ScalarType>, OptionalSymIntArrayRef,
                                OptionalSymIntArrayRef);
using SoftmaxLseSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, int64_t,
                                       std::optional<ScalarType>, OptionalSymIntArrayRef,
                                       OptionalSymIntArrayRef);
using HardSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t,
                             std::optional<ScalarType>, OptionalSymIntArrayRef,
                             OptionalSymIntArrayRef);
using HardSoftSignature = SoftmaxLseSignature;
using BackwardSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, int64_t,
                                     std::optional<ScalarType>, bool);
using HardBackwardSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                         int64_t, bool, OptionalSymIntArrayRef,
                                         OptionalSymIntArrayRef);
using GateSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, bool, double, double,
                             double, OptionalSymIntArrayRef, OptionalSymIntArrayRef);
using GateKeepSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, bool, double,
                                     double, double, OptionalSymIntArrayRef,
                                     OptionalSymIntArrayRef);
using GateBackwardSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, double,
                                         double, bool);
using GateRecomputeSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, bool, double,
                                      OptionalSymIntArrayRef, OptionalSymIntArrayRef);
using GateRecomputeBackwardSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&,
                                                  const Tensor&, bool, OptionalSymIntArrayRef,
                                                  OptionalSymIntArrayRef);
using MaxSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&, int64_t, bool,
                                OptionalSymIntArrayRef, OptionalSymIntArrayRef);
using ArgmaxSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t, bool,
                               OptionalSymIntArrayRef, OptionalSymIntArrayRef);
using NoiseSignature = Tensor(const Tensor&, const Tensor&, OptionalSymIntArrayRef,
                              OptionalSymIntArrayRef);
using OneHotSignature = OneHotResult(const Tensor&, const Tensor&, const Tensor&, int64_t,
                                     c10::string_view, int64_t, double, std::optional<ScalarType>,
                                     bool, OptionalSymIntArrayRef, OptionalSymIntArrayRef);
using OneHotBackwardSignature = TensorPair(const Tensor&, const Tensor&, const Tensor&,
                                           const Tensor&, const Tensor&, int64_t, c10::string_view,
                                           int64_t, double, bool, OptionalSymIntArrayRef,
                                           OptionalSymIntArrayRef);
using LookupSignature = LookupResult(const Tensor&, const Tensor&, const Tensor&, const Tensor&);
using KlSignature = KlResult(const Tensor&, const std::optional<Tensor>&, int64_t, bool);
using KlBackwardSignature = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                   const Tensor&, const std::optional<Tensor>&, int64_t, bool);
using SampleLogitsSignature = FilterResult(const Tensor&, const Tensor&, const Tensor&, int64_t,
                                           const std::optional<Tensor>&,
                                           const std::optional<Tensor>&,
                                           const std::optional<Tensor>&, bool, bool,
                                           OptionalSymIntArrayRef, OptionalSymIntArrayRef);
using FilterLogitsSignature = Tensor(const Tensor&, const Tensor&, int64_t,
                                     const std::optional<Tensor>&, const std::optional<Tensor>&,
                                     const std::optional<Tensor>&);
using NewKeySignature = Tensor(const Tensor&, std::optional<at::Generator>);
using SplitKeySignature = Tensor(const Tensor&, c10::SymInt);
using FoldInKeySignature = Tensor(const Tensor&, c10::SymInt);
using FoldInKeyTensorSignature = Tensor(const Tensor&, const Tensor&);

#define TG_OP(function, Signature, name)                               \
  inline const c10::TypedOperatorHandle<Signature>& function() {       \
    static const auto handle = find<Signature>("torch_gumbel::" name); \
    return handle;                                                     \
  }
TG_OP(softmax, SoftmaxSignature, "_gumbel_softmax")
TG_OP(softmax_lse, SoftmaxLseSignature, "_gumbel_softmax_lse")
TG_OP(hard, HardSignature, "_gumbel_softmax_hard")
TG_OP(hard_soft, HardSoftSignature, "_gumbel_softmax_hard_soft")
TG_OP(backward, BackwardSignature, "_gumbel_softmax_backward")
TG_OP(hard_backward, HardBackwardSignature, "_gumbel_softmax_hard_backward")
TG_OP(gate, GateSignature, "_gumbel_gate")
TG_OP(gate_keep, GateKeepSignature, "_gumbel_gate_keep")
TG_OP(gate_backward, GateBackwardSignature, "_gumbel_gate_backward")
TG_OP(gate_recompute, GateRecomputeSignature, "_gumbel_gate_recompute")
TG_OP(gate_recompute_backward, GateRecomputeBackwardSignature, "_gumbel_gate_recompute_backward")
TG_OP(max, MaxSignature, "_gumbel_max")
TG_OP(argmax, ArgmaxSignature, "_gumbel_argmax")
TG_OP(noise, NoiseSignature, "_gumbel_noise")
TG_OP(one_hot, OneHotSignature, "_sample_one_hot")
TG_OP(one_hot_backward, OneHotBackwardSignature, "_sample_one_hot_backward")
TG_OP(lookup, LookupSignature, "_straight_through_lookup")
TG_OP(kl, KlSignature, "_kl_categorical")
TG_OP(kl_backward, KlBackwardSignature, "_kl_categorical_backward")
TG_OP(sample_logits, SampleLogitsSignature, "_sample_logits")
TG_OP(filter_logits, FilterLogitsSignature, "_filter_logits")
TG_OP(new_key, NewKeySignature, "_new_key")
TG_OP(split_key, SplitKeySignature, "_split_key")
TG_OP(fold_in_key, FoldInKeySignature, "_fold_in_key")
#undef TG_OP

inline const c10::TypedOperatorHandle<FoldInKeyTensorSignature>& fold_in_key_tensor() {
  static const auto handle = find<FoldInKeyTensorSignature>("torch_gumbel::_fold_in_key", "tensor");
  return handle;
}

}  // namespace torch_gumbel::ops
