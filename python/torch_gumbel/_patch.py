# SPDX-License-Identifier: Apache-2.0
"""patch(): replaces torch.nn.functional.gumbel_softmax by the fused op, and restores it."""

from __future__ import annotations

import functools
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import has_torch_function_unary

from torch_gumbel import _arguments, _patch_targets, functional
from torch_gumbel._library import _C
from torch_gumbel._patch_targets import Target
from torch_gumbel._patch_targets import torch_gumbel_softmax as _torch_gumbel_softmax


@dataclass(eq=False)
class _Hold:
    """The value that one patch assigned to a target."""

    by: object


@dataclass
class _Replaced:
    before: object
    holds: list[_Hold] = field(default_factory=list)  # the last one is assigned


_LOGITS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
_NUMBERS = (float, int, *_arguments.REAL)
_is_compiling = torch.compiler.is_compiling

_lock = threading.Lock()
_replaced: dict[Target, _Replaced] = {}
_devices: frozenset[str] = frozenset()  # empty while no patch is active


class Patch:
    """The handle of a patch, which is active until :meth:`undo` or the end of ``with``."""

    def __init__(self, replacements: Iterable[tuple[Target, object]]) -> None:
        global _devices
        served = _served_devices()
        with _lock:
            _devices = served
            self._active = [(target, _replace(target, by)) for target, by in replacements]
            self._report = [target.shown for target, _ in self._active]

    def undo(self) -> None:
        """Ends this patch; the names it replaced come back with the last patch that holds them.

        A second call does nothing. A name that other code has replaced since is left unchanged,
        with a RuntimeWarning.
        """
        with _lock:
            active, self._active = self._active, []
            left = [target for target, hold in active if not _restore(target, hold)]
            _clear_dynamo_rules()
        for target in left:
            message = f"{target.shown} was replaced after patch(); it is left as it is."
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def report(self) -> list[str]:
        """Dotted names that this patch replaced; those of attributes start with a model's class."""
        return list(self._report)

    def __enter__(self) -> Patch:
        if not self._active:
            raise RuntimeError("patch: this patch was undone; call patch() again")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


def patch(
    modules: Iterable[ModuleType | str] = (),
    models: Iterable[nn.Module] = (),
    replace: Mapping[ModuleType | str, Mapping[str, Callable[..., Any] | None]] | None = None,
) -> Patch:
    r"""Routes :func:`torch.nn.functional.gumbel_softmax` to the fused op; callers do not change.

    A patch takes effect immediately, in all threads of this process (not in spawned processes),
    until it is undone: ``patch().undo()`` or the end of ``with patch():``. A checkpointed model
    calls the function again in its backward, which must run under the patch as well. Patches may be
    nested and undone in any order; the last one restores the original. Code under
    ``torch.compile`` is recompiled when the patch has changed since. TorchScript and exported
    programs keep the function that was active when they were created.

    PyTorch's own function runs if the fused op does not support the arguments: devices other than
    CPU, meta, and CUDA (if built for it); other dtypes and layouts; nested tensors; subclasses with
    a ``__torch_dispatch__`` of their own, except DTensor; a tensor ``tau`` that is not one value
    per row or would promote the dtype of the result. A handler of ``__torch_function__`` receives
    the replacement, which is ``torch.nn.functional.gumbel_softmax`` while the patch is active.
    ``pickle`` looks functions up by name: objects that hold the function must be saved and loaded
    outside of the patch.

    Args:
        modules: modules, or their dotted names, that bound the function by ``from
            torch.nn.functional import gumbel_softmax``: every global of theirs that is the
            function, or a :class:`functools.partial` of it, is replaced as well, under any name. A
            module imported while a patch is active need not be listed: its global calls PyTorch's
            own function again when no patch is active.
        models: models whose attributes bound the function before, ``self.draw =
            functools.partial(F.gumbel_softmax, ...)`` for instance; submodules are searched.
        replace: copies of the function that modules define themselves, ``{module: {name:
            replacement}}``. A replacement of None means the fused op, called with the arguments of
            the copy by name: the first one is the logits; ``tau``, ``hard``, and ``dim`` have
            PyTorch's defaults if the copy lacks them; ``eps`` is ignored. The copy runs if the
            fused op does not support the arguments.

    Without arguments, a RuntimeWarning names, once, the modules and models that still hold
    PyTorch's function.

    Returns:
        A handle with ``undo()`` and ``report()``, also a context manager.

    Raises:
        ValueError: a module has no global, or a model no attribute, that is the function, or no
            copy of that name, or one with other arguments (nothing is changed then).
        TypeError: ``modules`` or ``models`` is not a sequence, or an element has a wrong type.
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
    found = [Target.of_module(F, "gumbel_softmax")]
    found += _patch_targets.in_modules(modules, gumbel_softmax)
    found += _patch_targets.in_models(models, gumbel_softmax)
    replacements: list[tuple[Target, object]] = [(target, gumbel_softmax) for target in found]
    for target, copy, replacement in _patch_targets.in_copies({} if replace is None else replace):
        replacements.append((target, replacement or _fused(copy, target.shown)))
    if len(replacements) == 1:
        _patch_targets.warn_of_holders(stacklevel=2)
    return Patch(replacements)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """Replaces :func:`torch.nn.functional.gumbel_softmax` while a patch is active."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        scripted: Tensor = torch.ops.torch_gumbel.gumbel_softmax(logits, tau, hard, dim)
        return scripted
    else:
        return _routed(logits, tau, hard, eps, dim)


def _routed(logits: Tensor, tau: float, hard: bool, eps: float, dim: int) -> Tensor:
    if not _devices:
        return _torch_gumbel_softmax(logits, tau, hard, eps, dim)
    if not _is_compiling() and has_torch_function_unary(logits):
        routed: Tensor = _arguments.overridden(gumbel_softmax, (logits,), locals())
        return routed
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=3)
    if _takes_logits(logits) and _takes_temperature(tau, logits, dim):
        return functional.gumbel_softmax(logits, tau, hard, dim=dim)
    return _torch_gumbel_softmax(logits, tau, hard, dim=dim)


def _fused(copy: Callable[..., Any], shown: str) -> Callable[..., Any]:
    """The fused op with the arguments of a copy of the function."""
    signature = _patch_targets.Signature(copy, shown)

    @functools.wraps(copy)
    def routed(*args: Any, **options: Any) -> Any:
        given = signature.bind(args, options) if _devices else None
        if given is None or not _takes_logits(given["logits"]):
            return copy(*args, **options)
        logits, tau, dim = given["logits"], given.get("tau", 1), given.get("dim", -1)
        if not _takes_temperature(tau, logits, dim):
            return copy(*args, **options)
        return functional.gumbel_softmax(logits, tau, given.get("hard", False), dim=dim)

    return routed


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
    return tensor.layout is torch.strided and not tensor.is_nested and _dispatches_ops(type(tensor))


def _dispatches_ops(kind: type) -> bool:
    """False for a type with its own ``__torch_dispatch__``, which may support only aten ops."""
    if kind is Tensor or issubclass(kind, (FakeTensor, FunctionalTensor)):
        return True
    inherited: bool = kind.__torch_dispatch__ is Tensor.__torch_dispatch__  # type: ignore[attr-defined]
    return inherited


def _replace(target: Target, by: object) -> _Hold:
    """Assigns a replacement; the current value, even one set over an active patch, is restored."""
    owner = target.owner()
    found = getattr(owner, target.name)
    torchs = _patch_targets.over(found, _torch_gumbel_softmax)
    entry = _replaced.setdefault(target, _Replaced(torchs))
    ours = _patch_targets.function_of(found) is gumbel_softmax
    if not ours and all(found is not hold.by for hold in entry.holds):
        entry.before = found
    hold = _Hold(_patch_targets.over(found, gumbel_softmax) if by is gumbel_softmax else by)
    setattr(owner, target.name, hold.by)
    entry.holds.append(hold)
    return hold


def _restore(target: Target, hold: _Hold) -> bool:
    """Undoes one replacement; False if the value was assigned by other code."""
    global _devices
    entry, owner = _replaced[target], target.owner()
    found, installed = getattr(owner, target.name, None), entry.holds[-1].by
    entry.holds.remove(hold)
    after = entry.holds[-1].by if entry.holds else entry.before
    if not entry.holds:
        del _replaced[target]
    if not _replaced:
        _devices = frozenset()
    if owner is not None and found is installed and found is not after:
        setattr(owner, target.name, after)
    return owner is None or bool(entry.holds) or found is installed or found is entry.before


def _clear_dynamo_rules() -> None:
    """Clears Dynamo's cache of torch's functions by name, if it holds the replacement."""
    rules = sys.modules.get("torch._dynamo.trace_rules")
    if rules is not None and not _replaced and gumbel_softmax in rules.get_torch_obj_rule_map():
        rules.clear_lru_cache()


def _served_devices() -> frozenset[str]:
    return frozenset({"cpu", "meta", "cuda"} if _C.build_info()["cuda"] else {"cpu", "meta"})
