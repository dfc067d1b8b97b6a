"""Python objects as a source: any sequence or iterable of images with targets, and arrays ``(X, y)``."""

import contextlib
import hashlib
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.listing import Entry, Listing
from mps_shards.packing.sources.python_datasets import (
    ArrayPairs,
    ImageFiles,
    classes_of,
    is_arrays,
    known_labels,
    prepare_samples,
    without_images,
)
from mps_shards.packing.sources.python_items import IMAGE_KEYS, Target, encoded_image, item_of, target_of
from mps_shards.packing.sources.python_listing import FoundSamples
from mps_shards.packing.sources.source import Source, SourceSample, Stamp

__all__ = ["IteratorSource", "SequenceSource", "open_samples"]

_log = logging.getLogger("mps_shards")

_SPLIT_BITS = 40  # a place holds the number of a split above these bits, and an index below them
_PROBED = 16  # samples that are encoded to estimate the total size


def open_samples(given: Any) -> "SequenceSource | IteratorSource":
    """Return the source for a Python object.

    Raises:
        ConfigError: the object is neither a sequence nor an iterable.
    """
    if is_arrays(given):
        given = ArrayPairs(*given)
    if isinstance(given, Mapping) and given and all(isinstance(name, str) for name in given):
        if any(name.lower() in IMAGE_KEYS for name in given):
            raise ConfigError(
                f"a dict of columns ({', '.join(given)}) is not packed; give rows, such as zip(images, labels), or a "
                "dict of splits"
            )
        splits = {name: prepare_samples(samples) for name, samples in given.items()}
    else:
        splits = {"": prepare_samples(given)}
    if all(hasattr(each, "__len__") and hasattr(each, "__getitem__") for each in splits.values()):
        return SequenceSource(splits)
    if all(isinstance(each, Iterable) for each in splits.values()):
        return IteratorSource(splits)
    raise ConfigError(
        f"cannot pack an object of type {type(given).__name__!r}: name a folder, a list or an archive, or give a "
        "sequence or an iterable of (image, target)"
    )


class SequenceSource(Source):
    """A source of sequences by split. Items are taken by index, one at a time, and encoded in parallel.

    Labels come from an attribute ``targets`` or ``labels`` if it exists, else from reading every item once. Class
    names come from ``classes``. Each item is compared with the listing when it is packed.
    """

    name = "samples"
    is_comparable = False  # an image is known only when its item is read

    def __init__(self, splits: Mapping[str, Any]):
        self._splits = dict(splits)
        self._names = list(splits)
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def listing(self, options: SourceOptions) -> Listing:
        """List every item. The sizes of images are estimated from a few images, unless they are files."""
        found = FoundSamples(classes_of(*self._splits.values()))
        for number, (name, samples) in enumerate(self._splits.items()):
            sizes = _sizes(samples)
            for index, target in enumerate(self._targets(samples)):
                found.add(name, _path(samples, name, index), sizes(index), number << _SPLIT_BITS | index, target)
        listing = found.listing()
        self._numbers = found.numbers
        return listing

    def read(self, entry: Entry) -> SourceSample:
        """Return the encoded image of an item, and its mask.

        Raises:
            DataError: the target of the item changed since it was listed, or the item is not an image.
        """
        samples = self._splits[self._names[entry.place >> _SPLIT_BITS]]
        index = entry.place & (1 << _SPLIT_BITS) - 1
        where = f"sample {index}"
        with self._lock:  # data sets share file handles and random states; images are encoded outside of the lock
            given = _taken(samples, index)
        item = item_of(given, where)
        extension, image = encoded_image(item.image, where)
        target = target_of(item, where)
        label = -1 if target.label is None else self._numbers.get(str(target.label), -1)
        if label != entry.label:
            raise DataError(f"{where} has the label {target.label!r} now, but had another label when it was listed")
        return SourceSample(extension=extension, image=image, mask=target.mask)

    def stamp(self, entry: Entry) -> Stamp:
        return Stamp(bytes(8), is_sure=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"_splits": self._splits, "_names": self._names, "_numbers": self._numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _targets(self, samples: Any) -> Iterator[Target]:
        """Yield the target of each item, without reading its image if possible."""
        known = known_labels(samples)
        if known is not None:
            for label in known:
                yield Target(label=label if isinstance(label, str) else int(label))
            return
        rows = without_images(samples)
        for index in range(len(samples)):
            where = f"sample {index}"
            yield target_of(
                item_of(_taken(samples, index) if rows is None else {"image": b"", **rows[index]}, where), where
            )


class IteratorSource(Source):
    """A source of iterables by split, each of which is read once, from start to end, into a temporary file.

    The file has no name and disappears with the process, so an interrupted pack starts from the beginning.
    """

    name = "samples"
    is_repeatable = False

    def __init__(self, splits: Mapping[str, Iterable[Any]]):
        self._splits = dict(splits)
        self._file: int | None = None

    def listing(self, options: SourceOptions) -> Listing:
        _log.warning(
            "packing an iterator, which can be read only once: if packing is interrupted, it cannot be resumed; a "
            "sequence, which has a length and indices, can"
        )
        found = FoundSamples(classes_of(*self._splits.values()))
        with tempfile.TemporaryFile() as file:
            digest, end = hashlib.sha256(), 0
            for name, samples in self._splits.items():
                for index, given in enumerate(samples):
                    where = f"sample {index}"
                    item = item_of(given, where)
                    extension, image = encoded_image(item.image, where)
                    target = target_of(item, where)
                    try:
                        file.write(image + target.mask)
                    except OSError as error:
                        raise StorageError(f"cannot write to {tempfile.gettempdir()}: {error.strerror}") from error
                    digest.update(image + target.mask)
                    path = f"{name}/{index:08d}" if name else f"{index:08d}"
                    found.add(name, f"{path}.{extension}", len(image), end, target)
                    end += len(image) + len(target.mask)
            file.flush()
            self._file = os.dup(file.fileno())
        return found.listing(identity=digest.hexdigest() + secrets.token_hex(8))

    def read(self, entry: Entry) -> SourceSample:
        image = self._bytes(entry.place, entry.size)
        mask = b""
        if entry.mask:
            mask = self._bytes(entry.place + entry.size, int(entry.mask.partition("+")[2]))
        return SourceSample(extension=entry.path.rpartition(".")[2], image=image, mask=mask)

    def stamp(self, entry: Entry) -> Stamp:
        return Stamp(bytes(8), is_sure=False)

    def ending(self, entry: Entry) -> bytes:
        return self._bytes(entry.place + max(0, entry.size - 4096), min(4096, entry.size))

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # modules may be gone when the interpreter ends
            self.close()

    def _bytes(self, start: int, size: int) -> bytes:
        assert self._file is not None
        content = os.pread(self._file, size, start)
        if len(content) != size:
            raise StorageError(f"the temporary file of the samples ends at byte {start + len(content)}")
        return content

    def __getstate__(self) -> object:
        raise ConfigError("an iterator can only be packed by this process: leave the executor 'local'")


def _taken(samples: Any, index: int) -> Any:
    """An item; an error of the data set itself gains a note that names the item."""
    try:
        return samples[index]
    except Exception as error:
        error.add_note(f"raised by sample {index} of {len(samples):,} that the data set states")
        raise


def _path(samples: Any, split: str, index: int) -> str:
    if isinstance(samples, ImageFiles):
        path = os.path.relpath(samples.samples[index][0], samples.root)
    else:
        path = f"{index:08d}.png"
    return f"{split}/{path}" if split else path


def _sizes(samples: Any) -> Any:
    """Return a function that gives the bytes of an image by its index: of its file, or the mean of a few images."""
    if isinstance(samples, ImageFiles):
        return lambda index: os.path.getsize(samples.samples[index][0])
    if not len(samples):
        return lambda index: 0
    probed = sorted({round(place) for place in np.linspace(0, len(samples) - 1, _PROBED).tolist()})
    sizes = [
        len(encoded_image(item_of(_taken(samples, index), f"sample {index}").image, f"sample {index}")[1])
        for index in probed
    ]
    mean = sum(sizes) // len(sizes)
    return lambda index: mean
