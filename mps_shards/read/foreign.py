"""Tars without a manifest, made by anybody: streamed through webdataset's own readers, in order.

webdataset 1.0.2 ends a shard in silence at a damaged header, or where a file was cut off between members. So the bytes
that it reads are watched here: every header's checksum, and the two zero blocks that end a tar. Compressed tars are
decompressed here too, since tarfile ends a stream in silence where compressed data end early, and checks no CRC.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mps_shards.errors import ConfigError, ShardError
from mps_shards.read.deal import Remainder
from mps_shards.read.order import Numbers
from mps_shards.read.place import Place
from mps_shards.shards import keyed
from mps_shards.shards.sample import RawSample
from mps_shards.shards.tar import BLOCK, data_size
from mps_shards.storage.local import file_size, open_stream
from mps_shards.storage.location import Location

__all__ = ["ForeignShards"]

_Stream = BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


class ForeignShards:
    """The samples of tars without a manifest, in sequence.

    Every place reads every byte and keeps its share, so that ranks stay equal without knowing any counts. Their
    number is not known before the end.

    Args:
        locations: tar files, or folders whose ``*.tar`` (and ``*.tar.gz``, ``*.tgz``) are taken sorted by name.
        buffer: samples held to shuffle among; the order of the shards is shuffled too. 0 keeps the order.
    """

    def __init__(self, locations: Sequence[Location], *, buffer: int):
        self.paths: list[Path] = []
        for location in locations:
            names = location.names or sorted(
                path.name for path in location.folder.iterdir() if path.name.endswith((".tar", ".tar.gz", ".tgz"))
            )
            if not names:
                raise ConfigError(f"{location.folder} holds neither a manifest.json nor any tar")
            self.paths += [location.folder / name for name in names]
        self.buffer = buffer
        listed = "\n".join(f"{path.name} {file_size(path)}" for path in self.paths)
        self.fingerprint = hashlib.sha256(f"foreign\n{listed}\n{buffer}".encode()).hexdigest()

    def sequence(self, *, seed: int, epoch: int) -> Iterator[RawSample]:
        """The epoch's samples, in an order that depends on (seed, epoch) alone.

        Raises:
            ShardError: a tar is damaged. Samples just before the damage may not have been given.
        """
        paths = self.paths
        if not self.buffer:
            return _samples(paths)
        order = keyed.permutation(keyed.Stream.BLOCKS, len(paths), seed=seed, epoch=epoch)
        return _shuffled(_samples([paths[i] for i in order]), self.buffer, seed=seed, epoch=epoch)

    def share(
        self, place: Place, *, seed: int, epoch: int, start: int, remainder: Remainder
    ) -> Iterator[tuple[int, RawSample]]:
        """Positions and samples of one rank, from a position on, its end arranged by `remainder` (see `read.deal`)."""
        row: list[tuple[int, RawSample]] = []  # one sample a rank
        first: list[tuple[int, RawSample]] = []
        for position, sample in enumerate(self.sequence(seed=seed, epoch=epoch)):
            if len(first) < place.world - 1 and remainder == "pad":
                first.append((position, sample))
            if position >= start:
                row.append((position, sample))
            if len(row) == place.world:
                yield row[place.rank]
                row = []
        if row and remainder == "pad":
            while len(row) < place.world:
                row += first[: place.world - len(row)]
            yield row[place.rank]
        elif remainder == "keep" and place.rank < len(row):
            yield row[place.rank]


def _samples(paths: Sequence[Path]) -> Iterator[RawSample]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    for path in paths:
        with open_stream(path) as file, _WatchedTar(_decompressed(file), str(path)) as stream:
            tar = {"url": str(path), "stream": stream}
            handler = _raising(str(path))
            files = _checked(tar_file_expander([tar], handler=handler, eof_value=None), stream)
            for sample in group_by_keys(files, handler=handler):
                fields = {name: value for name, value in sample.items() if not name.startswith("__")}
                yield RawSample(key=sample["__key__"], shard=path.name, fields=fields)


def _checked(files: Iterator[Any], stream: "_WatchedTar") -> Iterator[Any]:
    """The files, and the end of the tar checked before the last sample counts as whole."""
    yield from files
    stream.finish()


def _decompressed(file: BinaryIO) -> _Stream:
    """The file as it is, or what is inside; told by content, as tarfile does."""
    begins = file.read(10)
    file.seek(0)
    if begins.startswith(b"\x1f\x8b\x08"):
        return gzip.GzipFile(fileobj=file)
    if begins.startswith(b"BZh") and begins[4:] == b"1AY&SY":
        return bz2.BZ2File(file)
    if begins.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(file)
    return file


def _raising(name: str) -> Callable[[Exception], bool]:
    """A handler in webdataset's calling convention. It appends to the arguments of errors, which garbles messages."""

    def handler(error: Exception) -> bool:
        if isinstance(error, ShardError):
            error.args = error.args[:1]
            raise error
        reason = error.args[0] if error.args else repr(error)
        raise ShardError(f"webdataset cannot read shard {name}: {reason}") from error

    return handler


class _WatchedTar(io.RawIOBase):
    """A tar on its way to webdataset, its headers checked as they pass."""

    def __init__(self, file: _Stream, name: str):
        self._file, self._name = file, name
        self._offset = 0  # of the next byte to look at
        self._next = 0  # where the next header begins
        self._held = b""
        self._ends = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            content = self._file.read(-1 if size is None else size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ShardError(f"shard {self._name} cannot be read: {error}") from error
        self._watch(content)
        return content

    def _watch(self, content: bytes) -> None:
        position = 0
        while position < len(content):
            skipped = min(self._next - self._offset, len(content) - position)
            if skipped > 0:
                position += skipped
                self._offset += skipped
                continue
            piece = content[position : position + BLOCK - len(self._held)]
            self._held += piece
            position += len(piece)
            self._offset += len(piece)
            if len(self._held) == BLOCK:
                block, self._held = self._held, b""
                if not any(block):
                    self._ends += 1
                elif self._ends:
                    raise ShardError(f"shard {self._name} goes on after its end, at byte {self._offset - BLOCK}")
                size = data_size(block, where=f"shard {self._name}", position=self._offset - BLOCK) if any(block) else 0
                self._next = self._offset + size + -size % BLOCK

    def finish(self) -> None:
        """Read what is left, and check that the tar has its end."""
        while self.read(1 << 20):
            pass
        if self._ends < 2 or self._held or self._offset < self._next:
            raise ShardError(f"shard {self._name} is cut off: it ends at byte {self._offset} without a tar's end")

    def close(self) -> None:
        self._file.close()
        super().close()

    def __repr__(self) -> str:
        return self._name  # webdataset puts it into messages


def _shuffled(samples: Iterator[RawSample], size: int, *, seed: int, epoch: int) -> Iterator[RawSample]:
    """Each sample swapped with a random one of a buffer, by (seed, epoch)."""
    held: list[RawSample] = []
    number = 0
    chunk: Numbers = np.empty(0, dtype=np.int64)
    for sample in samples:
        if len(held) < size:
            held.append(sample)
            continue
        place = number % 4096
        if not place:
            draws = keyed.bits(keyed.Stream.BUFFER, 4096, seed=seed, epoch=epoch, a=number // 4096)
            chunk = (draws % np.uint64(size)).astype(np.int64)
        number += 1
        chosen = int(chunk[place])
        yield held[chosen]
        held[chosen] = sample
    for chosen in keyed.permutation(keyed.Stream.BUFFER, len(held), seed=seed, epoch=epoch, b=1).tolist():
        yield held[chosen]
