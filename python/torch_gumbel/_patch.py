# SPDX-License-Identifier: Apache-2.0
"""The drop-in: torch.nn.functional.gumbel_softmax becomes the fused op, and itself again."""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType, TracebackType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from torch_gumbel import _arguments, functional
from torch_gumbel._library import _C

_Name = tuple[ModuleType, str]


@dataclass
class _Replaced:
    before: object
    holders: int = 0


# PyTorch's own function, whoever replaces it later: what falls back must never come back here.
_torch_gumbel_softmax = F.gumbel_softmax
_LOGITS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
_NUMBERS = (float, int, *_arguments.REAL)
_is_compiling = torch.compiler.is_compiling

_lock = threading.Lock()
_replaced: dict[_Name, _Replaced] = {}
_devices: frozenset[str] = frozenset()  # empty while no patch is active


class Patch:
    """What :func:`patch` returns: the patch is active until :meth:`undo` or the end of ``with``."""

    def __init__(self, names: Iterable[_Name]) -> None:
        global _devices
        served = _served_devices()
        with _lock:
            _devices = served
            self._names = tuple(names)
            for name in self._names:
                _replace(name)

    def undo(self) -> None:
        """Ends this patch; the names it replaced come back with the last patch that holds them.

        A second call does nothing. A name that somebody else has replaced since is left as it is,
        with a RuntimeWarning.
        """
        with _lock:
            names, self._names = self._names, ()
            left = [name for name in names if not _restore(name)]
            _forget_rules_of_dynamo()
        for module, name in left:
            message = f"{module.__name__}.{name} was replaced after patch(); it is left as it is."
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def __enter__(self) -> Patch:
        if not self._names:
            raise RuntimeError("patch: this patch was undone; call patch() again")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


def patch(modules: Iterable[ModuleType | str] = ()) -> Patch:
    r"""Routes :func:`torch.nn.functional.gumbel_softmax` to the fused op; callers do not change.

    Takes effect at the call, in every thread of this process (one that it spawns is not patched),
    until it is undone: ``patch().undo()`` or ``with patch():``. A checkpointed model calls the
    function again in its backward, which must lie inside as well. Patches may be nested and undone
    in any order; the last one out brings the original back. Under ``torch.compile``, a call
    compiled inside holds the fused op, and code compiled before, inside, or after is compiled again
    where the patch has changed since. TorchScript and exported programs hold what was active when
    they were made.

    What the fused op does not take runs in PyTorch's own function: devices but CPU, meta, and CUDA
    (if built for it); other dtypes and layouts; nested tensors; subclasses but DTensor with a
    ``__torch_dispatch__`` of their own; a tensor ``tau`` that is not one value per row, or that
    would widen the result. A handler of ``__torch_function__`` is given the replacement, which is
    ``torch.nn.functional.gumbel_softmax`` while the patch is active. ``pickle`` looks functions up
    by name: what holds the function itself is to be saved and loaded outside.

    Args:
        modules: modules, or their dotted names, that bound the function by ``from
            torch.nn.functional import gumbel_softmax``: every global of theirs that is the
            function, under any name, is replaced as well. A module imported while a patch is active
            needs no mention: what it bound is PyTorch's own function again when no patch is active.

    Returns:
        A handle with ``undo()``, also a context manager.

    Raises:
        ValueError: a module has no global that is the function (nothing is changed then).
        TypeError: ``modules`` is a single module or name, or holds something else.
        ImportError: a dotted name cannot be imported.
        RuntimeError: ``with`` on a handle that was undone.

    Two calls differ from PyTorch's: ``tau`` not positive and finite is a ValueError (PyTorch: NaN,
    uniform, or inverted probabilities), and in a tensor ``tau`` it makes its rows NaN.

    Example:
        >>> logits = torch.zeros(2, 3, requires_grad=True)
        >>> with torch_gumbel.patch():
        ...     y = torch.nn.functional.gumbel_softmax(logits, tau=0.5, hard=True)
        >>> y.grad_fn.name()
        'GumbelSoftmaxHardBackward'
    """
    return Patch([(F, "gumbel_softmax"), *_names_bound_in(modules)])


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """Stands for :func:`torch.nn.functional.gumbel_softmax` while a patch is active."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        scripted: Tensor = torch.ops.torch_gumbel.gumbel_softmax(logits, tau, hard, dim)
        return scripted
    else:
        return _routed(logits, tau, hard, eps, dim)


def _routed(logits: Tensor, tau: float, hard: bool, eps: float, dim: int) -> Tensor:
    if not _devices:
        return _torch_gumbel_softmax(logits, tau, hard, eps, dim)
    if not _is_compiling() and has_torch_function_unary(logits):
        routed: Tensor = handle_torch_function(
            gumbel_softmax, (logits,), logits, tau=tau, hard=hard, eps=eps, dim=dim
        )
        return routed
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=3)
    if _takes_logits(logits) and _takes_temperature(tau, logits, dim):
        return functional.gumbel_softmax(logits, tau, hard, dim=dim)
    return _torch_gumbel_softmax(logits, tau, hard, dim=dim)


def _takes_logits(logits: object) -> bool:
    return (
        isinstance(logits, Tensor)
        and (_is_plain(logits) or _arguments.is_dtensor(logits))
        and logits.device.type in _devices
        and logits.dtype in _LOGITS
    )


def _takes_temperature(tau: object, logits: Tensor, dim: int) -> bool:
    if not isinstance(tau, Tensor):
        return isinstance(tau, _NUMBERS)
    return (
        (_is_plain(tau) or (_arguments.is_dtensor(tau) and _arguments.is_dtensor(logits)))
        and tau.dtype is not torch.bool
        and torch.result_type(logits, tau) == logits.dtype
        and (tau.device == logits.device or (tau.dim() == 0 and tau.device.type == "cpu"))
        and _is_one_value_per_row(tau, logits, dim)
    )


def _is_one_value_per_row(tau: Tensor, logits: Tensor, dim: int) -> bool:
    skipped = logits.dim() - tau.dim()
    return skipped >= 0 and all(
        size == 1 or (size == logits.shape[i] and i != dim % logits.dim())
        for i, size in enumerate(tau.shape, skipped)
    )


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested and _knows_our_ops(type(tensor))


def _knows_our_ops(kind: type) -> bool:
    """Subclasses that take ops one by one know aten's, and need not know ours."""
    if kind is Tensor or issubclass(kind, (FakeTensor, FunctionalTensor)):
        return True
    inherited: bool = kind.__torch_dispatch__ is Tensor.__torch_dispatch__  # type: ignore[attr-defined]
    return inherited


def _names_bound_in(modules: Iterable[ModuleType | str]) -> list[_Name]:
    if isinstance(modules, (ModuleType, str)):
        raise TypeError("patch: modules must be a sequence of modules or names, got a single one")
    return [name for module in modules for name in _names_bound_by(module)]


def _names_bound_by(given: ModuleType | str) -> list[_Name]:
    module = importlib.import_module(given) if isinstance(given, str) else given
    if not isinstance(module, ModuleType):
        raise TypeError(f"patch: modules must hold modules or names, got {type(given).__name__}")
    functions = (_torch_gumbel_softmax, gumbel_softmax, F.gumbel_softmax)
    names = [n for n, value in list(vars(module).items()) if any(value is f for f in functions)]
    if not names:
        raise ValueError(
            f"patch: {module.__name__} has no global that is torch.nn.functional.gumbel_softmax"
        )
    return [(module, name) for name in names]


def _replace(name: _Name) -> None:
    """What is found now, even if somebody put it over an active patch, is what comes back."""
    found = getattr(*name)
    entry = _replaced.setdefault(name, _Replaced(_torch_gumbel_softmax))
    if found is not gumbel_softmax:
        entry.before = found
        setattr(*name, gumbel_softmax)
    entry.holders += 1


def _restore(name: _Name) -> bool:
    """Gives up one hold; False if the last one finds somebody else's replacement."""
    global _devices
    entry, found = _replaced[name], getattr(*name, None)
    entry.holders -= 1
    if entry.holders:
        return True
    del _replaced[name]
    if not _replaced:
        _devices = frozenset()
    if found is gumbel_softmax:
        setattr(*name, entry.before)
    return found is gumbel_softmax or found is entry.before


def _forget_rules_of_dynamo() -> None:
    """Dynamo looks torch's functions up by name, once; if it found ours, it is to look again."""
    rules = sys.modules.get("torch._dynamo.trace_rules")
    if rules is not None and not _replaced and gumbel_softmax in rules.get_torch_obj_rule_map():
        rules.clear_lru_cache()


def _served_devices() -> frozenset[str]:
    return frozenset({"cpu", "meta", "cuda"} if _C.build_info()["cuda"] else {"cpu", "meta"})
