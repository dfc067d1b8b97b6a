"""Streaming of foreign shards, which are tars without a manifest made by other tools, through webdataset's readers.

At a damaged header, or if a file was cut off between members, webdataset 1.0.2 ends a shard without an error. So this
module checks the bytes that webdataset reads: the checksum of every header, and the two zero blocks that end a tar. It
also decompresses compressed tars, because tarfile does not report that compressed data end early, and checks no CRC.
"""

import bz2
import gzip
import hashlib
import io
import logging
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mps_shards.errors import ConfigError, DataError, ShardError, StorageError
from mps_shards.reading.sample_sources import Damaged, refused
from mps_shards.sampling.order import Numbers
from mps_shards.sampling.rank import Share
from mps_shards.sampling.rank_sharding import Remainder
from mps_shards.shards import keyed
from mps_shards.shards.key_names import is_hidden, split_member
from mps_shards.shards.raw_sample import RawSample
from mps_shards.shards.tar import BLOCK, NO_DATA, REGULAR, data_size, pax_records
from mps_shards.shardset.opening import TARS
from mps_shards.storage.file_cache import Cache, CachedFolder
from mps_shards.storage.folder import File, Folder, Traffic
from mps_shards.storage.location import Location
from mps_shards.wording import printable

__all__ = ["ForeignShards", "Repeated", "Streamed"]

_Stream = io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

# Limit for the bytes of a member in memory. The pixels of the largest image that is decoded take half as many bytes.
_MAX_MEMBER = 1 << 30
# Limit for the ratio of decompressed to compressed bytes, beyond the first _FREE_BYTES. Photographs hardly shrink, and
# label maps shrink by a factor of 100; zeros shrink by a factor of 1,000 with gzip, and more with bzip2.
_MAX_RATIO, _FREE_BYTES = 200, 1 << 26

_log = logging.getLogger("mps_shards")


class Repeated(NamedTuple):
    """A bad sample: its key occurred before in its shard, so that the fields of the two cannot be distinguished."""

    key: str
    shard: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"shard {self.shard} comes back to the key {self.key!r}: the key occurs twice, or its members are not "
            "side by side"
        )


Streamed = RawSample | Repeated


class ForeignShards:
    """The samples of foreign shards, in sequence.

    Every rank and worker reads every byte and keeps its share, so that all ranks get the same number of samples,
    although the total is not known before the end.

    Args:
        locations: tar files, or folders whose ``*.tar``, ``*.tar.gz`` and ``*.tgz`` files are read in order of name.
        buffer: number of samples in the shuffle buffer; the order of the shards is shuffled, too. 0 keeps the order.
        cache: cache for complete tars; None for no cache.
    """

    def __init__(self, locations: Sequence[Location], *, buffer: int, cache: Cache | None = None):
        self.tars: list[File] = []
        for location in locations:
            folder: Folder = location.folder if cache is None else CachedFolder(cache, location.folder)
            found = location.names
            if found is None:
                found = tuple(name for name in folder.names() if name.endswith(TARS))
            if not found:
                raise ConfigError(f"{location.folder} holds neither a manifest.json nor any tar")
            self.tars += [folder / name for name in found]
        self.buffer = buffer
        listed = "\n".join(map(_listed, self.tars))
        self.fingerprint = hashlib.sha256(f"foreign\n{listed}\n{buffer}".encode()).hexdigest()

    def traffic(self) -> Traffic:
        """Return the counts of requests to stores."""
        folders = {id(tar.folder): tar.folder for tar in self.tars}.values()
        return Traffic.sum([folder.traffic for folder in folders])

    def sequence(self, *, seed: int, epoch: int, damaged: Damaged = refused) -> Iterator[Streamed]:
        """Yield the samples of an epoch, in an order that depends on (seed, epoch) alone.

        Raises:
            ShardError: a tar is damaged, and `damaged` refused to continue with the next tar. Samples just before the
                damage may be missing.
        """
        tars = self.tars
        if not self.buffer:
            return _samples(tars, damaged)
        order = keyed.permutation(keyed.Stream.BLOCKS, len(tars), seed=seed, epoch=epoch)
        return _shuffled(_samples([tars[i] for i in order], damaged), self.buffer, seed=seed, epoch=epoch)

    def of_rank(
        self,
        share: Share,
        *,
        seed: int,
        epoch: int,
        start: int,
        remainder: Remainder,
        damaged: Damaged = refused,
        look: Callable[[Iterator[Streamed]], Iterator[Streamed]] = lambda sequence: sequence,
    ) -> Iterator[tuple[int, Streamed]]:
        """Yield the positions and samples of one rank.

        Args:
            share: rank whose samples are yielded; its DataLoader worker is ignored.
            seed, epoch: key of the order.
            start: position of the first sample.
            remainder: handling of the last samples, see `Deal`.
            damaged: function that decides whether to continue after a damaged tar.
            look: function that yields the samples of all ranks unchanged, and may inspect them.
        """
        row: list[tuple[int, Streamed]] = []  # one sample for each rank
        first: list[tuple[int, Streamed]] = []
        for position, sample in enumerate(look(self.sequence(seed=seed, epoch=epoch, damaged=damaged))):
            if len(first) < share.world_size - 1 and remainder == "pad":
                first.append((position, sample))
            if position >= start:
                row.append((position, sample))
            if len(row) == share.world_size:
                yield row[share.rank]
                row = []
        if row and remainder == "pad":
            while len(row) < share.world_size:
                row += first[: share.world_size - len(row)]
            yield row[share.rank]
        elif remainder == "keep" and share.rank < len(row):
            yield row[share.rank]


def _listed(tar: File) -> str:
    """Return the name and size of a tar, without the size in a store or a cached folder, to save a request."""
    return tar.name if tar.folder.path is None else f"{tar.name} {tar.size()}"


def _samples(tars: Sequence[File], damaged: Damaged) -> Iterator[Streamed]:
    for tar in tars:
        try:
            yield from _samples_of(tar)
        except ShardError as error:
            if not damaged(error, shard=tar.name, share=1 / len(tars)):
                raise


def _samples_of(tar: File) -> Iterator[Streamed]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    keys: set[str] = set()
    with tar.open_stream() as file, _WatchedTar(file, str(tar)) as stream:
        opened = {"url": str(tar), "stream": stream}
        handler = _raising(str(tar))
        files = _checked(tar_file_expander([opened], handler=handler, eof_value=None), stream)
        for sample in group_by_keys(files, handler=handler):
            key = sample["__key__"]
            if key in keys:
                yield Repeated(key, tar.name, tuple(name for name in sample if not name.startswith("__")))
                continue
            keys.add(key)
            fields = {name: value for name, value in sample.items() if not name.startswith("__")}
            yield RawSample(key=key, shard=tar.name, fields=fields)


def _checked(files: Iterator[Any], stream: "_WatchedTar") -> Iterator[Any]:
    """Yield the files, and check the end of the tar before the last sample counts as complete.

    Entries that belong to no sample are passed over and counted: hidden files, names without key and field, names that
    webdataset reserves (``__x__/``), and entries that are neither files nor folders.
    """
    nameless: list[str] = []
    given = hidden = 0
    for file in files:
        given += 1
        if is_hidden(name := file["fname"]):
            hidden += 1
            continue
        try:
            split_member(name)
        except DataError:
            nameless.append(name)
        # written on Windows; webdataset would treat the folders as a part of the base name
        yield {**file, "fname": name.replace("\\", "/")} if "\\" in name else file
    stream.finish()
    if nameless:
        count, first = len(nameless), nameless[0]
        _log.warning(
            "shard %r: %d files have no key and field, and belong to no sample; the first: %r", stream, count, first
        )
    if hidden:
        _log.info("shard %r: %d hidden files were passed over", stream, hidden)
    if stream.files > given:
        _log.warning(
            "shard %r: %d files have names that webdataset keeps for itself (__x__), and belong to no sample",
            stream,
            stream.files - given,
        )
    if stream.others:
        _log.warning(
            "shard %r: %d entries are links, devices or of an unknown type, and belong to no sample; the first: %r",
            stream,
            len(stream.others),
            stream.others[0],
        )


def _decompressed(file: io.BufferedReader) -> _Stream:
    """Return the file, or its decompressed content; the compression is recognised by content, as in tarfile."""
    begins = file.peek(10)[:10]
    if begins.startswith(b"\x1f\x8b\x08"):
        return gzip.GzipFile(fileobj=file)
    if begins.startswith(b"BZh") and begins[4:] == b"1AY&SY":
        return bz2.BZ2File(file)
    if begins.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(file)
    return file


def _raising(name: str) -> Callable[[Exception], bool]:
    """Return a handler in webdataset's convention that raises a readable error (webdataset changes error arguments)."""

    def handler(error: Exception) -> bool:
        reason = str(error.args[0]).removesuffix(f" @ {name}") if error.args else repr(error)
        # names of members come from the tar: unprintable characters could change a terminal or forge a line of a log
        reason = printable(reason)
        if isinstance(error, ShardError | StorageError):
            error.args = (reason,)
            raise error
        raise ShardError(f"webdataset cannot read shard {name}: {reason}") from error

    return handler


# The usual form of the numbers of mode, owner, group, time and device. tarfile takes 25 us to parse a header.
_NUMBER = rb"(?:[0-7]{7}[ \0]|[0-7]{6} \0|\0{8})"
_USUAL_NUMBERS = re.compile(rb"(?s).{100}" + 3 * _NUMBER + rb".{12}(?:[0-7]{11}[ \0]|\0{12}).{181}" + 2 * _NUMBER)


class _WatchedTar(io.RawIOBase):
    """A file object from which webdataset reads a decompressed tar; every header is checked."""

    def __init__(self, file: io.BufferedReader, name: str):
        self._packed, self._file, self._name = file, _decompressed(file), name
        self._offset = 0  # offset of the next unchecked byte
        self._next = 0  # offset of the next header
        self._held = b""
        self._ends = 0
        self._naming: bytearray | None = None  # content of a pax header that was read so far
        self._for_all = False  # whether this is a global header
        self._size: int | None = None  # size of the next member, from a pax header
        self.files = 0  # number of members that are files
        self.others: list[str] = []  # names of entries that are neither files nor folders

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        try:
            content = self._file.read(-1 if size is None else size)
        except StorageError:
            raise
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ShardError(f"shard {self._name} cannot be read: {error}") from error
        self._watch(content)
        if self._offset > _FREE_BYTES + _MAX_RATIO * self._packed.tell():
            raise ShardError(f"shard {self._name} is over {_MAX_RATIO} times as large as its compressed file")
        return content

    def _watch(self, content: bytes) -> None:
        position = 0
        while position < len(content):
            skipped = min(self._next - self._offset, len(content) - position)
            if skipped > 0:
                if self._naming is not None:
                    self._naming += content[position : position + skipped]
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
                    raise ShardError(f"shard {self._name} continues after its end, at byte {self._offset - BLOCK}")
                size = self._member_size(block) if any(block) else 0
                self._next = self._offset + size + -size % BLOCK

    def _member_size(self, block: bytes) -> int:
        """Return the number of data bytes after a header. Raises ShardError for damaged headers and huge members."""
        where, start = f"shard {self._name}", self._offset - BLOCK
        size, kind = data_size(block, where=where, position=start), block[156]
        try:
            if not _USUAL_NUMBERS.match(block):
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:  # tarfile would silently end the tar at this header
            raise ShardError(f"{where}: header at byte {start} is damaged ({error})") from error
        if self._naming is not None:
            records = pax_records(bytes(self._naming), where=where, for_all=self._for_all)
            self._naming = None
            if not self._for_all:
                self._size = int(records["size"]) if "size" in records else None
        if kind in REGULAR:
            # before POSIX.1, a folder was an empty file whose name ends with a slash
            self.files += kind != 0 or not block[:100].partition(b"\0")[0].endswith(b"/")
        elif kind not in b"5VxXgLK":
            self.others.append(block[:100].partition(b"\0")[0].decode("utf-8", "backslashreplace"))
        if kind in b"xXg":
            self._naming, self._for_all = bytearray(), kind == ord("g")
        elif kind not in NO_DATA and self._size is not None:
            size, self._size = self._size, None
        if size > _MAX_MEMBER:
            raise ShardError(
                f"{where}: the member at byte {start} has {size} bytes, but at most {_MAX_MEMBER} are accepted"
            )
        return size

    def finish(self) -> None:
        """Read the remaining bytes, and check that the tar ends with two zero blocks."""
        while self.read(1 << 20):
            pass
        if self._ends < 2 or self._held or self._offset < self._next:
            raise ShardError(
                f"shard {self._name} is cut off: it ends at byte {self._offset} without the end marker of a tar"
            )

    def close(self) -> None:
        self._file.close()
        super().close()

    def __repr__(self) -> str:
        return self._name  # webdataset uses it in messages


def _shuffled(samples: Iterator[Streamed], size: int, *, seed: int, epoch: int) -> Iterator[Streamed]:
    """Yield the samples in random order, by swapping each with a random sample of a buffer, keyed by (seed, epoch)."""
    held: list[Streamed] = []
    number = 0
    chunk: Numbers = np.empty(0, dtype=np.int64)
    for sample in samples:
        if len(held) < size:
            held.append(sample)
            continue
        draw = number % 4096
        if not draw:
            draws = keyed.bits(keyed.Stream.BUFFER, 4096, seed=seed, epoch=epoch, a=number // 4096)
            chunk = (draws % np.uint64(size)).astype(np.int64)
        number += 1
        chosen = int(chunk[draw])
        yield held[chosen]
        held[chosen] = sample
    for chosen in keyed.permutation(keyed.Stream.BUFFER, len(held), seed=seed, epoch=epoch, b=1).tolist():
        yield held[chosen]
