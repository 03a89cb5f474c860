// SPDX-License-Identifier: Apache-2.0
// The table of contents of torch_gumbel, continued: draws, laws, noise, and keys. What its comments
// mean by key, full_shape, start, and rows: library.cpp.
#include <torch/library.h>

namespace torch_gumbel::ops {

void register_gumbel_argmax(torch::Library& m);
void register_gumbel_topk(torch::Library& m);
void register_gumbel_posterior(torch::Library& m);
void register_topk_log_prob(torch::Library& m);
void register_gumbel_subset(torch::Library& m);
void register_sample_logits(torch::Library& m);
void register_kl(torch::Library& m);
void register_log_prob(torch::Library& m);
void register_sample_gumbel(torch::Library& m);
void register_gumbel_at(torch::Library& m);

namespace {

void register_composite(torch::Library& m) {
  for (const auto each :
       {register_gumbel_argmax, register_gumbel_topk, register_gumbel_posterior,
        register_topk_log_prob, register_gumbel_subset, register_sample_logits, register_kl,
        register_log_prob, register_sample_gumbel, register_gumbel_at})
    each(m);
}

using at::Tag;

TORCH_LIBRARY_FRAGMENT(torch_gumbel, m) {
  const std::vector<Tag> pure = {Tag::pt2_compliant_tag};
  const std::vector<Tag> random = {Tag::nondeterministic_seeded, Tag::pt2_compliant_tag};

  // Indices; and k different classes with their perturbed logits.
  m.def(
      "gumbel_argmax.tensor_temperature(Tensor logits, Tensor temperature, int dim=-1, bool "
      "keepdim=False, *, SymInt? num_samples=None, "
      "Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_argmax(Tensor logits, int dim=-1, bool keepdim=False, *, Scalar temperature=1.0, "
      "SymInt? num_samples=None, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_topk.tensor_temperature(Tensor logits, Tensor temperature, SymInt k, int dim=-1, *, "
      "Generator? generator=None, Tensor? key=None) -> (Tensor values, Tensor indices)",
      pure);
  m.def(
      "gumbel_topk(Tensor logits, SymInt k, int dim=-1, *, Scalar temperature=1.0, "
      "Generator? generator=None, Tensor? key=None) -> (Tensor values, Tensor indices)",
      pure);

  // A relaxed k-hot sample.
  m.def(
      "gumbel_subset.tensor_tau(Tensor logits, int k, Tensor tau, bool hard=False, int dim=-1, *, "
      "Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_subset(Tensor logits, int k, Scalar tau=1.0, bool hard=False, int dim=-1, *, "
      "Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);

  // Perturbed logits given the class of the largest; the log-probability of an ordered draw.
  m.def(
      "gumbel_posterior(Tensor logits, Tensor index, int dim=-1, *, Tensor? max_value=None, "
      "SymInt? num_samples=None, Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_topk_log_prob.tensor_temperature(Tensor logits, Tensor indices, Tensor temperature, "
      "int dim=-1) -> Tensor",
      pure);
  m.def(
      "gumbel_topk_log_prob(Tensor logits, Tensor indices, int dim=-1, *, Scalar temperature=1.0) "
      "-> Tensor",
      pure);

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

  // Relative entropy to a prior, and what is made of it.
  m.def(
      "kl_categorical(Tensor? logits=None, Tensor? probs=None, Tensor? prior=None, int dim=-1) "
      "-> Tensor",
      pure);
  m.def("categorical_elbo(Tensor log_likelihood, Tensor logits, Tensor? prior=None) -> Tensor",
        pure);
  m.def("perplexity(Tensor codes, int dim=-1, int[]? over=None) -> Tensor", pure);

  // Log-probability of one class per row, and entropy.
  m.def(
      "log_prob_entropy.tensor_temperature(Tensor logits, Tensor index, Tensor temperature, "
      "int dim=-1) -> (Tensor log_prob, Tensor entropy)",
      pure);
  m.def(
      "log_prob_entropy(Tensor logits, Tensor index, int dim=-1, *, Scalar temperature=1.0) "
      "-> (Tensor log_prob, Tensor entropy)",
      pure);

  // The noise itself; the anchor carries the device.
  m.def(
      "sample_gumbel(Tensor anchor, SymInt[] size, *, ScalarType? dtype=None, "
      "Generator? generator=None, Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_like(Tensor like, *, ScalarType? dtype=None, Generator? generator=None, "
      "Tensor? key=None) -> Tensor",
      pure);
  m.def(
      "gumbel_at(Tensor index, SymInt num_classes, *, Tensor key, ScalarType? dtype=None) "
      "-> Tensor",
      pure);

  // Keys. The anchor is a fresh empty tensor: it carries the device, and keeps compilers from
  // merging two draws.
  // CONSERVATIVE: TorchScript, which knows no tags, must not fold a draw into a constant either.
  m.def(torch::schema("_new_key(Tensor anchor, Generator? generator) -> Tensor",
                      c10::AliasAnalysisKind::CONSERVATIVE),
        random);
  m.def("_split_key(Tensor key, SymInt num) -> Tensor", pure);
  m.def("_fold_in_key(Tensor key, SymInt data) -> Tensor", pure);
  m.def("_fold_in_key.tensor(Tensor key, Tensor data) -> Tensor", pure);

  // First maximum of logits / temperature + g, as torch.max and torch.argmax; and the noise g alone
  // (shape, device, and opmath type of `like`).
  m.def(
      "_gumbel_max(Tensor logits, Tensor temperature, Tensor key, int dim, bool keepdim, *, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) -> (Tensor value, Tensor index)",
      pure);
  m.def(
      "_gumbel_argmax(Tensor logits, Tensor temperature, Tensor key, int dim, bool keepdim, *, "
      "SymInt[]? full_shape=None, SymInt[]? start=None) -> Tensor",
      pure);
  m.def(
      "_gumbel_noise(Tensor like, Tensor key, *, SymInt[]? full_shape=None, SymInt[]? start=None) "
      "-> Tensor",
      pure);

  // The noise of classes index [*, m] of a tensor [*, num_classes]; dtype: float32 or float64.
  m.def("_gumbel_at(Tensor index, SymInt num_classes, Tensor key, ScalarType dtype) -> Tensor",
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

  // The k-hot of perturbed logits, float32 or float64; grad_tau_rows: one per row, or empty.
  m.def("_gumbel_subset(Tensor scores, Tensor tau, int k, int dim) -> Tensor", pure);
  m.def(
      "_gumbel_subset_backward(Tensor grad, Tensor scores, Tensor tau, int k, int dim, *, "
      "bool tau_grad=False) -> (Tensor grad_scores, Tensor grad_tau_rows)",
      pure);

  // Relative entropy of rows; base and log_sum are for its backward, and have no gradient.
  m.def(
      "_kl_categorical(Tensor values, Tensor? log_prior, int dim, bool from_probs) "
      "-> (Tensor kl_rows, Tensor base_rows, Tensor log_sum_rows)",
      pure);
  m.def(
      "_kl_categorical_backward(Tensor grad_rows, Tensor values, Tensor kl_rows, "
      "Tensor base_rows, Tensor log_sum_rows, Tensor? log_prior, int dim, bool from_probs) "
      "-> Tensor",
      pure);

  // index: of size 1 at dim, as rows are; max, sum, and mean are for the backward, and have no
  // gradient: csrc/math/log_prob.h.
  m.def(
      "_log_prob_entropy(Tensor logits, Tensor index, Tensor temperature, int dim) "
      "-> (Tensor log_prob_rows, Tensor entropy_rows, Tensor max_rows, Tensor sum_rows, "
      "Tensor mean_rows)",
      pure);
  m.def(
      "_log_prob_entropy_backward(Tensor? grad_log_prob, Tensor? grad_entropy, Tensor logits, "
      "Tensor index, Tensor temperature, Tensor max_rows, Tensor sum_rows, Tensor mean_rows, "
      "int dim, *, bool temperature_grad=False) "
      "-> (Tensor grad_logits, Tensor grad_temperature_rows)",
      pure);
}

TORCH_LIBRARY_IMPL(torch_gumbel, CompositeImplicitAutograd, m) { register_composite(m); }

// Under vmap a composite op is run as it stands, so that its key is drawn by the vmap's own rule.
TORCH_LIBRARY_IMPL(torch_gumbel, FuncTorchVmapMode, m) { register_composite(m); }

}  // namespace
}  // namespace torch_gumbel::ops
