"""Checks of the results of users' transforms, with errors that say what was expected."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from mps_shards.errors import ConfigError

__all__ = ["checked_image", "checked_pair", "is_label_map"]

_CHANNELS = (1, 3, 4)
_EXPECTED = "a tensor [channels, height, width], uint8 (0..255) or float32"


def is_label_map(target: Any) -> bool:
    """Whether a target is a label map: a tensor of two dimensions."""
    return isinstance(target, torch.Tensor) and target.ndim == 2


def checked_image(image: Any) -> Any:
    """Return the image that a transform returned as a tensor, or a tree of images as a tree of tensors.

    A PIL image becomes uint8 [channels, height, width], so that a pipeline without ToTensor works.

    Raises:
        ConfigError: the image has another type, dtype or layout than a batch can hold.
    """
    if isinstance(image, torch.Tensor):
        if type(image) is not torch.Tensor:
            image = image.as_subclass(torch.Tensor)
        if image.dtype not in (torch.uint8, torch.float32):
            raise ConfigError(f"the transform returned {_described(image)}; expected {_EXPECTED}{_hint(image)}")
        if image.ndim == 3 and image.shape[0] not in _CHANNELS and image.shape[2] in _CHANNELS:
            raise ConfigError(
                f"the transform returned an image of shape {list(image.shape)}, which is [height, width, channels]; "
                f"expected {_EXPECTED}: call .permute(2, 0, 1)"
            )
        return image
    if isinstance(image, Image.Image):
        pixels = np.array(image)
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    if isinstance(image, tuple | list):
        parts = [checked_image(part) for part in image]
        return type(image)(*parts) if hasattr(image, "_fields") else type(image)(parts)
    if isinstance(image, dict):
        return {name: checked_image(part) for name, part in image.items()}
    raise ConfigError(f"the transform returned {_described(image)} as image; expected {_EXPECTED}{_hint(image)}")


def checked_pair(image: Any, target: Any) -> tuple[Any, Any]:
    """Return the image and the target that a transform returned, after the checks of `checked_image`.

    Raises:
        ConfigError: the image cannot be put into a batch, or a label map has another size than its image or floats.
    """
    image = checked_image(image)
    if isinstance(target, torch.Tensor):
        if type(target) is not torch.Tensor:
            target = target.as_subclass(torch.Tensor)
        if target.ndim == 2 and isinstance(image, torch.Tensor) and image.ndim == 3:
            if target.shape != image.shape[1:]:
                raise ConfigError(
                    f"the transform returned an image of {image.shape[2]} x {image.shape[1]} pixels and a label map of "
                    f"{target.shape[1]} x {target.shape[0]}; both need the same geometry: use segment.train, "
                    "torchvision.transforms.v2 or albumentations, or a function (image, label_map) -> both"
                )
            if target.is_floating_point():
                raise ConfigError(f"the transform returned a label map of {target.dtype}; label ids are whole numbers")
    return image, target


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"an image of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array ({value.dtype}, shape {list(value.shape)})"
    return f"a value of type {type(value).__name__}"


def _hint(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return ": call .float()" if value.is_floating_point() else ": call .to(torch.uint8)"
    return ": call torch.from_numpy(array).permute(2, 0, 1)" if isinstance(value, np.ndarray) else ""
