"""The members of an archive as folders and files, in columns that take about 70 bytes for each member."""

import posixpath
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mps_shards.errors import DataError
from mps_shards.packing.sources.files import is_shown

__all__ = ["ArchiveMembers", "Member", "clean_path"]

_MAC_METADATA = "__MACOSX"  # macOS's copies of extended attributes, one for each file, under the same extension


class Member(NamedTuple):
    """One file of an archive.

    Attributes:
        path: path of the member, cleaned by `clean_path`.
        size: bytes of the file when it is unpacked.
        place: position by which the archive finds the file again.
        link: path of the member that this one is a link to; "" for a file.
    """

    path: str
    size: int
    place: int
    link: str = ""


def clean_path(name: str, *, where: str) -> str:
    """Return the path of a member: relative, with forward slashes, without empty parts and dots.

    Raises:
        DataError: the name points outside the archive, or contains a null character.
    """
    if "\0" in name:
        raise DataError(f"{where}: the name of the member {name!r} contains a null character; make the archive again")
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DataError(
            f"{where}: the member {name!r} points outside the archive, which may be an attack; remove that member"
        )
    return "/".join(parts)


class ArchiveMembers:
    """The members of an archive by their paths. The last of several members with one path counts, as in ``tar -x``.

    Attributes:
        folder_links: links to folders, which are not followed, with the folders that they lead to.
    """

    def __init__(self, members: Iterable[Member]):
        self._folders = {"": 0}
        self._inside: dict[str, list[str]] = defaultdict(list)
        self._names, self._ends = bytearray(), array("Q", [0])
        self._sizes, self._places, self._hashes, self._parents = array("Q"), array("q"), array("q"), array("L")
        links: list[Member] = []
        for member in members:
            if member.path.partition("/")[0] == _MAC_METADATA:
                continue
            if member.link:
                links.append(member)
            else:
                self._add(member.path, member.size, member.place)
        self.folder_links: list[tuple[str, str]] = []
        self._sort()
        self._follow(links)

    def __len__(self) -> int:
        return len(self._sizes)

    def has_folder(self, path: str) -> bool:
        """Whether there is a folder of this path."""
        return path.rstrip("/") in self._folders

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; names of folders end with a slash, and hidden names are left out."""
        folder = folder.rstrip("/")
        number = self._folders[folder]
        start, stop = np.searchsorted(self._sorted_parents, [number, number + 1])
        files = {self._name(member) for member in self._by_parent[start:stop].tolist()}
        return sorted(name for name in [*files, *self._inside.get(folder, ())] if is_shown(name.removesuffix("/")))

    def find(self, path: str) -> tuple[int, int] | None:
        """Size and place of a file; None if there is none."""
        wanted = hash(path)
        at = bisect_right(self._sorted_hashes, wanted) - 1  # Python's array is four times as fast as NumPy's
        if at < 0 or self._sorted_hashes[at] != wanted:
            return None
        member = self._by_hash[at]
        size, place = self._sizes[member], self._places[member]
        return None if place < 0 else (size, place)

    def _add(self, path: str, size: int, place: int) -> None:
        folder, _, name = path.rpartition("/")
        self._parents.append(self._folder(folder))
        self._names += name.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._names))
        self._sizes.append(size)
        self._places.append(place)
        self._hashes.append(hash(path))  # 64 bits, with a random key per process: no two paths share a hash

    def _folder(self, path: str) -> int:
        number = self._folders.get(path)
        if number is None:
            parent, name = posixpath.split(path)
            self._folder(parent)
            self._inside[parent].append(f"{name}/")
            number = self._folders[path] = len(self._folders)
        return number

    def _name(self, member: int) -> str:
        return self._names[self._ends[member] : self._ends[member + 1]].decode("utf-8", "surrogateescape")

    def _sort(self) -> None:
        hashes, parents = np.asarray(self._hashes), np.asarray(self._parents)
        order = np.argsort(hashes, kind="stable")
        self._by_hash, self._sorted_hashes = (
            array("L", order.astype("L").tobytes()),
            array("q", hashes[order].tobytes()),
        )
        self._by_parent: npt.NDArray[np.intp] = np.argsort(parents, kind="stable")
        self._sorted_parents = parents[self._by_parent]

    def _follow(self, links: list[Member]) -> None:
        """Add links as the files that they point to. A broken link is left out, so its file is reported as missing."""
        targets = {link.path: link.link for link in links}
        found = []
        for link in links:
            path, steps = link.link, 0
            while path in targets and steps < 40:  # the limit of Linux, which also ends circular links
                path, steps = targets[path], steps + 1
            if path and self.has_folder(path):
                self.folder_links.append((link.path, path))
            found.append((link.path, self.find(path) or (0, -1)))
        for path, (size, place) in found:
            self._add(path, size, place)
        if found:
            self._sort()
