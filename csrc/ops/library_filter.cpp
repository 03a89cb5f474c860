// SPDX-License-Identifier: Apache-2.0
// The table of contents (library.cpp), continued: filtered draws.
#include <torch/library.h>

namespace torch_gumbel::ops {

void register_sample_logits(torch::Library& m);  // sample_logits.cpp

namespace {

TORCH_LIBRARY_FRAGMENT(torch_gumbel, m) {
  const std::vector<at::Tag> pure = {at::Tag::pt2_compliant_tag};

  // Draws from the classes that filters keep; log_prob, entropy: empty tensors where they were not
  // asked for. And logits / temperature, -inf for the other classes.
  m.def(
      "sample_logits.tensor_temperature(Tensor logits, Tensor temperature, int dim=-1, *, "
      "Tensor? top_k=None, Tensor? top_p=None, Tensor? min_p=None, SymInt? num_samples=None, "
      "bool return_log_prob=False, bool return_entropy=False, Generator? generator=None, "
      "Tensor? key=None) -> (Tensor index, Tensor log_prob, Tensor entropy)",
      pure);
  m.def(
      "sample_logits(Tensor logits, int dim=-1, *, Scalar temperature=1.0, int? top_k=None, "
      "float? top_p=None, float? min_p=None, SymInt? num_samples=None, "
      "bool return_log_prob=False, bool return_entropy=False, Generator? generator=None, "
      "Tensor? key=None) -> (Tensor index, Tensor log_prob, Tensor entropy)",
      pure);
  m.def(
      "filter_logits.tensor_temperature(Tensor logits, Tensor temperature, int dim=-1, *, "
      "Tensor? top_k=None, Tensor? top_p=None, Tensor? min_p=None) -> Tensor",
      pure);
  m.def(
      "filter_logits(Tensor logits, int dim=-1, *, Scalar temperature=1.0, int? top_k=None, "
      "float? top_p=None, float? min_p=None) -> Tensor",
      pure);

  // The choice of _gumbel_argmax among the classes that filters keep, and the law of those. A filter
  // is one value, or one per row: top_k -1, 0; top_p 1; min_p 0: off.
  m.def(
      "_sample_logits(Tensor logits, Tensor temperature, Tensor key, int dim, Tensor? top_k, "
      "Tensor? top_p, Tensor? min_p, bool log_prob, bool entropy, *, SymInt[]? full_shape=None, "
      "SymInt[]? start=None) "
      "-> (Tensor index_rows, Tensor log_prob_rows, Tensor entropy_rows)",
      pure);
  m.def(
      "_filter_logits(Tensor logits, Tensor temperature, int dim, Tensor? top_k, Tensor? top_p, "
      "Tensor? min_p) -> Tensor",
      pure);
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeImplicitAutograd, m) { register_sample_logits(m); }
TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchVmapMode, m) { register_sample_logits(m); }

}  // namespace
}  // namespace torch_gumbel::ops
