# SPDX-License-Identifier: Apache-2.0
"""The calls that are timed, for a task and its inputs: torch_gumbel, PyTorch, and baselines.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from cases import BACKWARD, INDEX, Call, Maker, Task
from torch import Tensor

import torch_gumbel

Sampler = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Inputs:
    """Random logits and incoming gradients, one of each per buffer of the task."""

    logits: Sequence[Tensor]
    grads: Sequence[Tensor]

    @staticmethod
    def of(task: Task) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        dtype = getattr(torch, task.dtype)

        def draw() -> Tensor:
            return torch.randn(task.shape, generator=generator).to(dtype)

        logits = [draw() for _ in range(task.sets)]
        if task.kind == BACKWARD:  # its logits are the samples
            logits = [torch.softmax(x, task.dim) for x in logits]
        wanted = task.sets if task.training or task.kind == BACKWARD else 0
        return Inputs(logits, [draw() for _ in range(wanted)] or logits)


def call_of(who: str, task: Task, inputs: Inputs) -> Call:
    """The call of one implementation; raises Absent, or the errors of its library."""
    maker = MAKERS.get(who)
    if maker is None:
        import baselines  # it needs numpy, which gpu.py does not

        maker = baselines.MAKERS[who]
    calls = [maker(task, *pair) for pair in zip(inputs.logits, inputs.grads, strict=True)]
    return calls[0] if len(calls) == 1 else in_turn(calls)


def in_turn(calls: Sequence[Call]) -> Call:
    """Runs the calls in turn. Results live until the next turn, so that no buffer is in a cache."""
    results: list[object] = [None] * len(calls)
    turns = itertools.cycle(range(len(calls)))

    def call() -> object:
        turn = next(turns)
        results[turn] = calls[turn]()
        return results[turn]

    return call


def sampling(sample: Sampler, task: Task, logits: Tensor, grad: Tensor) -> Call:
    """Forward, or forward and backward, of a differentiable sampler."""
    if not task.training:
        return lambda: sample(logits)
    leaf = logits.detach().clone().requires_grad_()
    return lambda: torch.autograd.grad(sample(leaf), leaf, grad)


def ours(task: Task, logits: Tensor, grad: Tensor, key: Tensor | None = None) -> Call:
    tau, hard, dim = task.tau, task.hard, task.dim
    if task.kind == INDEX:
        return lambda: torch_gumbel.gumbel_argmax(logits, dim, key=key)
    if task.kind == BACKWARD:
        backward, tensor = torch.ops.torch_gumbel._gumbel_softmax_backward, torch.tensor(tau)
        return lambda: backward(grad, logits, tensor, dim % logits.dim())[0]
    fused = torch_gumbel.gumbel_softmax
    return sampling(lambda x: fused(x, tau, hard, 1e-10, dim, key=key), task, logits, grad)


def host_key(task: Task, logits: Tensor, grad: Tensor) -> Call:
    """With a key that the host reads: in a graph, the kernels that eager calls launch."""
    return ours(task, logits, grad, torch_gumbel.key(3))


def eager(task: Task, logits: Tensor, grad: Tensor) -> Call:
    tau, hard, dim = task.tau, task.hard, task.dim
    return sampling(lambda x: F.gumbel_softmax(x, tau, hard, 1e-10, dim), task, logits, grad)


def compiled(task: Task, logits: Tensor, grad: Tensor) -> Call:
    tau, hard, dim = task.tau, task.hard, task.dim

    def sample(x: Tensor) -> Tensor:
        return F.gumbel_softmax(x, tau, hard, dim=dim)

    return sampling(torch.compile(sample, fullgraph=True, dynamic=False), task, logits, grad)


def multinomial(task: Task, logits: Tensor, grad: Tensor) -> Call:
    dim, classes = task.dim, task.classes
    if logits.dim() == 2 and dim == -1:
        return lambda: torch.multinomial(torch.softmax(logits, -1), 1)

    def call() -> Tensor:
        rows = torch.softmax(logits, dim).movedim(dim, -1)
        return torch.multinomial(rows.reshape(-1, classes), 1).view(rows.shape[:-1])

    return call


def softmax(task: Task, logits: Tensor, grad: Tensor) -> Call:
    return lambda: torch.softmax(logits, task.dim)


def argmax(task: Task, logits: Tensor, grad: Tensor) -> Call:
    return lambda: torch.argmax(logits, task.dim)


def copy(task: Task, logits: Tensor, grad: Tensor) -> Call:
    out = torch.empty_like(logits)
    return lambda: out.copy_(logits)


def arithmetic(task: Task, logits: Tensor, grad: Tensor) -> Call:
    """Hundreds of operations per element on data that stays in the caches."""
    values = torch.linspace(1, 9, 2**16)
    out = torch.empty_like(values)
    return lambda: torch.lgamma(values, out=out)


MAKERS: dict[str, Maker] = {
    "ours": ours,
    "host key": host_key,
    "eager": eager,
    "compiled": compiled,
    "multinomial": multinomial,
    "softmax": softmax,
    "argmax": argmax,
    "copy": copy,
    "arithmetic": arithmetic,
}
