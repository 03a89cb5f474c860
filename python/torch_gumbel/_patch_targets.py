# SPDX-License-Identifier: Apache-2.0
"""The targets of patch(): globals of modules, attributes of models, copies of the function."""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch.nn.functional as F
from torch import nn

# PyTorch's own function, which fallbacks call even if the global is replaced later.
torch_gumbel_softmax = F.gumbel_softmax
_searched_at: set[int] = set()  # its reference counts at earlier searches for holders
_warned_of: set[str] = set()
_PARAMETERS = frozenset({"tau", "hard", "eps", "dim"})


@dataclass(frozen=True)
class Target:
    """An attribute of a module or a model, held by a weak reference."""

    owner: weakref.ref[Any]
    name: str
    shown: str = field(compare=False)

    @classmethod
    def of_module(cls, module: ModuleType, name: str) -> Target:
        return cls(weakref.ref(module), name, f"{module.__name__}.{name}")


def function_of(value: Any) -> object:
    """The function of a functools.partial, or the value itself."""
    while issubclass(
        type(value), functools.partial
    ):  # without reading __class__ of an unknown object
        value = value.func
    return value


def over(value: object, function: Callable[..., Any]) -> object:
    """The function, or a partial of it that binds what ``value`` binds."""
    if not isinstance(value, functools.partial):
        return function
    inner: Any = over(value.func, function)
    return functools.partial(inner, *value.args, **value.keywords)


def in_modules(modules: Iterable[ModuleType | str], ours: object) -> Iterator[Target]:
    """Globals that are the function or a partial of it."""
    if isinstance(modules, (ModuleType, str)):
        raise TypeError("patch: modules must be a sequence of modules or names, got a single one")
    for given in modules:
        module = _imported(given, "modules must hold")
        names = _names(module, torch_gumbel_softmax, ours, F.gumbel_softmax)
        if not names:
            raise ValueError(
                f"patch: {module.__name__} has no global that is torch.nn.functional.gumbel_softmax"
            )
        yield from (Target.of_module(module, name) for name in names)


def in_models(models: Iterable[nn.Module], ours: object) -> Iterator[Target]:
    """Attributes of a model and its submodules that are the function or a partial of it."""
    if isinstance(models, nn.Module):
        raise TypeError("patch: models must be a sequence of torch.nn.Module, got a single one")
    for model in models:
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise TypeError(f"patch: models must hold instances of torch.nn.Module, got {kind}")
        who, found = type(model).__name__, False
        for path, module in model.named_modules(prefix=who):
            for name in _names(module, torch_gumbel_softmax, ours, F.gumbel_softmax):
                found = True
                yield Target(weakref.ref(module), name, f"{path}.{name}")
        if not found:
            raise ValueError(
                f"patch: {who} has no attribute that is torch.nn.functional.gumbel_softmax or a "
                "functools.partial of it"
            )


def in_copies(
    replace: Mapping[ModuleType | str, Mapping[str, Callable[..., Any] | None]],
) -> Iterator[tuple[Target, Callable[..., Any], Callable[..., Any] | None]]:
    """Copies of the function in modules, and their replacements."""
    if not isinstance(replace, Mapping):
        raise TypeError(f"patch: replace must be a dict, got {type(replace).__name__}")
    for given, names in replace.items():
        module = _imported(given, "keys of replace must be")
        if not isinstance(names, Mapping):
            kind = type(names).__name__
            raise TypeError(f"patch: replace of {module.__name__} must be a dict, got {kind}")
        for name, replacement in names.items():
            target, copy = Target.of_module(module, name), vars(module).get(name)
            if not callable(copy):
                raise ValueError(f"patch: {module.__name__} has no function {name!r}")
            if replacement is not None and not callable(replacement):
                raise TypeError(
                    f"patch: the replacement of {target.shown} must be a function or None, got "
                    f"{type(replacement).__name__}"
                )
            yield target, copy, replacement


class Signature:
    """The arguments of a copy of the function; the first one is the logits, by any name."""

    def __init__(self, copy: Callable[..., Any], shown: str) -> None:
        parameters = list(inspect.signature(copy).parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self.positional = tuple(p.name for p in parameters if p.kind in positional)
        self.names = tuple(p.name for p in parameters)
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        variadic = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
        unknown = {*self.names} - {*self.positional[:1], *_PARAMETERS}
        if variadic or unknown or not self.positional:
            raise ValueError(
                f"patch: {shown}{inspect.signature(copy)} must take logits and some of tau, hard, "
                "eps, and dim; give a replacement that takes its arguments"
            )

    def bind(self, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any] | None:
        """Arguments by name, the first one as ``logits``; None if they do not fit the copy."""
        by_place = self.positional[: len(args)]
        given = {**self.defaults, **dict(zip(by_place, args, strict=False)), **options}
        first = self.positional[0]
        twice = any(name in by_place or name not in self.names for name in options)
        missing = any(name not in given for name in self.names)
        if len(args) > len(self.positional) or twice or missing:
            return None
        return {**given, "logits": given[first]}


def still_held() -> list[str]:
    """Names of the globals and attributes of live objects that are PyTorch's function."""
    partials = [
        value
        for value in gc.get_referrers(torch_gumbel_softmax)
        if issubclass(type(value), functools.partial)
    ]
    wanted = {id(value) for value in (torch_gumbel_softmax, *partials)}

    def names(owner: object) -> list[str]:
        return [name for name, value in list(vars(owner).items()) if id(value) in wanted]

    held: set[str] = set()
    for module in list(sys.modules.values()):
        if issubclass(type(module), ModuleType) and not _is_excluded(module):
            held.update(f"{module.__name__}.{name}" for name in names(module))
    for model in gc.get_objects():
        kind = type(model)
        if issubclass(kind, nn.Module):
            held.update(f"{kind.__module__}.{kind.__qualname__}.{name}" for name in names(model))
    return sorted(held)


def _is_excluded(module: ModuleType) -> bool:
    return module is F or module.__name__.startswith("torch_gumbel.")


def warn_of_holders(stacklevel: int) -> None:
    """Warns once per holder; searches only if the reference count of the function has changed."""
    references = sys.getrefcount(torch_gumbel_softmax)
    if references in _searched_at:
        return
    _searched_at.add(references)
    held = [name for name in still_held() if name not in _warned_of]
    _warned_of.update(held)
    if held:
        warnings.warn(
            "patch: these hold PyTorch's gumbel_softmax itself and are not replaced; give their "
            f"modules as modules= or their models as models=: {', '.join(held)}",
            RuntimeWarning,
            stacklevel=stacklevel + 1,
        )


def _names(owner: object, *functions: object) -> list[str]:
    return [
        name
        for name, value in list(vars(owner).items())
        if any(function_of(value) is function for function in functions)
    ]


def _imported(given: object, wanted: str) -> ModuleType:
    module = importlib.import_module(given) if isinstance(given, str) else given
    if not isinstance(module, ModuleType):
        raise TypeError(f"patch: {wanted} modules or names, got {type(module).__name__}")
    return module
