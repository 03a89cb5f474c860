# SPDX-License-Identifier: Apache-2.0
"""What an entry of operations.py is, and the tensors that arguments are made of."""

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
        of_rows = [n for i, n in enumerate(self.shape) if i != self.dim % len(self.shape)]
        self.index = torch.randint(max(classes, 1), of_rows)
        self.codebook = self.made(torch.randn(classes, 2))
        self.prior = self.made(torch.rand(classes) + 0.1)
        self.drawn = torch.rand(self.shape).argsort(self.dim)  # all classes, in an order
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
    elements, and not of rows of classes. `keyed`: its key has no default.
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
    keyed: bool = False

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
        return next((p for p in self.parameters if p in ("tau", "temperature")), None)

    def given(self, inputs: Inputs, **changes: Any) -> dict[str, Any]:
        """The arguments by name, along `inputs.dim`, some of them changed."""
        signature = inspect.signature(self.function)
        dim = {"dim": inputs.dim} if "dim" in self.parameters else {}
        key = self.options(torch.tensor([5, 0], dtype=torch.uint64)) if self.keyed else {}
        return {
            **signature.bind_partial(*self.arguments(inputs)).arguments,
            **dim,
            **key,
            **changes,
        }

    def options(self, key: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"key": key} if self.random else {}


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


def of_draw(t: SimpleNamespace) -> tuple:
    return t.x, t.tau, t.key, t.dim


def of_gate(t: SimpleNamespace) -> tuple:
    return t.x, t.tau, t.key


def index_of(t: SimpleNamespace) -> torch.Tensor:
    """Class 0 of every row."""
    shape = [1 if i == t.dim else n for i, n in enumerate(t.x.shape)]
    return torch.zeros(shape, dtype=torch.int64)


def of_rows(t: SimpleNamespace) -> torch.Tensor:
    """1 for every row."""
    return torch.ones_like(index_of(t), dtype=torch.float32)
