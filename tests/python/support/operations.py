# SPDX-License-Identifier: Apache-2.0
"""The tables of operations that tests of what holds for every one of them run over.

A new public operation gets an entry of TABLE: its arguments in Python, those of each overload of
its dispatcher op, and whether it is random, differentiable, and defined for DTensors. A new private
one gets an entry of PRIVATE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from common import make_key

import torch_gumbel

ops = torch.ops.torch_gumbel


@dataclasses.dataclass
class Inputs:
    """Tensors of 3 rows with 4 classes."""

    dtype: torch.dtype = torch.float32
    requires_grad: bool = False

    def made(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self.dtype).requires_grad_(self.requires_grad)

    def __post_init__(self) -> None:
        self.logits = self.made(torch.randn(3, 4))
        self.probs = self.made(torch.rand(3, 4) + 0.1)
        self.rows = self.made(torch.rand(3, 1) + 0.5)  # temperatures
        self.codebook = self.made(torch.randn(4, 2))
        self.prior = self.made(torch.rand(4) + 0.1)
        self.log_likelihood = self.made(-torch.rand(3))


Arguments = Callable[[Inputs], tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Operation:
    """`arguments`: of the Python function; the first is the tensor that gives dtype and batch.

    `overloads`: arguments of each overload of the dispatcher op of that name.
    """

    name: str
    arguments: Arguments
    overloads: Mapping[str, Arguments]
    random: bool = True
    differentiable: bool = True
    takes_dtensors: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        return getattr(torch_gumbel, self.name)

    def options(self, key: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"key": key} if self.random else {}


TABLE = [
    Operation(
        "gumbel_softmax",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, True),
        },
        takes_dtensors=True,
    ),
    Operation(
        "gumbel_argmax",
        lambda i: (i.logits,),
        {
            "default": lambda i: (i.logits,),
            "tensor_temperature": lambda i: (i.logits, i.rows.detach()),
        },
        differentiable=False,
        takes_dtensors=True,
    ),
    Operation(
        "gumbel_topk",
        lambda i: (i.logits, 2),
        {
            "default": lambda i: (i.logits, 2),
            "tensor_temperature": lambda i: (i.logits, i.rows, 2),
        },
    ),
    Operation(
        "sample_categorical",
        lambda i: (i.probs, 0.5),
        {
            "default": lambda i: (i.probs, 0.5, True),
            "tensor_temperature": lambda i: (i.probs, i.rows),
        },
    ),
    Operation(
        "straight_through_lookup",
        lambda i: (i.logits, i.codebook),
        {
            "default": lambda i: (i.logits, i.codebook, 0.7, False),
            "tensor_tau": lambda i: (i.logits, i.codebook, i.rows),
        },
    ),
    Operation(
        "gumbel_like",
        lambda i: (i.logits,),
        {"default": lambda i: (i.logits.detach(),)},
        differentiable=False,
    ),
    Operation(
        "kl_categorical",
        lambda i: (i.logits,),
        {"default": lambda i: (None, i.probs, i.prior)},
        random=False,
    ),
    Operation(
        "categorical_elbo",
        lambda i: (i.log_likelihood, i.logits),
        {"default": lambda i: (i.log_likelihood, i.logits)},
        random=False,
    ),
    Operation(
        "perplexity",
        lambda i: (i.probs,),
        {"default": lambda i: (i.probs,)},
        random=False,
    ),
]
OPERATIONS = {operation.name: operation for operation in TABLE}
# Without a tensor among its arguments, it has only its overload in common with the others.
SAMPLE_GUMBEL = Operation(
    "sample_gumbel",
    lambda i: (i.logits.shape,),
    {"default": lambda i: (torch.empty(0), i.logits.shape)},
    differentiable=False,
)
OVERLOADS = [
    (operation, overload)
    for operation in [*TABLE, SAMPLE_GUMBEL]
    for overload in operation.overloads
]


def tensors(element=torch.float32, requires_grad=False, **changes) -> SimpleNamespace:
    """What private ops take: rows of [2, 3, 4] along dim 1, with a temperature each."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 4, generator=generator).to(element)
    given = {
        "x": x.requires_grad_(requires_grad),
        "y": x.detach().softmax(1).requires_grad_(requires_grad),
        "grad": torch.randn(2, 3, 4, generator=generator).to(element),
        "tau": (torch.rand(2, 1, 4, generator=generator) + 0.5).requires_grad_(requires_grad),
        "key": make_key(5),
        "dim": 1,
        "flag": True,
        "dtype": None,
        "place": {},
    }
    return SimpleNamespace(**{**given, **changes})


def changed(given: SimpleNamespace, **changes) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(given), **changes})


# Private ops of logits or their sample: arguments and options, made of `tensors`.
PRIVATE = {
    "_gumbel_softmax": lambda t: ((*of_draw(t), t.flag), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_hard": lambda t: (of_draw(t), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_hard_soft": lambda t: (of_draw(t), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_lse": lambda t: (of_draw(t), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_backward": lambda t: (
        (t.grad, t.y, t.tau, t.dim),
        {"dtype": t.dtype, "tau_grad": t.flag},
    ),
    "_gumbel_softmax_hard_backward": lambda t: (
        (t.grad, *of_draw(t)),
        {"tau_grad": t.flag, **t.place},
    ),
    "_gumbel_max": lambda t: ((*of_draw(t), t.flag), t.place),
    "_gumbel_argmax": lambda t: ((*of_draw(t), t.flag), t.place),
    "_gumbel_noise": lambda t: ((t.x, t.key), t.place),
}


def of_draw(t: SimpleNamespace) -> tuple:
    return t.x, t.tau, t.key, t.dim
