// SPDX-License-Identifier: Apache-2.0
// The table of contents of torch_gumbel: here the ops that give samples with gradients, in
// library_draws.cpp draws, laws, noise, and keys.
//
// Public ops check their arguments, make a key, and call private ones. Private ops are pure
// functions of tensors, so a tracer can record them and a recompute repeats them. Compilers keep
// what they made of public ops in a cache that outlives a version of the library: from the first
// release on, a private op that is to mean something else needs another name. Their arguments:
//
//   key         [*batch, 2]: one key per slice of the leading dimensions of logits
//   full_shape  shape of the tensor of which logits are a shard, dimensions after the batch
//   start       where the shard starts in it
//   dtype       of the result; None: that of logits
//
// Results named "rows" have size 1 at dim, and the opmath type: float64 for float64 logits, else
// float32.
//
// To add an op: CONTRIBUTING.md.
#include <torch/library.h>

#include "../build_info.h"

namespace torch_gumbel::ops {

// Composite ops, which are made of other ops, by the file that has them: csrc/ops/NAME.cpp.
void register_gumbel_softmax(torch::Library& m);
void register_gates(torch::Library& m);
void register_sample_categorical(torch::Library& m);
void register_sample_one_hot(torch::Library& m);
void register_lookup(torch::Library& m);

namespace {

void register_composite(torch::Library& m) {
  for (const auto each : {register_gumbel_softmax, register_gates, register_sample_categorical,
                          register_sample_one_hot, register_lookup})
    each(m);
}

using at::Tag;

TORCH_LIBRARY(torch_gumbel, m) {
  const std::vector<Tag> pure = {Tag::pt2_compliant_tag};

  // The tensor overload comes first: torch.ops tries overloads in order, and would turn a 0-d tau
  // into a number.
  m.def(
      "gumbel_softmax.tensor_tau(Tensor logits, Tensor tau, bool hard=False, int dim=-1, *, "
      "bool recompute=False, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_softmax(Tensor logits, Scalar tau=1, bool hard=False, int dim=-1, *, "
      "bool recompute=False, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);

  // Gates, element by element.
  m.def(
      "gumbel_sigmoid.tensor_tau(Tensor logits, Tensor tau, bool hard=False, float threshold=0.5, "
      "*, bool recompute=False, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_sigmoid(Tensor logits, Scalar tau=1, bool hard=False, float threshold=0.5, *, "
      "bool recompute=False, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "hard_concrete.tensor_tau(Tensor logits, Tensor tau, float lower=-0.1, float upper=1.1, *, "
      "Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "hard_concrete(Tensor logits, Scalar tau, float lower=-0.1, float upper=1.1, *, "
      "Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "hard_concrete_penalty.tensor_tau(Tensor logits, Tensor tau, float lower=-0.1, "
      "float upper=1.1) -> Tensor",
      pure);
  m.def(
      "hard_concrete_penalty(Tensor logits, Scalar tau, float lower=-0.1, float upper=1.1) "
      "-> Tensor",
      pure);

  // From probabilities.
  m.def(
      "sample_categorical.tensor_temperature(Tensor probs, Tensor temperature, bool hard=False, "
      "int dim=-1, *, bool validate_args=False, Generator? generator=None, Tensor? key=None) "
      "-> Tensor",
      pure);
  m.def(
      "sample_categorical(Tensor probs, Scalar temperature, bool hard=False, int dim=-1, *, "
      "bool validate_args=False, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);

  // A one-hot sample by an estimator; index: an empty tensor where it was not made.
  m.def(
      "sample_one_hot.tensor_tau(Tensor logits, Tensor tau, str estimator=\"straight-through\", "
      "int dim=-1, *, float uniform_mix=0., int samples=10, float gap=1., float tau_forward=1., "
      "bool return_index=False, Generator? generator=None, Tensor? key=None) "
      "-> (Tensor output, Tensor index)",
      pure);
  m.def(
      "sample_one_hot(Tensor logits, str estimator=\"straight-through\", Scalar? tau=None, "
      "int dim=-1, *, float uniform_mix=0., int samples=10, float gap=1., float tau_forward=1., "
      "bool return_index=False, Generator? generator=None, Tensor? key=None) "
      "-> (Tensor output, Tensor index)",
      pure);

  // A code of a codebook; index: an empty tensor where it was not made.
  m.def(
      "straight_through_lookup.tensor_tau(Tensor logits, Tensor codebook, Tensor tau, "
      "bool hard=True, *, bool return_index=False, str estimator=\"gumbel\", "
      "Generator? generator=None, Tensor? key=None) "
      "-> (Tensor output, Tensor index)",
      pure);
  m.def(
      "straight_through_lookup(Tensor logits, Tensor codebook, Scalar tau=1, bool hard=True, *, "
      "bool return_index=False, str estimator=\"gumbel\", Generator? generator=None, "
      "Tensor? key=None) "
      "-> (Tensor output, Tensor index)",
      pure);

  m.def("_build_info() -> Dict(str, str)", pure);
  m.impl("_build_info", TORCH_FN(build_info));

  // softmax((logits + g) / tau), or its one-hot; with the log-sum-exp rows; and the backward of
  // each. A hard sample of _gumbel_softmax keeps logits and key for its backward; that of
  // _gumbel_softmax_hard keeps the soft sample, and is the first result of
  // _gumbel_softmax_hard_soft where a derivative is wanted.
  m.def(
      "_gumbel_softmax(Tensor logits, Tensor tau, Tensor key, int dim, bool hard, *, ScalarType? "
      "dtype=None, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) -> Tensor",
      pure);
  m.def(
      "_gumbel_softmax_hard(Tensor logits, Tensor tau, Tensor key, int dim, *, ScalarType? "
      "dtype=None, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) -> Tensor",
      pure);
  m.def(
      "_gumbel_softmax_hard_soft(Tensor logits, Tensor tau, Tensor key, int dim, *, ScalarType? "
      "dtype=None, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) -> (Tensor one_hot, Tensor soft)",
      pure);
  m.def(
      "_gumbel_softmax_lse(Tensor logits, Tensor tau, Tensor key, int dim, *, ScalarType? "
      "dtype=None, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) -> (Tensor output, Tensor lse_rows)",
      pure);
  m.def(
      "_gumbel_softmax_backward(Tensor grad, Tensor output, Tensor tau, int dim, *, ScalarType? "
      "dtype=None, "
      "bool tau_grad=False) -> (Tensor grad_logits, Tensor grad_tau_rows)",
      pure);
  m.def(
      "_gumbel_softmax_hard_backward(Tensor grad, Tensor logits, Tensor tau, Tensor key, int dim, "
      "*, "
      "bool tau_grad=False, SymInt[]? full_shape=None, SymInt[]? start=None) "
      "-> (Tensor grad_logits, Tensor grad_tau_rows)",
      pure);

  // Gates: sigmoid((logits + L) / tau) with logistic noise L, stretched to [lower, upper] and
  // clamped to [0, 1]; hard: 0 or 1. kept: what the backward needs (csrc/math/gate.h). tau
  // broadcasts to logits, and has a gradient for each of them; a batch of keys may take all
  // dimensions.
  m.def(
      "_gumbel_gate(Tensor logits, Tensor tau, Tensor key, bool hard, float threshold, "
      "float lower, float upper, *, SymInt[]? full_shape=None, SymInt[]? start=None) -> Tensor",
      pure);
  m.def(
      "_gumbel_gate_keep(Tensor logits, Tensor tau, Tensor key, bool hard, float threshold, "
      "float lower, float upper, *, SymInt[]? full_shape=None, SymInt[]? start=None) "
      "-> (Tensor output, Tensor kept)",
      pure);
  m.def(
      "_gumbel_gate_backward(Tensor grad, Tensor kept, Tensor tau, float lower, float upper, *, "
      "bool tau_grad=False) -> (Tensor grad_logits, Tensor grad_tau)",
      pure);
  m.def(
      "_gumbel_gate_recompute(Tensor logits, Tensor tau, Tensor key, bool hard, float threshold, "
      "*, SymInt[]? full_shape=None, SymInt[]? start=None) -> Tensor",
      pure);
  m.def(
      "_gumbel_gate_recompute_backward(Tensor grad, Tensor logits, Tensor tau, Tensor key, *, "
      "bool tau_grad=False, SymInt[]? full_shape=None, SymInt[]? start=None) "
      "-> (Tensor grad_logits, Tensor grad_tau)",
      pure);

  // A one-hot sample with the gradient of an estimator (csrc/math/estimators.h), and its classes,
  // of size 1 at dim. They are those of _gumbel_argmax. `keep`: and a copy of the logits, else [0].
  m.def(
      "_sample_one_hot(Tensor logits, Tensor tau, Tensor key, int dim, str estimator, *, "
      "int samples=1, float gap=1., ScalarType? dtype=None, bool keep=False, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) "
      "-> (Tensor one_hot, Tensor kept, Tensor index)",
      pure);
  m.def(
      "_sample_one_hot_backward(Tensor grad, Tensor logits, Tensor index, Tensor tau, Tensor key, "
      "int dim, str estimator, *, int samples=1, float gap=1., bool tau_grad=False, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) "
      "-> (Tensor grad_logits, Tensor grad_tau_rows)",
      pure);

  // The hard lookup of logits [*, K] in a codebook [K, D]; defined: [*], whether a row has a
  // distribution.
  m.def(
      "_straight_through_lookup(Tensor logits, Tensor codebook, Tensor tau, Tensor key) "
      "-> (Tensor output, Tensor index, Tensor defined)",
      pure);
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeImplicitAutograd, m) { register_composite(m); }

// Under vmap a composite op is run as it stands, so that its key is drawn by the vmap's own rule.
TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchVmapMode, m) { register_composite(m); }

}  // namespace
}  // namespace torch_gumbel::ops
