# SPDX-License-Identifier: Apache-2.0
"""Every operation of the tests' table (support/operations.py), forward and backward, as values for
first_values.py. A new operation is there with its entry of the table; options with kernels of their
own that no variant has are named here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from torch_gumbel.estimators import ESTIMATORS

sys.path.append(str(Path(__file__).resolve().parents[1] / "python" / "support"))
from operation import Inputs, Operation
from operations import FORMS, OPERATIONS

Values = dict[str, torch.Tensor]
Options = Mapping[str, Any]

SHAPE = (12, 100)  # rows and classes
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
MORE = [(OPERATIONS["sample_one_hot"], {"estimator": name}) for name in ESTIMATORS]


def exact(shape: tuple[int, ...], factor: int) -> torch.Tensor:
    """Multiples of 1/32 in [-3, 3], which every dtype holds."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * factor % 193 - 96) / 32.0).view(shape)


class Fixed(Inputs):
    """The same values everywhere; floating-point ones of the signs that others have."""

    def __init__(self, device: str, dtype: torch.dtype, requires_grad: bool) -> None:
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)  # of integers, which have the same bits everywhere as well
            super().__init__(dtype, requires_grad, SHAPE)
        for name, x in vars(self).items():
            if torch.is_tensor(x) and not x.is_floating_point():
                setattr(self, name, x.to(device))

    def made(self, values: torch.Tensor) -> torch.Tensor:
        x = exact(values.shape, 7919)
        if (values >= 0).all():
            x = (x + 4) / 8
        elif (values <= 0).all():
            x = (x - 4) / 8
        return super().made(x.to(self.device))


def values_of(
    operation: Operation, options: Options, dtype: torch.dtype, device: str, key: torch.Tensor
) -> Values:
    """Its results, and the gradients at all tensors that they depend on."""
    inputs = Fixed(device, dtype, operation.differentiable)
    results = tree_leaves(
        operation.function(**{**operation.given(inputs), **options, **operation.options(key)})
    )
    found = {f"result {i}": result.detach().cpu() for i, result in enumerate(results)}
    outputs = [result for result in results if result.requires_grad]
    if not outputs:
        return found
    leaves = {name: x for name, x in vars(inputs).items() if torch.is_tensor(x) and x.requires_grad}
    grads = [exact(out.shape, 104729).to(out) for out in outputs]
    at = torch.autograd.grad(outputs, [*leaves.values()], grads, allow_unused=True)
    for name, grad in zip(leaves, at, strict=True):
        if grad is not None:
            found[f"gradient at {name}"] = grad.cpu()
    return found


def named() -> Iterator[tuple[str, Operation, Options]]:
    """Every form once."""
    seen = set()
    for operation, options in [*FORMS, *MORE]:
        name = " ".join([operation.name, *(f"{k}={v}" for k, v in options.items())])
        if name not in seen:
            seen.add(name)
            yield name, operation, options


def everything(device: str, key: torch.Tensor) -> Iterator[tuple[str, bool, Callable[[], Values]]]:
    """(name, whether it takes the key, what computes its values)."""
    for name, operation, options in named():
        for dtype in DTYPES:
            compute = partial(values_of, operation, options, dtype, device, key)
            yield f"{name}, {str(dtype).removeprefix('torch.')}", operation.random, compute
