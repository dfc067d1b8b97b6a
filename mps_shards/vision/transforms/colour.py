"""Augmentation of colours and content after crop and resize, by torchvision's transforms."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torchvision.transforms import v2

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.keyed_draws import keyed_draws

__all__ = ["Jitter", "Step", "apply_steps", "augment_step", "colour_steps", "erase_step"]

Step: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
Jitter: TypeAlias = float | Sequence[float]

_AUGMENTS: dict[str, Callable[[], Any]] = {
    "augmix": v2.AugMix,
    "autoaugment": v2.AutoAugment,
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
}
_ERASED = (124, 116, 104)  # ImageNet's mean colour, which normalize="imagenet" turns into 0, as torchvision's recipes


def augment_step(augment: str | Step | None) -> list[Step]:
    """Return the augmentation policy of this name with torchvision's defaults, or the given policy; empty for None.

    Raises:
        ConfigError: the name is unknown, or the value is not callable.
    """
    if augment is None:
        return []
    if isinstance(augment, str) and augment in _AUGMENTS:
        return [_AUGMENTS[augment]()]
    if isinstance(augment, str) or not callable(augment):
        names = ", ".join(map(repr, sorted(_AUGMENTS)))
        raise ConfigError(f"augment must be {names} or a transform such as v2.RandAugment(), not {augment!r}")
    return [augment]


def colour_steps(*, jitter: Jitter, jitter_p: float, grayscale: float, blur: float) -> list[Step]:
    """Return the steps for colour jitter, grayscale and blur, in this order, without steps of probability 0.

    Raises:
        ConfigError: a probability or a strength is out of range.
    """
    for name, value in (("jitter_p", jitter_p), ("grayscale", grayscale), ("blur", blur)):
        _check_probability(name, value)
    steps: list[Step] = []
    if jitter:
        strengths = (jitter, jitter, jitter, 0.0) if isinstance(jitter, int | float) else tuple(jitter)
        if len(strengths) != 4 or min(strengths) < 0 or strengths[3] > 0.5:
            raise ConfigError(
                "jitter must be one strength, or the strengths of brightness, contrast, saturation and hue (0 to 0.5), "
                f"not {jitter!r}"
            )
        change = v2.ColorJitter(*strengths)
        steps.append(change if jitter_p == 1 else v2.RandomApply([change], p=jitter_p))
    if grayscale:
        steps.append(v2.RandomGrayscale(grayscale))
    if blur:
        # SimCLR's kernel, a tenth of a side of 224 pixels, and its range of sigma (Chen et al. 2020, appendix A)
        steps.append(v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=blur))
    return steps


def erase_step(erase: float) -> list[Step]:
    """Return the step that erases a rectangle with this probability; empty if the probability is 0."""
    _check_probability("erase", erase)
    return [v2.RandomErasing(erase, value=_ERASED)] if erase else []


def apply_steps(image: torch.Tensor, steps: Sequence[Step], rng: np.random.Generator) -> torch.Tensor:
    """Apply the steps to an image uint8 [3, height, width]; their random numbers depend on `rng` alone."""
    with keyed_draws(rng):
        for step in steps:
            image = step(image)
    return image


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is a probability from 0 to 1, not {value}")
