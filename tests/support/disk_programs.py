"""Every operation of the package on a disk as a small program, with its input and the expected result."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mps_shards import ReadOptions, ShardDataset, ShardSamples, pack
from mps_shards.packing import commit
from mps_shards.packing.resharding import reshard
from mps_shards.shardset.indexing import adopt, index_labels
from mps_shards.shardset.repairs import repair
from mps_shards.shardset.unpacking import unpack
from mps_shards.shardset.verification import verify
from tests.support.damage import copied, flip, swap
from tests.support.foreign import by_tarfile
from tests.support.images import class_folders, tiny_jpeg
from tests.support.sets import shard_set

__all__ = ["PROGRAMS", "Program"]


@dataclass(frozen=True, slots=True)
class Program:
    """One operation in a folder.

    Attributes:
        prepare: function that writes the input into an empty folder.
        run: function that does the operation and returns what it read; it can be repeated without harm.
        promises: folders in which a set that looks finished must be correct at any time.
        changes: whether the operation changes files, so that a repetition may return something else.
        keeps: whether an existing set stays readable until the new one is finished.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    promises: tuple[str, ...] = ()
    changes: bool = True
    keeps: bool = True

    def __str__(self) -> str:
        return self.name


def _images(folder: Path) -> None:
    class_folders(folder / "imgs", classes=2, each=4)


def _pack(folder: Path, **options: Any) -> None:
    pack(folder / "imgs", folder / "out", shard_samples=4, workers=1, **options)


def _task(folder: Path, number: int) -> None:
    if not os.path.exists(folder / "out/manifest.json"):
        _pack(folder, executor="array", task_index=number, num_tasks=2)


def _tasks_done(folder: Path) -> None:
    _images(folder)
    _task(folder, 0)
    _task(folder, 1)


def _tasks(folder: Path) -> None:
    _task(folder, 0)
    _task(folder, 1)
    _commit(folder)


def _commit(folder: Path) -> None:
    commit(folder / "out")


def _images_to_skip(folder: Path) -> None:
    _images(folder)
    (folder / "imgs/class-1/bad.jpg").write_bytes(b"no image")


def _pack_splits(folder: Path) -> None:
    _pack(folder, split="train=0.7,val=0.3", on_bad_sample="skip")


def _images_and_masks(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / "imgs" / kind).mkdir(parents=True)
    for number in range(5):
        (folder / f"imgs/images/{number}.jpg").write_bytes(tiny_jpeg(number))
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"imgs/masks/{number}.png")


def _packed_otherwise(folder: Path) -> None:
    _images(folder)
    pack(folder / "imgs", folder / "out", shard_samples=3, workers=1)


def _overwrite(folder: Path) -> None:
    _pack(folder, overwrite=True)


def _foreign_tars(folder: Path) -> None:
    (folder / "out").mkdir()
    for name in "ab":
        by_tarfile(folder / f"out/{name}.tar", {f"{name}{n}": {"cls": b"1", "jpg": tiny_jpeg(n)} for n in range(3)})


def _index(folder: Path) -> None:
    if not os.path.exists(folder / "out/manifest.json"):  # because index refuses to replace a manifest
        adopt(folder / "out", workers=1)


def _index_labels(folder: Path) -> None:
    index_labels(folder / "out", workers=1)


def _set(folder: Path) -> None:
    shutil.copytree(shard_set([3, 2]), folder / "set")


def _set_in_place(folder: Path) -> None:
    copied([3, 2], folder / "out")


def _reshard(folder: Path) -> None:
    reshard([folder / "set"], folder / "out", shard_samples=2, workers=1)


def _more_images(folder: Path) -> None:
    _images(folder)
    _pack(folder)
    for number in range(5):
        (folder / f"imgs/class-1/new-{number}.jpg").write_bytes(tiny_jpeg(100 + number))


def _flipped(folder: Path) -> None:
    flip(copied([4, 4], folder / "out") / "s-000001.tar", 1100)


def _missing(folder: Path) -> None:
    (copied([4, 4], folder / "out") / "s-000001.tar").unlink()


def _swapped(folder: Path) -> None:
    out = copied([4, 3, 2], folder / "out")
    swap(out / "s-000000.tar", out / "s-000002.tar")


def _extra(folder: Path) -> None:
    out = copied([4, 4], folder / "out")
    shutil.copy(shard_set([2], name="new") / "s-000000.tar", out / "extra.tar")


def _bad_index(folder: Path) -> None:
    out = copied([3, 3], folder / "out")
    index_labels(out)
    flip(out / "index.npy", 150)


def _repeated_keys(folder: Path) -> None:
    out = copied([4, 4], folder / "out")
    shutil.copy(out / "s-000000.tar", out / "again.tar")


def _left_overs(folder: Path) -> None:
    out = copied([4, 4], folder / "out")
    (out / "s-000009.tar.part").write_bytes(b"half")
    (out / "rubbish.tar").write_bytes(b"rubbish")


def _repair(folder: Path) -> None:
    repair(folder / "out", workers=1)


def _unpack(folder: Path) -> None:
    unpack(folder / "set", folder / "out", workers=1)


def _damaged_set(folder: Path) -> None:
    flip(copied([3, 3], folder / "set") / "s-000001.tar", 1100)


def _verify(folder: Path) -> object:
    return [(problem.kind, problem.where, problem.sample) for problem in verify(folder / "set", workers=1).problems]


def _samples(data: Any) -> list[tuple[bytes, int]]:
    return [(image.numpy().tobytes(), int(target)) for image, target in data]


def _stream(folder: Path, **options: Any) -> object:
    data = ShardDataset(folder / "set", batch_size=None, read_options=ReadOptions(**options))
    try:
        return _samples(data)
    finally:
        data.close()


def _stream_with_cache(folder: Path) -> object:
    return _stream(folder, cache=folder / "cache")


def _read_with_cache(folder: Path) -> object:
    data = ShardSamples(folder / "set", read_options=ReadOptions(cache=folder / "cache", cache_bytes=6000))
    try:
        return _samples(data[number] for number in (0, 4, 1))
    finally:
        data.close()


def _foreign_set(folder: Path) -> None:
    (folder / "set").mkdir()
    by_tarfile(folder / "set/a.tar", {f"a{n}": {"cls": b"1", "jpg": tiny_jpeg(n)} for n in range(3)})


def _repairing(name: str, prepare: Callable[[Path], object]) -> Program:
    return Program(f"repair, {name}", prepare, _repair)


PROGRAMS = [
    Program("pack", _images, _pack, ("out",)),
    Program("pack in splits, skipping", _images_to_skip, _pack_splits, ("out/train", "out/val")),
    Program("pack masks", _images_and_masks, _pack, ("out",)),
    Program("pack over", _packed_otherwise, _overwrite, ("out",), keeps=False),
    Program("append", _more_images, lambda folder: _pack(folder, append=True), ("out",)),
    Program("array job", _images, _tasks, ("out",)),
    Program("commit", _tasks_done, _commit, ("out",)),
    Program("reshard", _set, _reshard, ("out",)),
    Program("index", _foreign_tars, _index, ("out",)),
    Program("index labels", _set_in_place, _index_labels, ("out",)),
    _repairing("a flipped bit", _flipped),
    _repairing("a missing shard", _missing),
    _repairing("exchanged shards", _swapped),
    _repairing("an added shard", _extra),
    _repairing("a bad index", _bad_index),
    _repairing("repeated keys", _repeated_keys),
    _repairing("rubbish", _left_overs),
    Program("unpack", _set, _unpack),
    Program("verify", _set, _verify, changes=False),
    Program("verify a damaged set", _damaged_set, _verify, changes=False),
    Program("stream", _set, _stream, changes=False),
    Program("stream with a cache", _set, _stream_with_cache, changes=False),
    Program("read with a small cache", _set, _read_with_cache, changes=False),
    Program("stream foreign tars", _foreign_set, _stream, changes=False),
]
