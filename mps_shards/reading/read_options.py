"""`ReadOptions`, the options for fetching, checking and decoding samples."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mps_shards.errors import ConfigError
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.store_options import StoreOptions
from mps_shards.vision.decoding import MAX_PIXELS

__all__ = ["ReadOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options for fetching, checking and decoding samples.

        options = ReadOptions(cache="/nvme/shards")
        ShardDataset("s3://bucket/set", batch_size=64, read_options=options)

    Attributes:
        cache: folder in which complete shards of an object store or a slow disk are cached. All processes of a machine
            may share the folder.
        cache_bytes: limit for the bytes in the cache, which evicts the least recently opened shards.
        ahead_bytes: limit for the bytes of samples that each process fetches from object stores in advance. A shuffled
            reader that cannot hold a window of samples (see `Shuffle`) makes more and smaller requests.
        index: folder to which ``mps-shards index --out`` wrote the manifest and the index of the tars.
        verify: compare the CRC-32 of every sample that is read with the index. A sample that differs is a bad sample.
        max_pixels: limit for the pixels of an image or a mask. A larger one is a bad sample and is not decoded.
        decode: "scaled" decodes a JPEG at 1/2, 1/4 or 1/8 of its size if the transform needs even fewer pixels. This is
            faster for large photographs, but not exact: the mean error is 0.4 to 1.5 of 255.
        store: `StoreOptions(…)`, with time-outs and retries for object stores.

    Raises:
        ConfigError: an option has an invalid value.
    """

    cache: str | os.PathLike[str] | None = None
    cache_bytes: int | None = None
    ahead_bytes: int = 2 << 30  # enough for the default window with ImageNet's 110 KB per sample
    index: str | os.PathLike[str] | None = None
    verify: bool = False
    max_pixels: int = MAX_PIXELS
    decode: Literal["exact", "scaled"] = "exact"
    store: StoreOptions = StoreOptions()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        if self.decode not in ("exact", "scaled"):
            raise ConfigError(f"decode must be 'exact' or 'scaled', not {self.decode!r}")
        if self.cache is None and self.cache_bytes is not None:
            raise ConfigError(f"cache_bytes={self.cache_bytes} needs a folder: set cache= as well")
        if self.cache_bytes is not None and self.cache_bytes < 1:
            raise ConfigError(f"cache_bytes must be at least 1, not {self.cache_bytes}")

    def open_cache(self) -> Cache | None:
        """Return the cache in the cache folder; None if no folder is given."""
        return None if self.cache is None else Cache(Path(self.cache), max_bytes=self.cache_bytes)
