"""Streaming WebDataset shards to Apple's MPS, CUDA or the CPU: exact, resumable, and fast.

    from mps_shards import DeviceLoader, ShardDataset, classify

    data = ShardDataset("imgs-shards", batch_size=64, transform=classify.train(224), shuffle=True, seed=0)
    for images, targets in DeviceLoader(data, device="auto"):
        ...

Names are loaded when first used, so that packing and ``--help`` never wait for torch.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mps_shards.packing import pack  # imported at once, because it loads no slow package

if TYPE_CHECKING:
    from mps_shards.dataset import ShardDataset
    from mps_shards.inspect.live_line import watch
    from mps_shards.loader import DeviceLoader
    from mps_shards.metrics import scalars_to
    from mps_shards.reading.bad_samples import SkipRules
    from mps_shards.reading.collate import Collate
    from mps_shards.reading.read_options import ReadOptions
    from mps_shards.samples import ShardSamples
    from mps_shards.sampling.balance import Balance
    from mps_shards.sampling.order import Shuffle
    from mps_shards.sampling.subset import Subset
    from mps_shards.storage.store_options import StoreOptions
    from mps_shards.vision.transforms import classify, segment

__all__ = [
    "Balance",
    "Collate",
    "DeviceLoader",
    "ReadOptions",
    "ShardDataset",
    "ShardSamples",
    "Shuffle",
    "SkipRules",
    "StoreOptions",
    "Subset",
    "classify",
    "pack",
    "scalars_to",
    "segment",
    "watch",
]

_HOMES = {
    "DeviceLoader": "mps_shards.loader",
    "Balance": "mps_shards.sampling.balance",
    "Collate": "mps_shards.reading.collate",
    "ReadOptions": "mps_shards.reading.read_options",
    "ShardDataset": "mps_shards.dataset",
    "ShardSamples": "mps_shards.samples",
    "Shuffle": "mps_shards.sampling.order",
    "SkipRules": "mps_shards.reading.bad_samples",
    "Subset": "mps_shards.sampling.subset",
    "StoreOptions": "mps_shards.storage.store_options",
    "classify": "mps_shards.vision.transforms.classify",
    "scalars_to": "mps_shards.metrics",
    "segment": "mps_shards.vision.transforms.segment",
    "watch": "mps_shards.inspect.live_line",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent, unless the user sets up logging


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_HOMES[name])
    return getattr(module, name, module)  # some names are those of modules
