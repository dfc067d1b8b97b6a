"""Named means and standard deviations with which pretrained networks expect images to be normalised."""

from collections.abc import Sequence
from typing import TypeAlias

from mps_shards.errors import ConfigError

__all__ = ["NORMALIZATIONS", "Normalize", "mean_and_std"]

Normalize: TypeAlias = str | tuple[Sequence[float], Sequence[float]]

NORMALIZATIONS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision's and most of timm's networks
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # -1..1: Inception, and most of timm's ViT
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),  # OpenAI's CLIP
}


def mean_and_std(normalize: Normalize) -> tuple[Sequence[float], Sequence[float]]:
    """Return the means and the standard deviations of red, green and blue, in units of pixels 0..1.

    Args:
        normalize: one of the names in `NORMALIZATIONS`, or the means and the standard deviations.

    Raises:
        ConfigError: the name is unknown, or the values are not three means and three positive standard deviations.
    """
    if isinstance(normalize, str) and normalize in NORMALIZATIONS:
        return NORMALIZATIONS[normalize]
    try:
        mean, std = ([float(value) for value in values] for values in normalize)
    except (TypeError, ValueError):
        mean, std = [], []
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        names = ", ".join(repr(name) for name in NORMALIZATIONS)
        raise ConfigError(
            f"normalize must be {names}, or three means and three positive standard deviations, not {normalize!r}"
        )
    return mean, std
