# SPDX-License-Identifier: Apache-2.0
"""Checks of results, made before they are timed."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from baselines import as_torch
from cases import BACKWARD, HARD, INDEX, Call, Entry, Task
from implementations import Inputs, call_of
from torch import Tensor

import torch_gumbel

#: Relative error allowed: of a probability, and of a gradient by its terms.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 2**-7, "bfloat16": 2**-5}
SUBNORMAL = {"float64": 0.0, "float32": 1e-7, "float16": 2**-23, "bfloat16": 1e-7}


class Wrong(Exception):
    """A result is wrong; the message names the error."""


def require(right: bool | Tensor, what: str) -> None:
    if not bool(right):
        raise Wrong(what)


def check(entry: Entry, inputs: Inputs, call: Call) -> None:
    """torch_gumbel: all values against formulas in float64. Others: the form of a sample."""
    if entry.who == "ours":
        check_ours(entry.task)
        require(torch.isfinite(as_torch(call())).all(), "the result is not finite")
    elif entry.who in ("softmax", "argmax", "copy", "arithmetic"):
        require(as_torch(call()).shape.numel() > 0, "no result")
    else:
        check_form(entry.task, as_torch(call()), as_torch(call()))


@functools.lru_cache(maxsize=4)
def check_ours(task: Task) -> None:
    inputs = Inputs.of(task)
    logits, grad, dim = inputs.logits[0], inputs.grads[0], task.dim
    if task.kind == BACKWARD:
        result = as_torch(call_of("ours", task, inputs)())
        return check_gradient(task, logits.double(), grad, result)
    key = torch_gumbel.key(1)
    scores = logits.double() + torch.ops.torch_gumbel._gumbel_noise(logits, key).double()
    if task.kind == INDEX:
        return check_choice(scores, torch_gumbel.gumbel_argmax(logits, dim, key=key), dim)
    leaf = logits.clone().requires_grad_()
    sample = torch_gumbel.gumbel_softmax(leaf, task.tau, task.hard, dim=dim, key=key)
    y = torch.softmax(scores / task.tau, dim)
    if task.hard:
        require(torch.equal(sample.sum(dim), torch.ones_like(sample.sum(dim))), "not one 1 a row")
        check_choice(scores, sample.argmax(dim), dim)
    else:
        error = (sample.double() - y).abs()
        allowed = TOLERANCE[task.dtype] * y + SUBNORMAL[task.dtype]
        require((error <= allowed).all(), "probabilities differ from the formula")
    if task.training:
        (result,) = torch.autograd.grad(sample, leaf, grad)
        check_gradient(task, y, grad, result)


def check_choice(scores: Tensor, index: Tensor, dim: int) -> None:
    """The selected scores are the largest, up to the last bit of a float32 sum."""
    chosen = scores.gather(dim, index.unsqueeze(dim)).squeeze(dim)
    require((scores.amax(dim) - chosen <= 4e-6).all(), "a choice is not a maximum")


def check_gradient(task: Task, y: Tensor, grad: Tensor, result: Tensor) -> None:
    wide = grad.double()
    dot = (y * wide).sum(task.dim, keepdim=True)
    expected = y * (wide - dot) / task.tau
    terms = (wide.abs() + dot.abs()) / task.tau
    allowed = (TOLERANCE[task.dtype] * y + SUBNORMAL[task.dtype]) * (terms + 1)
    require(((result.double() - expected).abs() <= allowed).all(), "gradients differ from formula")


def check_form(task: Task, first: Tensor, second: Tensor) -> None:
    """The form of a sample with unknown noise: finite, correct sums, different at every call."""
    rows = task.elements // task.classes
    if task.kind == INDEX:
        require(first.numel() == rows, f"{first.numel()} indices for {rows} rows")
        require((first >= 0).all() and (first < task.classes).all(), "index out of range")
    else:
        require(tuple(first.shape) == task.shape, f"shape {tuple(first.shape)}")
        bad = int((~torch.isfinite(first)).any(task.dim).sum())
        require(bad == 0, f"{bad} of {rows} rows are not finite")
        require(first.any(), "the gradient is 0 everywhere" if task.training else "only zeros")
        check_sums(task, first.double())
    require(not torch.equal(first, second) or task.elements < 100, "two calls draw the same")


def check_sums(task: Task, values: Tensor) -> None:
    """Rows of a sample sum to 1, those of a gradient to 0, with a tolerance for half types."""
    loose = 8 * TOLERANCE[task.dtype]
    sums = values.sum(task.dim)
    if task.training:
        return require((sums.abs() <= 10 * loose).all(), "the gradient's rows do not sum to 0")
    require(((sums - 1).abs() <= loose).all(), "rows do not sum to 1")
    if task.kind == HARD:
        one_hot = F.one_hot(values.argmax(task.dim), task.classes).movedim(-1, task.dim)
        require(((values - one_hot).abs() <= loose).all(), "rows are not one-hot")
