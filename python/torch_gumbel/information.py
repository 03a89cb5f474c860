# SPDX-License-Identifier: Apache-2.0
"""Relative entropy of categorical rows, the evidence lower bound, and perplexity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import has_torch_function_variadic

from torch_gumbel._arguments import check_tensor, integer, listed, overridden, refuse_dtensor

# Loads the library, which registers the ops.
import torch_gumbel._library  # noqa: F401  # isort: skip

_ops = torch.ops.torch_gumbel
_is_compiling = torch.compiler.is_compiling


def kl_categorical(
    logits: Tensor | None = None,
    probs: Tensor | None = None,
    prior: Tensor | None = None,
    dim: int = -1,
) -> Tensor:
    r"""KL(q || prior) = sum_k q_k (log q_k - log prior_k) of every row, in nats.

    Takes one pass forward and one backward on a CPU, without intermediate tensors; other devices
    use PyTorch's ops. 0 log 0 = 0.

    Args:
        logits: ``[*, K, *]``, q = softmax(logits); -inf masks a class. Or
        probs: ``[*, K, *]``, >= 0; rows need not sum to 1, q = probs / sum. Exactly one of the two;
            float32, float64, float16, or bfloat16.
        prior: probabilities, >= 0 (default: uniform): ``[K]``, along ``dim``, or a shape that
            broadcasts against the rows, with all K classes. Need not sum to 1. Where it is 0 and q
            is not, KL is infinite.
        dim: the class dimension.

    Returns:
        ``[*, *]``, >= 0, float32 (float64 for float64 rows; half types are computed and returned in
        float32), differentiable in every argument, twice and in forward mode. A class of
        probability 0 gets a gradient of exactly 0. A row without a distribution (NaN, negative or
        infinite probabilities, only zeros or masks) gives NaN.

    Raises:
        ValueError: both or neither of logits and probs; a prior of the wrong shape or device.
        TypeError: not a tensor, or not floating point.
        IndexError: ``dim`` out of range; K = 0.

    Source: Kullback, Leibler, *On Information and Sufficiency* (1951), eq. 2.4.

    Example:
        >>> torch_gumbel.kl_categorical(probs=torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([0.6931, 0.0000])
    """
    who = "kl_categorical"
    if not _is_compiling() and has_torch_function_variadic(logits, probs, prior):
        kl: Tensor = overridden(kl_categorical, (logits, probs, prior), locals())
        return kl
    for name, value in (("logits", logits), ("probs", probs), ("prior", prior)):
        _check_optional(who, name, value)
    kl = _ops.kl_categorical.default(logits, probs, prior, integer(who, "dim", dim))
    return kl


def categorical_elbo(log_likelihood: Tensor, logits: Tensor, prior: Tensor | None = None) -> Tensor:
    r"""The evidence lower bound of a model with categorical latents, one value per batch element.

    log_likelihood - sum over latents of KL(softmax(logits) || prior), in nats. It is a bound when
    ``log_likelihood`` is that of one-hot samples; with relaxed samples it is an approximation.

    Args:
        log_likelihood: ``[*batch]``, log p(x | codes).
        logits: ``[*batch, *latents, K]``, classes last. The shape of ``log_likelihood``
            determines the batch dimensions.
        prior: as for :func:`kl_categorical`.

    Returns:
        ``[*batch]``, differentiable.

    Raises:
        As :func:`kl_categorical`; ValueError also if ``log_likelihood`` does not have the leading
        sizes of ``logits``.

    Source: Jang, Gu, Poole, *Categorical Reparameterization with Gumbel-Softmax* (2016), section 3.

    Example:
        >>> logits = torch.zeros(4, 6, 8)  # 4 images, 6 latents of 8 classes
        >>> torch_gumbel.categorical_elbo(torch.full((4,), -2.0), logits)
        tensor([-2., -2., -2., -2.])
    """
    who = "categorical_elbo"
    if not _is_compiling() and has_torch_function_variadic(log_likelihood, logits, prior):
        elbo: Tensor = overridden(categorical_elbo, (log_likelihood, logits, prior), locals())
        return elbo
    check_tensor(who, "log_likelihood", log_likelihood)
    check_tensor(who, "logits", logits)
    for name, value in (("log_likelihood", log_likelihood), ("logits", logits), ("prior", prior)):
        _check_optional(who, name, value)
    elbo = _ops.categorical_elbo.default(log_likelihood, logits, prior)
    return elbo


def perplexity(codes: Tensor, dim: int = -1, over: int | Sequence[int] | None = None) -> Tensor:
    r"""The effective number of codes in use: exp of the entropy of the mean code, in [1, K].

    Args:
        codes: ``[*, K, *]``, one-hot or soft; floating point.
        dim: the class dimension.
        over: the dimensions to average over (default: all but ``dim``).

    Returns:
        The remaining dimensions, by default one value; float32, or float64 for float64 codes.
        Differentiable.

    Raises:
        ValueError: ``over`` names ``dim``.
        TypeError, IndexError: as :func:`kl_categorical`.

    Source: Baevski et al., *wav2vec 2.0* (2020), eq. 4, where its logarithm is the diversity loss.

    Example:
        >>> codes = torch.eye(4)[[0, 1, 0, 1]]  # two of four codes, equally often
        >>> torch_gumbel.perplexity(codes)
        tensor(2.)
    """
    who = "perplexity"
    if not _is_compiling() and has_torch_function_variadic(codes):
        value: Tensor = overridden(perplexity, (codes,), locals())
        return value
    check_tensor(who, "codes", codes)
    refuse_dtensor(who, codes)
    dims = None if over is None else [integer(who, "over", each) for each in listed(over)]
    value = _ops.perplexity.default(codes, integer(who, "dim", dim), dims)
    return value


def _check_optional(who: str, name: str, value: object) -> None:
    if value is None:
        return
    check_tensor(who, name, value)
    refuse_dtensor(who, value)
