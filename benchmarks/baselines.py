# SPDX-License-Identifier: Apache-2.0
"""The calls of other frameworks, JAX and Paddle, each imported at its first use.

The logits are converted once, before the timing; each call draws anew and waits for its result.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy
import torch
from cases import INDEX, Absent, Call, Maker, Setting, Task
from torch import Tensor

#: The C library keeps freed memory: whether a fresh output costs page faults is otherwise chance.
KEEP_MEMORY = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def environment(setting: Setting) -> dict[str, str]:
    """Variables that set the number of threads of every library, to be set before any import."""
    threads = str(setting.threads)
    openmp = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    # NPROC is what XLA's CPU client sizes its thread pool by.
    kept = {name: os.environ.get(name, str(2**30)) for name in KEEP_MEMORY}
    others = {"NPROC": threads, "JAX_PLATFORMS": "cpu", "FLAGS_paddle_num_threads": threads}
    return {**openmp, **others, **kept, **setting.environment}


def installed(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"not installed ({error})") from None


def as_torch(result: Any) -> Tensor:
    """The result of any implementation; of several, the last (the gradient)."""
    if isinstance(result, tuple):
        result = result[-1]
    if isinstance(result, Tensor):
        return result.detach()
    array = result.numpy() if hasattr(result, "numpy") else numpy.asarray(result)
    if array.dtype.kind not in "iuf":  # a float type that numpy does not support
        array = array.astype(numpy.float32)
    return torch.from_numpy(numpy.array(array))


def jax_samplers(jax: Any, task: Task) -> dict[str, Callable[..., Any]]:
    """Samplers in idiomatic JAX; the hard forward has no softmax, since it needs none."""
    dim, tau, classes = task.dim, task.tau, task.classes

    def scores(key: Any, step: Any, x: Any) -> Any:
        return x + jax.random.gumbel(jax.random.fold_in(key, step), x.shape, x.dtype)

    def one_hot(values: Any) -> Any:
        choice = jax.numpy.argmax(values, dim)
        return jax.nn.one_hot(choice, classes, dtype=values.dtype, axis=dim)

    def soft(key: Any, step: Any, x: Any) -> Any:
        return jax.nn.softmax(scores(key, step, x) / tau, dim)

    def straight_through(key: Any, step: Any, x: Any) -> Any:
        y = soft(key, step, x)
        return y + jax.lax.stop_gradient(one_hot(y) - y)

    def index(key: Any, step: Any, x: Any) -> Any:
        return jax.random.categorical(jax.random.fold_in(key, step), x, dim)

    def hard(key: Any, step: Any, x: Any) -> Any:
        return one_hot(scores(key, step, x))

    training = straight_through if task.hard else soft
    return {"soft": soft, "hard": hard, "index": index, "training": training}


def jax_call(task: Task, logits: Tensor, grad: Tensor) -> Call:
    jax = installed("jax")
    wide = functools.partial(jax.enable_x64, task.dtype == "float64")
    samplers = jax_samplers(jax, task)

    def backward(key: Any, step: Any, x: Any, upstream: Any) -> Any:
        y, pull = jax.vjp(lambda values: samplers["training"](key, step, values), x)
        return y, pull(upstream)[0]

    with wide():
        function = jax.jit(backward if task.training else samplers[task.kind])
        exact = torch.float64 if task.dtype == "float64" else torch.float32
        tensors = (logits, grad) if task.training else (logits,)
        arrays = [jax.numpy.array(t.to(exact).numpy(), dtype=task.dtype) for t in tensors]
        key, steps = jax.random.key(0), itertools.count()

    def call() -> Any:
        return jax.block_until_ready(function(key, next(steps), *arrays))

    def wide_call() -> Any:
        with wide():
            return call()

    return wide_call if task.dtype == "float64" else call


def paddle_call(task: Task, logits: Tensor, grad: Tensor) -> Call:
    paddle = installed("paddle")
    paddle.set_device("cpu")
    paddle.base.core.set_num_threads(task.threads)
    functional, tau, hard, dim = paddle.nn.functional, task.tau, task.hard, task.dim

    def converted(tensor: Tensor, leaf: bool = False) -> Any:
        exact = torch.float64 if task.dtype == "float64" else torch.float32
        array = paddle.to_tensor(tensor.to(exact).numpy()).astype(task.dtype).detach()
        array.stop_gradient = not leaf
        return array

    x = converted(logits, task.training)
    if task.kind == INDEX:
        if logits.dim() != 2:
            raise Absent("its multinomial takes rows along the last dimension only")
        return lambda: paddle.multinomial(functional.softmax(x), 1)
    if not task.training:
        return lambda: functional.gumbel_softmax(x, tau, hard, dim)
    upstream = converted(grad)
    return lambda: paddle.grad(functional.gumbel_softmax(x, tau, hard, dim), x, upstream)[0]


MAKERS: dict[str, Maker] = {"jax": jax_call, "paddle": paddle_call}
