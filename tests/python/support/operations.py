# SPDX-License-Identifier: Apache-2.0
"""The tables of operations that tests of what holds for every one of them run over.

A new public operation gets an entry of TABLE: its arguments in Python, those of each overload of
its dispatcher op, and whether it is random, differentiable, and defined for DTensors; types of its
arguments are those of its annotations. A new private one gets an entry of PRIVATE.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import torch
from common import make_key

import torch_gumbel

ops = torch.ops.torch_gumbel


@dataclasses.dataclass
class Inputs:
    """Tensors of 3 rows with 4 classes, or of another shape with its classes along `dim`."""

    dtype: torch.dtype = torch.float32
    requires_grad: bool = False
    shape: tuple[int, ...] = (3, 4)
    dim: int = -1

    def made(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self.dtype).requires_grad_(self.requires_grad)

    def __post_init__(self) -> None:
        classes = self.shape[self.dim]
        rows = [1 if i == self.dim % len(self.shape) else n for i, n in enumerate(self.shape)]
        self.logits = self.made(torch.randn(self.shape))
        self.probs = self.made(torch.rand(self.shape) + 0.1)
        self.rows = self.made(torch.rand(rows) + 0.5)  # temperatures
        self.codebook = self.made(torch.randn(classes, 2))
        self.prior = self.made(torch.rand(classes) + 0.1)
        self.log_likelihood = self.made(-torch.rand(self.shape[:-1]))


Arguments = Callable[[Inputs], tuple[Any, ...]]


@functools.cache
def parameters_of(function: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """The types that each parameter takes, by its annotation."""
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    return {p: get_args(hints[p]) or (hints[p],) for p in inspect.signature(function).parameters}


@dataclasses.dataclass(frozen=True)
class Operation:
    """`arguments`: of the Python function; the first is the tensor that gives dtype and batch.

    `overloads`: arguments of each overload of the dispatcher op of that name. `variants`: options
    with code paths of their own. `takes_zero`: its temperature may be 0. `elementwise`: it is of
    elements, and not of rows of classes.
    """

    name: str
    arguments: Arguments
    overloads: Mapping[str, Arguments]
    random: bool = True
    differentiable: bool = True
    takes_dtensors: bool = False
    variants: tuple[Mapping[str, Any], ...] = ()
    takes_zero: bool = False
    elementwise: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        return getattr(torch_gumbel, self.name)

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        return parameters_of(self.function)

    @property
    def first(self) -> str:
        return next(iter(self.parameters))

    @property
    def temperature(self) -> str | None:
        """The parameter that takes a number, or a tensor with one value per row."""
        return next((p for p, t in self.parameters.items() if {float, torch.Tensor} <= {*t}), None)

    def given(self, inputs: Inputs, **changes: Any) -> dict[str, Any]:
        """The arguments by name, along `inputs.dim`, some of them changed."""
        signature = inspect.signature(self.function)
        dim = {"dim": inputs.dim} if "dim" in self.parameters else {}
        return {**signature.bind(*self.arguments(inputs)).arguments, **dim, **changes}

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
        variants=({"hard": True}, {"hard": True, "recompute": True}),
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
        variants=({"num_samples": 3},),
        takes_zero=True,
    ),
    Operation(
        "gumbel_topk",
        lambda i: (i.logits, 2),
        {
            "default": lambda i: (i.logits, 2),
            "tensor_temperature": lambda i: (i.logits, i.rows, 2),
        },
        takes_zero=True,
    ),
    Operation(
        "gumbel_sigmoid",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, True),
        },
        variants=({"hard": True}, {"hard": True, "recompute": True}),
        elementwise=True,
    ),
    Operation(
        "hard_concrete",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, -0.2, 1.0),
        },
        elementwise=True,
    ),
    Operation(
        "hard_concrete_penalty",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, -0.2, 1.0),
        },
        random=False,
        elementwise=True,
    ),
    Operation(
        "sample_categorical",
        lambda i: (i.probs, 0.5),
        {
            "default": lambda i: (i.probs, 0.5, True),
            "tensor_temperature": lambda i: (i.probs, i.rows),
        },
        variants=({"hard": True},),
    ),
    Operation(
        "straight_through_lookup",
        lambda i: (i.logits, i.codebook),
        {
            "default": lambda i: (i.logits, i.codebook, 0.7, False),
            "tensor_tau": lambda i: (i.logits, i.codebook, i.rows),
        },
        variants=(
            {"return_index": True},
            {"hard": False, "return_index": True},
            {"estimator": "straight-through"},
        ),
    ),
    Operation(
        "sample_one_hot",
        lambda i: (i.logits,),
        {
            "default": lambda i: (i.logits, "reinmax"),
            "tensor_tau": lambda i: (i.logits, i.rows, "gapped"),
        },
        variants=(
            {"estimator": "gumbel", "return_index": True},
            {"estimator": "gumbel-rao", "samples": 3},
            {"estimator": "gapped"},
            {"estimator": "decoupled", "tau_forward": 2.0},
            {"uniform_mix": 0.1, "return_index": True},
        ),
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
FORMS = [(operation, options) for operation in TABLE for options in ({}, *operation.variants)]
OF_ROWS = [(operation, options) for operation, options in FORMS if not operation.elementwise]
AT_TEMPERATURE = [operation for operation in TABLE if operation.temperature]
# Without a tensor among its arguments, it has only its overload in common with the others.
SAMPLE_GUMBEL = Operation(
    "sample_gumbel",
    lambda i: (i.logits.shape,),
    {"default": lambda i: (torch.empty(0), i.logits.shape)},
    differentiable=False,
)
ALL = [*TABLE, SAMPLE_GUMBEL]
OVERLOADS = [(operation, overload) for operation in ALL for overload in operation.overloads]


def form_id(value: Any) -> str:
    """Of an operation, options, or a shape."""
    if isinstance(value, dict):
        return " ".join(value) or "plain"
    return value.name if isinstance(value, Operation) else str(value)


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
    "_gumbel_gate": lambda t: ((*of_gate(t), t.flag, 0.4, -0.1, 1.1), t.place),
    "_gumbel_gate_keep": lambda t: ((*of_gate(t), t.flag, 0.4, -0.1, 1.1), t.place),
    "_gumbel_gate_backward": lambda t: ((t.grad, t.y, t.tau, -0.1, 1.1), {"tau_grad": t.flag}),
    "_gumbel_gate_recompute": lambda t: ((*of_gate(t), t.flag, 0.5), t.place),
    "_gumbel_gate_recompute_backward": lambda t: (
        (t.grad, *of_gate(t)),
        {"tau_grad": t.flag, **t.place},
    ),
    "_gumbel_max": lambda t: ((*of_draw(t), t.flag), t.place),
    "_gumbel_argmax": lambda t: ((*of_draw(t), t.flag), t.place),
    "_gumbel_noise": lambda t: ((t.x, t.key), t.place),
    "_sample_one_hot": lambda t: (
        (*of_draw(t), "straight-through"),
        {"dtype": t.dtype, **t.place},
    ),
    "_sample_one_hot_backward": lambda t: (
        (t.grad, t.x, index_of(t), *of_draw(t)[1:], "gapped"),
        {"tau_grad": t.flag, **t.place},
    ),
}


def of_draw(t: SimpleNamespace) -> tuple:
    return t.x, t.tau, t.key, t.dim


def of_gate(t: SimpleNamespace) -> tuple:
    return t.x, t.tau, t.key


def index_of(t: SimpleNamespace) -> torch.Tensor:
    """Class 0 of every row."""
    shape = [1 if i == t.dim else n for i, n in enumerate(t.x.shape)]
    return torch.zeros(shape, dtype=torch.int64)
