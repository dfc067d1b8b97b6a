"""Every operation of the package with a store as a small program, with its input and result."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mps_shards import ReadOptions, ShardDataset, ShardSamples, pack
from mps_shards.packing import commit
from mps_shards.packing.resharding import reshard
from mps_shards.shardset.indexing import adopt, index_labels
from mps_shards.shardset.repairs import repair
from mps_shards.shardset.unpacking import unpack
from mps_shards.shardset.verification import verify
from mps_shards.storage.folder import WritableFolder
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_options import StoreOptions
from tests.support.damage import copied, flip, swap
from tests.support.images import class_folders
from tests.support.sets import foreign_tars, shard_set
from tools.support.stores import upload

__all__ = ["STORE_PROGRAMS", "Place", "StoreProgram"]


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a program: a local folder, a prefix in a store, and the number of attempts of a request."""

    folder: Path
    url: str
    options: StoreOptions

    def store(self, name: str) -> WritableFolder:
        """Open a folder at the prefix."""
        return open_folder(f"{self.url}/{name}", options=self.options)


@dataclass(frozen=True, slots=True)
class StoreProgram:
    """One operation with a store.

    Attributes:
        prepare: function that writes the input to an empty place.
        run: function that does the operation and returns what it read; it can be repeated without harm.
        promises: folders at the prefix in which a set that looks finished must be correct at any time.
        changes: whether the operation changes files, so that a repetition may return something else.
    """

    name: str
    prepare: Callable[[Place], object]
    run: Callable[[Place], object]
    promises: tuple[str, ...] = ()
    changes: bool = True

    def __str__(self) -> str:
        return self.name


def _imgs(place: Place) -> Path:
    """Write the images that all places of a test share, because records of finished shards hold file times."""
    folder = place.folder.parent / "imgs"
    if not folder.exists():
        class_folders(folder, classes=2, each=4)
    return folder


def _images_to_skip(place: Place) -> None:
    if not (bad := _imgs(place) / "class-1/bad.jpg").exists():
        bad.write_bytes(b"no image")


def _pack(place: Place, **options: Any) -> None:
    pack(_imgs(place), place.store("out"), shard_samples=4, workers=1, **options)


def _pack_splits(place: Place) -> None:
    _pack(place, split="train=0.7,val=0.3", on_bad_sample="skip")


def _packed_otherwise(place: Place) -> None:
    pack(_imgs(place), place.store("out"), shard_samples=3, workers=1)


def _task(place: Place, number: int) -> None:
    _pack(place, executor="array", task_index=number, num_tasks=2)


def _tasks_done(place: Place) -> None:
    _task(place, 0)
    _task(place, 1)


def _uploaded(name: str, made: Callable[[Path], Path]) -> Callable[[Place], object]:
    return lambda place: upload(made(place.folder / "made"), f"{place.url}/{name}")


def _flipped(folder: Path) -> Path:
    flip(copied([3, 3], folder) / "s-000001.tar", 1100)
    return folder


def _missing(folder: Path) -> Path:
    (copied([3, 3], folder) / "s-000001.tar").unlink()
    return folder


def _swapped(folder: Path) -> Path:
    copied([3, 2, 2], folder)
    swap(folder / "s-000000.tar", folder / "s-000001.tar")
    return folder


def _labelled(folder: Path) -> Path:
    index_labels(copied([3, 2], folder))
    flip(folder / "index.npy", 150)
    return folder


def _index(place: Place) -> None:
    if not place.store("out").has("manifest.json"):  # because index refuses to replace a manifest
        adopt(place.store("out"), workers=1)


def _verify(place: Place) -> object:
    return [(each.kind, each.where, each.sample) for each in verify(place.store("set"), workers=1).problems]


def _samples(data: Any) -> list[tuple[bytes, int]]:
    return [(image.numpy().tobytes(), int(target)) for image, target in data]


def _stream(place: Place, **options: Any) -> object:
    read_options = ReadOptions(store=place.options, **options)
    data = ShardDataset(f"{place.url}/set", batch_size=None, read_options=read_options)
    try:
        return _samples(data)
    finally:
        data.close()


def _stream_with_cache(place: Place) -> object:
    return _stream(place, cache=place.folder / "cache")


def _by_number(place: Place) -> object:
    data = ShardSamples(f"{place.url}/set", read_options=ReadOptions(store=place.options))
    try:
        return _samples(data[number] for number in (0, 4, 1))
    finally:
        data.close()


def _reshard(place: Place) -> None:
    reshard([place.store("set")], place.store("out"), shard_samples=2, workers=1)


def _index_labels(place: Place) -> None:
    index_labels(place.store("out"), workers=1)


def _repair(place: Place) -> None:
    repair(place.store("out"), workers=1)


def _unpack(place: Place) -> None:
    unpack(place.store("set"), place.folder / "out", workers=1)


_set = _uploaded("set", lambda folder: shard_set([3, 2]))
_set_in_place = _uploaded("out", lambda folder: shard_set([3, 2]))
_tars_in_place = _uploaded("out", lambda folder: foreign_tars([3, 2]))
_tars = _uploaded("set", lambda folder: foreign_tars([3, 2]))

STORE_PROGRAMS = [
    StoreProgram("pack in splits, skipping", _images_to_skip, _pack_splits, ("out/train", "out/val")),
    StoreProgram("pack over", _packed_otherwise, lambda place: _pack(place, overwrite=True), ("out",)),
    StoreProgram("array task", _imgs, lambda place: _task(place, 0), ("out",)),
    StoreProgram("commit", _tasks_done, lambda place: commit(place.store("out")) and None, ("out",)),
    StoreProgram("reshard", _set, _reshard, ("out",)),
    StoreProgram("index", _tars_in_place, _index, ("out",)),
    StoreProgram("index labels", _set_in_place, _index_labels, ("out",)),
    StoreProgram("repair, a flipped bit", _uploaded("out", _flipped), _repair),
    StoreProgram("repair, a missing shard", _uploaded("out", _missing), _repair),
    StoreProgram("repair, exchanged shards", _uploaded("out", _swapped), _repair),
    StoreProgram("repair, a bad index", _uploaded("out", _labelled), _repair),
    StoreProgram("unpack", _set, _unpack),
    StoreProgram("verify", _set, _verify, changes=False),
    StoreProgram("verify a damaged set", _uploaded("set", _flipped), _verify, changes=False),
    StoreProgram("stream", _set, _stream, changes=False),
    StoreProgram("stream with a cache", _set, _stream_with_cache, changes=False),
    StoreProgram("read by number", _set, _by_number, changes=False),
    StoreProgram("stream foreign tars", _tars, _stream, changes=False),
]
