# SPDX-License-Identifier: Apache-2.0
# mypy: allow-untyped-calls
"""The Gumbel quantizers of transformers' speech models, replaced by ours and restored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from torch_gumbel.nn import GumbelVectorQuantizer

# By the module of transformers.models that defines them. Their code is one, but for the mask.
_QUANTIZERS = {
    "wav2vec2": "Wav2Vec2GumbelVectorQuantizer",
    "wav2vec2_conformer": "Wav2Vec2ConformerGumbelVectorQuantizer",
    "unispeech": "UniSpeechGumbelVectorQuantizer",
    "unispeech_sat": "UniSpeechSatGumbelVectorQuantizer",
}


class SpeechQuantizer(GumbelVectorQuantizer):
    """A :class:`~torch_gumbel.nn.GumbelVectorQuantizer` in the place of one of transformers.

    It has the parameters of that quantizer, its attribute ``temperature``, the name of its mask,
    and the names of its state dict, which does not hold the temperature.
    :func:`replace_quantizers` makes it.
    """

    def __init__(self, theirs: Any) -> None:
        groups, projection = theirs.num_groups, theirs.weight_proj
        width = groups * theirs.codevectors.shape[-1]
        with torch.device("meta"):  # no weights are drawn: those that are there stay
            super().__init__(
                projection.in_features, theirs.num_vars, width, groups, theirs.temperature
            )
        self._theirs = (theirs,)  # in a tuple it is no submodule
        self.weight_proj, self.codevectors = projection, theirs.codevectors
        self.num_groups, self.num_vars = groups, theirs.num_vars
        self.training = theirs.training
        self._device = self.codevectors.device
        self._tau_on(self._device)

    @property  # type: ignore[override]
    def temperature(self) -> float:
        """The temperature, which ``model.set_gumbel_temperature`` assigns."""
        return self._number

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.tau = value

    def forward(
        self,
        hidden_states: Tensor,
        mask_time_indices: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As that of :class:`~torch_gumbel.nn.GumbelVectorQuantizer`."""
        codes, used = super().forward(
            hidden_states, mask_time_indices, generator=generator, key=key
        )
        return codes, used if self.training else used.to(codes.dtype)

    def original(self) -> nn.Module:
        """The quantizer that was replaced, in the present state."""
        theirs: Any = self._theirs[0]
        theirs.weight_proj, theirs.codevectors = self.weight_proj, self.codevectors
        theirs.temperature, theirs.training = self.temperature, self.training
        restored: nn.Module = theirs
        return restored

    def _learn(self, parameter: nn.Parameter) -> None:
        raise TypeError(
            f"{type(self).__name__}: tau must be a number or a schedule, got a parameter"
        )

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.pop(prefix + "_extra_state", None)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *others: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, *others
        )
        if prefix + "_extra_state" in missing_keys:
            missing_keys.remove(prefix + "_extra_state")


def replace_quantizers(model: nn.Module) -> list[str]:
    """Replaces the Gumbel quantizers of transformers' speech models, in place, for training.

    The quantizers of Wav2Vec2, Wav2Vec2-Conformer, UniSpeech, and UniSpeech-SAT multiply every code
    by its entry of a one-hot; :class:`~torch_gumbel.nn.GumbelVectorQuantizer` gathers the one that
    was drawn. Parameters are kept, the objects themselves, so that an optimizer that has them goes
    on; so are the names of the state dict, ``set_gumbel_temperature``, and the training mode.
    Outputs in evaluation are equal; in training codes have the same distribution, and perplexity
    and gradients the same values for the same codes. Hooks of a quantizer are not carried over.

    Args:
        model: a model that has such quantizers. Subclasses of them are left as they are.

    Returns:
        The dotted names of those that this call replaced, none if it was done before.

    Raises:
        TypeError: not a module.
        ValueError: the model has no such quantizer, or is one itself.

    Sources: Baevski, Zhou, Mohamed, Auli, *wav2vec 2.0* (2020), section 2.

    Example:
        >>> from torch_gumbel.integrations.transformers import replace_quantizers
        >>> def faster(model):  # a Wav2Vec2ForPreTraining
        ...     names = replace_quantizers(model)  # ["quantizer"]
        ...     return model.train(), names
    """
    return _swap("replace_quantizers", model, _is_theirs, SpeechQuantizer)


def restore_quantizers(model: nn.Module) -> list[str]:
    """Undoes :func:`replace_quantizers`, with the present parameters, temperature, and mode.

    Args:
        model: the model, or a copy of it.

    Returns:
        The dotted names of the quantizers that this call restored.

    Raises:
        TypeError: not a module.
        ValueError: the model has no such quantizer, or is one itself.
    """
    return _swap(
        "restore_quantizers",
        model,
        lambda module: isinstance(module, SpeechQuantizer),
        SpeechQuantizer.original,
    )


def _is_theirs(module: nn.Module) -> bool:
    """Exactly one of their classes: a subclass may compute something else."""
    for folder, name in _QUANTIZERS.items():
        loaded = sys.modules.get(f"transformers.models.{folder}.modeling_{folder}")
        if loaded is not None and type(module) is getattr(loaded, name, None):
            return True
    return False


def _swap(
    who: str,
    model: nn.Module,
    wanted: Callable[[nn.Module], bool],
    replacement: Callable[[Any], nn.Module],
) -> list[str]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: model must be a module, got {type(model).__name__}")
    places = [
        (f"{path}.{name}".lstrip("."), parent, name, child)
        for path, parent in model.named_modules()
        for name, child in parent._modules.items()
        if child is not None and (_is_theirs(child) or isinstance(child, SpeechQuantizer))
    ]
    if not places:
        raise ValueError(
            f"{who}: wanted a model that contains one of {', '.join(_QUANTIZERS.values())}, "
            f"got {type(model).__name__}"
        )
    made = {child: replacement(child) for *_, child in places if wanted(child)}
    for _, parent, name, child in places:
        if child in made:
            setattr(parent, name, made[child])
    return [path for path, _, _, child in places if child in made]
