"""Shard sets -> another one: merged, split, filtered by class, cut anew, shuffled anew; images are never re-encoded."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import accumulate, count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError, DataError, ShardError, StorageError
from mps_shards.packing.option_values import parse_size
from mps_shards.packing.plan import shard_name
from mps_shards.shards import keyed
from mps_shards.shards.manifest import Packed, SetDescription
from mps_shards.shards.tar import END
from mps_shards.shardset.mixture import Mixture
from mps_shards.shardset.opening import open_set
from mps_shards.shardset.scan import Scan, scan_shard
from mps_shards.shardset.sealing import write_set
from mps_shards.storage.local_disk import PART, replacing, sync_folder

__all__ = ["ReshardOptions", "ReshardReport", "ResharedSet", "reshard"]

Numbers = npt.NDArray[np.int64]
_MARK = "reshard" + PART  # a folder with it is ours, and unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshardOptions:
    """What is made of the sources.

    Attributes:
        shard_size: bytes of a shard at most, as ``"256MB"`` or a number.
        shard_samples: samples of a shard instead.
        only, without: class names to keep, or to leave out.
        shuffle: mix all samples by `seed`; else they keep their order, set after set.
        prefix: begin every key with its set's folder name, so that equal keys of several sets can live together.
        split: shares by name, as ``{"train": 0.9, "val": 0.1}``: one set each, below `out`, drawn by `seed`.
    """

    shard_size: str | int = "256MB"
    shard_samples: int | None = None
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    shuffle: bool = False
    seed: int = 0
    prefix: bool = False
    split: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parse_size(self.shard_size)
        keyed.check_seed(self.seed)
        if self.shard_samples is not None and self.shard_samples < 1:
            raise ConfigError(f"shard_samples must be at least 1, not {self.shard_samples}")
        if self.only and self.without:
            raise ConfigError("name classes to keep (only) or to leave out (except), not both")
        if self.split and (min(self.split.values()) <= 0 or abs(sum(self.split.values()) - 1) > 1e-6):
            raise ConfigError(f"the shares of a split must be positive and add up to 1: {dict(self.split)}")
        for name in self.split:
            if not name or name.startswith(".") or "/" in name or "\\" in name:
                raise ConfigError(f"{name!r} cannot name a split: it becomes a folder and begins file names")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResharedSet:
    """One set that was made."""

    folder: Path
    samples: int
    shards: int
    bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshardReport:
    """What was made. `left_out` counts samples of classes that were not wanted."""

    out: Path
    sets: tuple[ResharedSet, ...]
    classes: tuple[str, ...]
    left_out: int
    seconds: float


def reshard(
    sources: Sequence[Path],
    out: Path,
    options: ReshardOptions,
    *,
    on_start: Callable[[int], None] = lambda samples: None,
    on_progress: Callable[[int], None] = lambda samples: None,
) -> ReshardReport:
    """Write the samples of one or more sets into a new one, one at a time; the sources are not changed.

    Equal sources and options give equal bytes. Labels follow their class names into the new list of classes. `out`
    appears when all of it is written and read back; killed before, a run can be repeated.

    Args:
        out: a folder that is absent or empty.
        on_start: told how many samples there are.
        on_progress: told the samples done since its last call.

    Raises:
        ConfigError: the sets do not fit together, a class is not there, or `out` is not empty.
        DataError: two sets hold the same key, a sample is damaged, or nothing would be left.
        ManifestError: a source is no shard set, or its index does not fit.
        StorageError: something cannot be read or written.
    """
    began = time.monotonic()
    sets = [open_set(folder, whole=True) for folder in sources]
    mixture = Mixture(sets, only=options.only, without=options.without, prefix=options.prefix)
    on_start(len(mixture))
    made = []
    with _appearing(out) as folder, contextlib.closing(mixture):
        for name, numbers in _portions(len(mixture), options):
            place = folder / name
            place.mkdir(exist_ok=True)
            scans = list(_write(mixture, numbers, place, name or "shard", options, on_progress))
            if not scans:
                raise DataError(f"no sample is left for {out / name}")
            manifest = write_set(place, _description(mixture, options), [scan.contents() for scan in scans])
            made.append((name, manifest))
    return ReshardReport(
        out=out,
        sets=tuple(
            ResharedSet(
                folder=out / name,
                samples=manifest.samples,
                shards=len(manifest.shards),
                bytes=manifest.bytes,
                fingerprint=manifest.fingerprint,
            )
            for name, manifest in made
        ),
        classes=mixture.classes,
        left_out=len(mixture) - sum(manifest.samples for _, manifest in made),
        seconds=time.monotonic() - began,
    )


def _portions(samples: int, options: ReshardOptions) -> Iterator[tuple[str, Numbers]]:
    """Name and sample numbers, in order, of each set to be made; the one set has the name ""."""
    if not options.split:
        yield "", _ordered(np.arange(samples), options)
        return
    drawn = keyed.permutation(keyed.Stream.PACK, samples, seed=options.seed, a=1)
    stops = [round(samples * share) for share in accumulate(options.split.values())]
    for name, start, stop in zip(options.split, [0, *stops], stops, strict=False):
        yield name, _ordered(np.sort(drawn[start:stop]), options)


def _ordered(numbers: Numbers, options: ReshardOptions) -> Numbers:
    if not options.shuffle:
        return numbers
    return numbers[keyed.permutation(keyed.Stream.PACK, len(numbers), seed=options.seed)]


def _write(
    mixture: Mixture,
    numbers: Numbers,
    folder: Path,
    prefix: str,
    options: ReshardOptions,
    on_progress: Callable[[int], None],
) -> Iterator[Scan]:
    """Write shard after shard, and read each back."""
    largest = parse_size(options.shard_size)
    samples = _samples(mixture, numbers, on_progress)
    sample = next(samples, None)
    for number in count():
        if sample is None:
            return
        path = folder / shard_name(prefix, number)
        held, size = 0, len(END)
        with replacing(path) as file:
            while sample is not None:
                size += len(sample)
                if held and (held == options.shard_samples if options.shard_samples else size > largest):
                    break
                file.write(sample)
                held += 1
                sample = next(samples, None)
            file.write(END)
        scan = scan_shard(path)
        if scan.record.samples != held:
            raise ShardError(f"{path} holds {scan.record.samples} samples when read back, {held} were written")
        yield scan


def _samples(mixture: Mixture, numbers: Numbers, on_progress: Callable[[int], None]) -> Iterator[bytes]:
    for start in range(0, len(numbers), 4096):  # as lists a billion numbers would take 40 GB
        for number in numbers[start : start + 4096].tolist():
            content = mixture.sample(number)
            on_progress(1)
            if content is not None:
                yield content


def _description(mixture: Mixture, options: ReshardOptions) -> SetDescription:
    split = " ".join(f"{name}={share:g}" for name, share in options.split.items())
    made: dict[str, str | int | float | bool | None] = {
        "shard_size": parse_size(options.shard_size),
        "shard_samples": options.shard_samples,
        "keys": mixture.first.packed.options.get("keys", "stem"),
        "repeated_keys": mixture.repeated_keys or None,
        "split": f"{split}, seed {options.seed}" if split else None,
    }
    return SetDescription(
        task=mixture.first.task,
        classes=mixture.classes,
        ignore_index=mixture.first.ignore_index,
        packed=Packed(
            version=version("mps-shards"),
            layout="shard sets",
            seed=options.seed if options.shuffle else None,
            options=made,
        ),
    )


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and goes when it does not."""
    out = out.absolute()
    part = out.with_name(out.name + PART)
    try:
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} is not empty; remove it or name another place")
        if part.exists():
            if not (part / _MARK).exists():
                raise ConfigError(f"{part} is in the way; move it")
            shutil.rmtree(part)  # of a run that was killed
        part.mkdir(parents=True)
        (part / _MARK).touch()
        try:
            yield part
            (part / _MARK).unlink()
            if out.is_dir():
                out.rmdir()
            os.rename(part, out)
            sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{out}: {error.strerror}") from error
