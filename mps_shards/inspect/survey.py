"""Survey of a shard set: statistics of its images, labels and label maps, from all samples or a random subset."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mps_shards.errors import ConfigError, DataError
from mps_shards.inspect.image_statistics import Facts, Tally, examined
from mps_shards.reading.read_options import ReadOptions
from mps_shards.reading.source_opening import expanded
from mps_shards.shards.manifest import Manifest
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.disk_speed import forget_cached
from mps_shards.storage.folder import Folder
from mps_shards.storage.location import locate
from mps_shards.storage.ordered_map import ordered_map
from mps_shards.storage.urls import names_tar

__all__ = ["ReadingSpeed", "Survey", "open_shard_set", "reading_speed", "survey"]

_DEFAULT = ReadOptions()
_SAMPLES, _THREADS = 512, 16  # of a measurement of the reading speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Result of decoding and measuring the samples of a shard set.

    Attributes:
        manifest: manifest of the set.
        seed: seed of the random choice; None if every sample was decoded.
        tally: statistics of the samples that could be decoded.
        broken: one line for each sample that could not be decoded.
        held: classes of each sample, from its label map or its labels, in the order of the set; None for a sample that
            could not be decoded.
    """

    manifest: Manifest
    seed: int | None
    tally: Tally
    broken: tuple[str, ...]
    held: tuple[tuple[int, ...] | None, ...] = ()

    def normalize(self) -> tuple[list[float], list[float]]:
        """Return mean and std of the channels, as ``ShardDataset(normalize=…)`` takes them.

        Raises:
            ConfigError: no image could be decoded, or a channel has the same value in all pixels.
        """
        mean, std = self.tally.mean(), self.tally.std()
        if not all(std) or not std:
            raise ConfigError(
                f"normalize= needs values that vary in every channel, but {self.tally.pixels:,} pixels have std {std}"
            )
        return mean, std

    def class_name(self, number: int) -> str:
        """Return the name of a class index or label id."""
        if number == self.manifest.ignore_index:
            return "ignored"
        if number < 0:
            return "no label"
        return self.manifest.classes[number] if number < len(self.manifest.classes) else f"class {number}"


def open_shard_set(shards: str | os.PathLike[str], reading: ReadOptions = _DEFAULT) -> ShardSet:
    """Open one shard set and its reader.

    Raises:
        ConfigError, ManifestError, ShardError, StorageError: the set does not exist or is damaged.
    """
    (location,) = locate(expanded(shards), index=reading.index, options=reading.store)
    others = [name for name in location.names or () if not names_tar(name)]
    if others:
        raise ConfigError(f"{location.folder / others[0]} is neither a tar nor the folder of a shard set")
    return ShardSet(location, verify=reading.verify, cache=reading.open_cache())


def survey(
    shards: str | os.PathLike[str],
    *,
    samples: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    reading: ReadOptions = _DEFAULT,
    on_start: Callable[[int], None] = lambda count: None,
    on_sample: Callable[[int], None] = lambda count: None,
) -> Survey:
    """Decode the samples of a set and collect statistics. The result does not depend on the number of threads.

    Args:
        samples: number of samples to decode, drawn with `seed`; all by default.
        workers: number of threads; the available cores by default.
        reading: options for reading the shards, as in `ShardDataset`.
        on_start: called with the number of samples to decode.
        on_sample: called in this thread with the number of samples decoded since the last call.

    Raises:
        ConfigError, ManifestError, StorageError: the set cannot be read. Damaged samples are listed in `Survey.broken`.
    """
    if samples is not None and samples < 1:
        raise ConfigError(f"samples must be at least 1, not {samples}")
    opened = open_shard_set(shards, reading)
    total = len(opened)
    drawn = samples is not None and samples < total
    numbers: Sequence[int] = range(total)
    if drawn:
        numbers = np.sort(np.random.default_rng(seed).choice(total, samples, replace=False)).tolist()

    on_start(len(numbers))

    def look(number: int) -> Facts | str:
        key = f"sample {number}"
        try:
            raw = opened.read(number)
            key = f"{raw.key} ({raw.shard})"
            return examined(raw, opened.manifest)
        except DataError as error:
            return f"{key}: {error}"

    tally, broken = Tally(), []
    held: list[tuple[int, ...] | None] = []
    try:
        for found in ordered_map(look, numbers, workers=workers):
            if isinstance(found, str):
                broken.append(found)
                held.append(None)
            else:
                held.append(_classes_of(found, opened.manifest))
                tally.add(found, ignore_index=opened.manifest.ignore_index)
            on_sample(1)
    finally:
        opened.close()
    return Survey(
        manifest=opened.manifest,
        seed=seed if drawn else None,
        tally=tally,
        broken=tuple(broken),
        held=tuple(held),
    )


def _classes_of(found: Facts, manifest: Manifest) -> tuple[int, ...]:
    ids = found.labels if found.mask is None else tuple(found.mask)
    return tuple(number for number in ids if number >= 0 and number != manifest.ignore_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSpeed:
    """Speed of reading samples without decoding them.

    Attributes:
        open_s: seconds from opening the set to its first sample.
        latency_s: median seconds per sample, read one after the other at random positions.
        samples, bytes, seconds: totals of reading at random positions with `workers` threads.
        remote: whether the set is in an object store.
        cold: whether the files were dropped from the page cache before reading.
    """

    open_s: float
    latency_s: float
    samples: int
    bytes: int
    seconds: float
    workers: int
    remote: bool
    cold: bool


def reading_speed(shards: str | os.PathLike[str], reading: ReadOptions = _DEFAULT) -> ReadingSpeed | None:
    """Measure reading of up to 512 samples at random positions, first one by one and then with 16 threads.

    Returns:
        The speed; None for an empty set.

    Raises:
        ConfigError, DataError, StorageError: the set cannot be read; the message names the cause.
    """
    began = time.perf_counter()
    opened = open_shard_set(shards, reading)
    if not len(opened):
        return None
    try:
        opened.read(0)
        open_s = time.perf_counter() - began
        cold = _forgotten(opened.folder, [shard.name for shard in opened.shards])
        numbers = np.random.default_rng(0).permutation(len(opened))[:_SAMPLES].tolist()
        alone, together = numbers[: len(numbers) // 8 + 1], numbers[len(numbers) // 8 :]
        waits = []
        for number in alone:
            asked = time.perf_counter()
            opened.read(number)
            waits.append(time.perf_counter() - asked)
        began = time.perf_counter()
        read = list(
            ordered_map(lambda number: sum(map(len, opened.read(number).fields.values())), together, workers=_THREADS)
        )
        seconds = time.perf_counter() - began
    finally:
        opened.close()
    return ReadingSpeed(
        open_s=open_s,
        latency_s=statistics.median(waits),
        samples=len(read),
        bytes=sum(read),
        seconds=seconds,
        workers=_THREADS,
        remote=opened.remote,
        cold=cold or opened.remote,
    )


def _forgotten(folder: Folder, names: Sequence[str]) -> bool:
    """Drop files from the page cache. Return whether the system allows that."""
    return folder.path is not None and all([forget_cached(folder.path / name) for name in names])
