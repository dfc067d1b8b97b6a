"""Zip and tar archives that are read like unpacked folders; nothing is written to disk.

An archive inside an archive is read as a folder. ImageNet's training images, for example, are tars in a tar.
"""

import io
import threading
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mps_shards.errors import ConfigError, StorageError
from mps_shards.packing.sources.archive_members import ArchiveMembers, Member
from mps_shards.packing.sources.file_tree import is_image
from mps_shards.packing.sources.files import Content, file_stamp
from mps_shards.packing.sources.foreign_content import named_content
from mps_shards.packing.sources.source import Stamp
from mps_shards.packing.sources.tar_archive import GzipBytes, tar_members
from mps_shards.packing.sources.zip_archive import ZipArchive
from mps_shards.shards.tar import BLOCK
from mps_shards.storage.local_disk import local_file
from mps_shards.storage.range_reader import RangeReader

__all__ = ["ARCHIVE_SUFFIXES", "ArchiveFiles", "archive_stem", "is_archive"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_UNREAD = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!": "RAR",
}
_NESTED = (".zip", ".tar")
_ZIP_BITS = 44  # a place holds the number of the zip above these bits, and an offset of up to 16 TiB below them
_ENDING = 4096  # bytes at the end of an image that are compared before whole images


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its name or its first bytes, even if the archive cannot be read."""
    if not path.is_file():
        return False
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        return True
    with local_file(path).open_stream() as file:
        head = file.read(8)
    return head.startswith((b"PK\3\4", *_UNREAD))


def archive_stem(path: Path) -> str:
    """Return the name of an archive without its suffix: ``imgs.tar.gz`` -> ``imgs``."""
    suffix = next((each for each in sorted(ARCHIVE_SUFFIXES, key=len)[::-1] if path.name.lower().endswith(each)), "")
    return path.name[: len(path.name) - len(suffix)] or path.name


class ArchiveFiles:
    """The files of a local archive, which is listed on first use, once in each process."""

    def __init__(self, path: Path):
        self._path = path
        self._reset()

    def _reset(self) -> None:
        self._reader = RangeReader()
        self._lock = threading.Lock()
        self._members: ArchiveMembers | None = None
        self._read: Callable[[int, int], bytes] = self._from_disk
        self._zips: list[ZipArchive] = []
        self._packed_inside = ""  # an archive that is stored compressed inside this one
        self._has_images = False
        self._endings = _Endings()

    @property
    def name(self) -> str:
        return str(self._path)

    def names(self, folder: str = "") -> list[str]:
        return self._listed().names(folder)

    def is_folder(self, path: str) -> bool:
        return self._listed().has_folder(path)

    def is_file(self, path: str) -> bool:
        return self._listed().find(path) is not None

    def size(self, path: str) -> int:
        return self._found(path)[0]

    def read(self, path: str) -> bytes:
        try:
            size, place = self._found(path)
        except FileNotFoundError as error:
            raise StorageError(f"cannot read {self.name}/{path}: there is no such member") from error
        if self._zips and place >= 1 << _ZIP_BITS:
            return self._zip_of(place).read(place & (1 << _ZIP_BITS) - 1)
        content = self._read(place, place + size)
        if len(content) != size:
            raise StorageError(f"{self.name} ends inside {path}; make or download the archive again")
        return content

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))

    def mapped(self, path: str) -> Content:
        return self.read(path)

    def ending(self, path: str, size: int) -> bytes:
        """Return a checksum, which a zip states and which is computed when a gzip is listed, or the last bytes."""
        size, place = self._found(path)
        if self._zips and place >= 1 << _ZIP_BITS:
            return self._zip_of(place).checksum(place & (1 << _ZIP_BITS) - 1)
        if noted := self._endings.find(place):
            return noted
        return self._read(place + max(0, size - _ENDING), place + size)

    def stamp(self, paths: Iterable[str]) -> Stamp:
        """Return a stamp of the whole archive, which is replaced rather than changed."""
        return file_stamp(self._path, *paths)

    def identity(self, folder: str) -> str:
        return folder.rstrip("/")

    def relative(self, absolute: str) -> str:
        """Return a path outside of the root, since an archive holds no absolute paths."""
        return f"../{absolute}"

    def _from_disk(self, start: int, stop: int) -> bytes:
        return self._reader.read(str(self._path), start, max(0, min(stop, self._size) - start))

    def _found(self, path: str) -> tuple[int, int]:
        found = self._listed().find(path)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def _listed(self) -> ArchiveMembers:
        if self._members is None:
            with self._lock:
                if self._members is None:
                    self._members = self._list()
        return self._members

    def _list(self) -> ArchiveMembers:
        self._size = local_file(self._path).size()
        head = self._from_disk(0, 512)
        if kind := next((kind for start, kind in _UNREAD.items() if head.startswith(start)), None):
            raise ConfigError(f"{self._path} is a {kind} archive, whose files cannot be read singly; unpack it")
        if not self._size:
            raise ConfigError(f"{self._path} is empty (0 bytes); download it again")
        if found := named_content(head):
            raise ConfigError(f"{self._path} is {found.what}, not an archive: {found.remedy}")
        if self._size < BLOCK and not head.startswith((b"PK", b"\x1f\x8b")):
            raise ConfigError(f"{self._path} is neither a zip nor a tar archive: it begins with {head[:8]!r}")
        if head.startswith(b"PK"):
            members = ArchiveMembers(self._watched(self._zip(0, self._size)))
        elif head.startswith(b"\x1f\x8b"):
            self._read = GzipBytes(self._from_disk, self._size, where=self.name).read
            members = ArchiveMembers(self._watched(self._tar(0, 1 << 62)))
        else:
            members = ArchiveMembers(self._watched(self._tar(0, self._size)))
        if members.folder_links:
            link, folder = members.folder_links[0]
            raise ConfigError(
                f"{self._path}: {link} is a link to the folder {folder}, which is not followed inside of an archive; "
                "unpack the archive, and pack the folder"
            )
        if self._packed_inside and not self._has_images:
            raise ConfigError(
                f"{self._path} holds no images, only {self._packed_inside}, which is compressed and so cannot be "
                f"read inside another archive; unpack {self._path.name} and pack its content"
            )
        return members

    def _watched(self, members: Iterator[Member]) -> Iterator[Member]:
        for member in members:
            self._has_images = self._has_images or is_image(member.path)
            yield member

    def _tar(self, start: int, stop: int, prefix: str = "") -> Iterator[Member]:
        for member in tar_members(self._bytes, start, stop, where=f"{self.name}/{prefix}".removesuffix("/")):
            link = prefix + member.link if member.link else ""
            yield from self._opened(member._replace(path=prefix + member.path, link=link), member.place)

    def _zip(self, start: int, stop: int, prefix: str = "") -> Iterator[Member]:
        number = len(self._zips) + 1
        archive = ZipArchive(self._bytes, start, stop, where=f"{self.name}/{prefix}".removesuffix("/"))
        self._zips.append(archive)
        for member in archive.members():
            place = archive.stored(member.place) if member.path.lower().endswith(_NESTED) else None
            path = prefix + member.path
            inner = member._replace(path=path, place=number << _ZIP_BITS | member.place)
            if place is None and path.lower().endswith(_NESTED):
                self._packed_inside = self._packed_inside or path
            yield from self._opened(inner, -1 if place is None else place[0])

    def _opened(self, member: Member, start: int) -> Iterator[Member]:
        """Yield a member, or its own members if it is an uncompressed archive.

        Args:
            start: offset of the member's bytes; -1 if they are compressed.
        """
        suffix = member.path.lower()[-4:]
        if start < 0 or suffix not in _NESTED or not member.size:
            if (
                self._read != self._from_disk and member.place == start
            ):  # now, because reading it later would decompress it again
                stop = start + member.size
                self._endings.note(start, self._read(max(start, stop - _ENDING), stop))
            yield member
        elif suffix == ".tar":
            yield from self._tar(start, start + member.size, f"{member.path[:-4]}/")
        else:
            yield from self._zip(start, start + member.size, f"{member.path[:-4]}/")

    def _bytes(self, start: int, stop: int) -> bytes:
        """Return bytes of the tar or zip, decompressed if the whole archive is compressed; zeros after the end."""
        content = self._read(start, stop)
        return content if content or self._read == self._from_disk else bytes(stop - start)

    def _zip_of(self, place: int) -> ZipArchive:
        return self._zips[(place >> _ZIP_BITS) - 1]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state["path"]
        self._reset()


class _Endings:
    """Checksums of the last bytes of members, by the places of the members: 16 bytes for each member."""

    def __init__(self) -> None:
        self._places, self._checksums = array("q"), array("L")

    def note(self, place: int, ending: bytes) -> None:
        """Keep the checksum of a member, whose place is after those of all earlier members."""
        self._places.append(place)
        self._checksums.append(zlib.crc32(ending))

    def find(self, place: int) -> bytes:
        """Return the checksum of a member; b"" if none was kept."""
        at = bisect_left(self._places, place)
        is_noted = at < len(self._places) and self._places[at] == place
        return self._checksums[at].to_bytes(4, "big") if is_noted else b""
