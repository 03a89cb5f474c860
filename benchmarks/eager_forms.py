# SPDX-License-Identifier: Apache-2.0
"""The PyTorch code that torch_gumbel's other functions replace, as it is written elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, OneHotCategoricalStraightThrough


def gate(x: Tensor, tau: float = 0.7) -> Tensor:
    """With the logistic noise of one uniform number."""
    v = torch.rand_like(x)
    return ((x + v.log() - (-v).log1p()) / tau).sigmoid()


def hard_gate(x: Tensor) -> Tensor:
    v = torch.rand_like(x)
    return (x + v.log() - (-v).log1p() > 0).to(x.dtype)


def concrete(x: Tensor) -> Tensor:
    return (gate(x, 2 / 3) * 1.2 - 0.1).clamp(0, 1)


def kl_of_logits(x: Tensor) -> Tensor:
    log_q = x.log_softmax(-1)
    return (log_q.exp() * (log_q + torch.tensor(float(x.size(-1))).log())).sum(-1)


def kl_of_probs(p: Tensor) -> Tensor:
    return (p * (p.log() + torch.tensor(float(p.size(-1))).log())).sum(-1)


def filtered(x: Tensor, top_k: int = 0, top_p: float = 1, min_p: float = 0) -> Tensor:
    """A draw by the formulas of transformers' TopK, TopP, and MinPLogitsWarper."""
    if top_k:
        x = x.masked_fill(x < x.topk(top_k).values[:, -1:], -torch.inf)
    if top_p < 1:
        values, order = x.sort()
        small = values.softmax(-1).cumsum(-1) <= 1 - top_p
        small[:, -1:] = False
        x = x.masked_fill(small.scatter(1, order, small), -torch.inf)
    if min_p:
        p = x.softmax(-1)
        x = x.masked_fill(p < min_p * p.amax(-1, keepdim=True), -torch.inf)
    return x.softmax(-1).multinomial(1)


def law_of(x: Tensor, index: Tensor) -> Tensor:
    log_p = x.log_softmax(-1)
    return log_p.gather(-1, index[:, None]).squeeze(-1) - (log_p.exp() * log_p).sum(-1)


def draw_and_law(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    law = Categorical(logits=x)
    index = law.sample()
    return index, law.log_prob(index), law.entropy()


def straight_through(x: Tensor) -> Tensor:
    sample: Tensor = OneHotCategoricalStraightThrough(logits=x, validate_args=False).rsample()
    return sample


def drawn_one_hot(p: Tensor) -> Tensor:
    return torch.zeros_like(p).scatter_(-1, p.multinomial(1), 1.0)


class ReinMax(torch.autograd.Function):
    """As in the package reinmax, at a temperature of 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        p = x.softmax(-1)
        sample = drawn_one_hot(p)
        ctx.save_for_backward(x, p, sample)
        return sample

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        x, p, sample = ctx.saved_tensors
        shifted = (x.softmax(-1) + sample) / 2
        first = 2 * grad * shifted
        first = first - shifted * first.sum(-1, keepdim=True)
        second = -grad * p / 2
        result: Tensor = first + second - p * second.sum(-1, keepdim=True)
        return result


def gapped(x: Tensor, gap: float = 1.0) -> Tensor:
    """Fan et al., "Training discrete deep generative models via gapped straight-through"."""
    sample = drawn_one_hot(x.detach().softmax(-1))
    with torch.no_grad():
        top = x.amax(-1, keepdim=True)
        up = (top - (x * sample).sum(-1, keepdim=True)) * sample
        down = (x + up - top + gap).clamp(min=0) * (1 - sample)
    y = (x + up - down).softmax(-1)
    return sample + (y - y.detach())


def subset(x: Tensor, k: int, tau: float = 1.0) -> Tensor:
    """Relaxed k-hot samples as in ermongroup/subsets."""
    scores = x - torch.empty_like(x).exponential_().log()
    chosen, total = torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(k):
        scores = scores + (1 - chosen).clamp(min=1e-38).log()
        chosen = (scores / tau).softmax(-1)
        total = total + chosen
    return total
