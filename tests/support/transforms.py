"""A small image with its label map, and the result of a transform of them in a worker."""

from typing import Any

import numpy as np
import torch

from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms.sample_transform import ThreadTransform, recognise
from tests.support.images import pixels

IMAGE = torch.from_numpy(pixels(60, 80)).permute(2, 0, 1)
LABEL_MAP = torch.from_numpy((pixels(60, 80, 1)[..., 0] // 64).astype(np.uint8))


def applied(transform: Any, target: Any = 3, *, position: int = 0, image: torch.Tensor = IMAGE, **known: Any) -> Any:
    task = "segmentation" if isinstance(target, torch.Tensor) else "classification"
    return ThreadTransform(recognise(transform, **{"task": task, **known}), seed=0)(image, target, 0, position)


def rng(position: int = 0) -> np.random.Generator:
    return KeyedRandom(seed=0).at(0, position)
