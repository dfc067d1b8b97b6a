"""Simulation of power cuts: the changes of a program are recorded, and replayed with possible losses.

The model is that of ALICE (Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting
Crash-Consistent Applications", OSDI 2014, https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai)
and of POSIX, whose `fsync` promises the data of one file, or the names in one folder, and nothing else:

- Data that was written to a file after its last fsync may be complete, missing, cut off, or zeros of the right length.
- A name that was made, replaced or removed after the last fsync of its folder may have any state since that fsync,
  independently of other names and of the order of the changes. So a synced file cannot be found
  if its name is lost, or that of a folder above it, and a file that was renamed before its fsync may be empty.
- A rename does not lose the file: if the old name is gone, the new one is there. Within one folder, the old one is gone
  if the new one is there, too. Every file system with a journal does as much; FAT does not. But an fsync of the old
  folder of two may keep the removal alone: the new name may then be lost until the new folder is synced.

A disk that says that it has stored what it has not is beyond this model.
"""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

from tests.support.os_calls import Call, observing

__all__ = ["Recording", "State", "recording", "states"]

# Possible states of data that was not synced.
Data = Literal["kept", "missing", "cut off", "zeros"]
_LOSSES: tuple[Data, ...] = ("missing", "cut off", "zeros")
_COMBINATIONS = 6  # number of random combinations after each change


class Change(NamedTuple):
    """A change of a disk. Files and folders are numbered, since they keep their data when they are renamed.

    Attributes:
        kind: "file" and "folder" make a new one, "name" gives a further name to a file.
        node: the file or folder concerned.
        folder, name: the name that is made, replaced or removed.
        old_folder, old_name: the name that it had before, where it is renamed.
        content, offset: what is written, and where; the offset is the new size where a file is cut or extended.
    """

    kind: Literal["file", "folder", "name", "remove", "rename", "write", "resize", "sync"]
    node: int
    folder: int = -1
    name: str = ""
    old_folder: int = -1
    old_name: str = ""
    content: bytes = b""
    offset: int = 0


@dataclass
class _File:
    """A file: its bytes at the last fsync, its present bytes, and the present bytes with zeros for later writes."""

    synced: bytes = b""
    now: bytearray = field(default_factory=bytearray)
    zeroed: bytearray = field(default_factory=bytearray)
    modified_ns: int | None = None  # time of a file that the program does not write

    def write(self, content: bytes, offset: int) -> None:
        self.modified_ns = None
        for held, new in ((self.now, content), (self.zeroed, bytes(len(content)))):
            held.extend(bytes(max(0, offset - len(held))))
            held[offset : offset + len(new)] = new

    def resize(self, size: int) -> None:
        self.modified_ns = None
        for held in (self.now, self.zeroed):
            held.extend(bytes(max(0, size - len(held))))
            del held[size:]

    def sync(self) -> None:
        self.synced = bytes(self.now)
        self.zeroed = bytearray(self.now)

    def after(self, data: Data) -> bytes:
        if data == "missing":
            return self.synced
        if data == "cut off":
            return bytes(self.now[: (len(self.synced) + len(self.now)) // 2])
        return bytes(self.zeroed if data == "zeros" else self.now)


class _Named(NamedTuple):
    """File or folder of a name from some change on; None for nothing."""

    since: int
    node: int | None


class _Rename(NamedTuple):
    since: int
    old: tuple[int, str]
    new: tuple[int, str]


class State(NamedTuple):
    """State of a disk after a power cut.

    Attributes:
        files: contents by relative path; None for a folder.
        modified_ns: times of those files that the program did not write.
        changes: number of changes before the cut.
        lost: what was lost, in words.
    """

    files: dict[str, bytes | None]
    modified_ns: dict[str, int]
    changes: int
    lost: str

    @property
    def digest(self) -> bytes:
        """Return a value that is equal for equal files."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).digest()

    def write(self, folder: Path) -> None:
        """Write these files to an empty folder."""
        for name, content in sorted(self.files.items()):  # folders come before what is in them
            path = folder / name
            if content is None:
                path.mkdir()
                continue
            path.write_bytes(content)
            if name in self.modified_ns:
                os.utime(path, ns=(self.modified_ns[name],) * 2)


# Something that may be lost: the data of a file, or one name in a folder.
_Item = int | tuple[int, str]
_Choices = dict[_Item, Data | int]  # for a name, the number of the last change to it that is on the disk

_ROOT = 0


class _Disk:
    """Files and folders below one folder: synced data, and data that may be lost."""

    def __init__(self, root: Path):
        self._files: dict[int, _File] = {}
        self._folders: dict[int, dict[str, list[_Named]]] = {}
        self._renames: list[_Rename] = []
        self._changes = 0
        self._read(root, _ROOT)

    def _read(self, path: Path, node: int) -> None:
        names = self._folders[node] = {}
        for each in sorted(path.iterdir()):
            number = self.nodes
            names[each.name] = [_Named(0, number)]
            if each.is_dir():
                self._read(each, number)
            else:
                content = each.read_bytes()
                modified_ns = each.stat().st_mtime_ns
                self._files[number] = _File(content, bytearray(content), bytearray(content), modified_ns)

    @property
    def nodes(self) -> int:
        """Number of all present and former files and folders; their own numbers are smaller."""
        return len(self._files) + len(self._folders)

    def node_at(self, parts: tuple[str, ...]) -> int | None:
        """Return the file or folder of a path."""
        node: int | None = _ROOT
        for part in parts:
            names = self._folders.get(_ROOT if node is None else node, {})
            node = names[part][-1].node if part in names else None
            if node is None:
                return None
        return node

    def apply(self, change: Change) -> None:
        """Apply a change to the simulated disk."""
        self._changes += 1
        if change.kind == "file":
            self._files[change.node] = _File()
        elif change.kind == "folder":
            self._folders[change.node] = {}
        if change.name:
            self._name(change.folder, change.name, None if change.kind == "remove" else change.node)
        if change.kind == "rename":
            old = (change.old_folder, change.old_name)
            self._name(*old, None)
            self._renames.append(_Rename(self._changes, old, (change.folder, change.name)))
        elif change.kind == "write":
            self._files[change.node].write(change.content, change.offset)
        elif change.kind == "resize":
            self._files[change.node].resize(change.offset)
        elif change.kind == "sync":
            self._sync(change.node)

    def _name(self, folder: int, name: str, node: int | None) -> None:
        self._folders[folder].setdefault(name, [_Named(0, None)]).append(_Named(self._changes, node))

    def _sync(self, node: int) -> None:
        if node in self._files:
            self._files[node].sync()
            return
        for history in self._folders[node].values():
            del history[:-1]

    def unsynced(self) -> dict[_Item, list[Data] | list[int]]:
        """Return the items that may be lost, each with its possible states from the present to the oldest."""
        found: dict[_Item, list[Data] | list[int]] = {}
        waiting, seen = [_ROOT], {_ROOT}
        while waiting:
            node = waiting.pop()
            if node in self._files:
                file = self._files[node]
                if file.now != file.synced:
                    found[node] = ["kept", "zeros", "cut off", "missing"]
                continue
            for name, history in self._folders[node].items():
                if len(history) > 1:
                    found[node, name] = [named.since for named in reversed(history)]
                nodes = {named.node for named in history if named.node is not None} - seen
                seen |= nodes
                waiting += nodes
        return found

    def state(self, choices: _Choices) -> State:
        """Return the content of the disk for these states of items; all other items are kept."""
        chosen = dict(choices)
        for since, old, new in self._renames:
            is_gone, is_there = self._is_since(old, chosen, since), self._is_since(new, chosen, since)
            if is_gone and not is_there and self._folders[old[0]][old[1]][0].since < since:  # the removal is not synced
                chosen[new] = since
            elif is_there and not is_gone and old[0] == new[0]:
                chosen[old] = since
        files: dict[str, bytes | None] = {}
        times: dict[str, int] = {}
        self._collect(_ROOT, "", chosen, files, times)
        lost = [self._in_words(item, choice) for item, choice in chosen.items()]
        return State(files, times, self._changes, ", ".join(lost) or "nothing")

    def _is_since(self, item: tuple[int, str], chosen: _Choices, since: int) -> bool:
        """Whether a change of a name, or a later one, is on the disk."""
        newest = self._folders[item[0]][item[1]][-1].since
        choice = chosen.get(item, newest)
        assert isinstance(choice, int)
        return choice >= since

    def _collect(
        self, folder: int, path: str, chosen: _Choices, files: dict[str, bytes | None], times: dict[str, int]
    ) -> None:
        for name, history in self._folders[folder].items():
            choice = chosen.get((folder, name), history[-1].since)
            assert isinstance(choice, int)
            node = next(named.node for named in reversed(history) if named.since <= choice or named is history[0])
            if node is None:
                continue
            where = f"{path}/{name}" if path else name
            if node in self._folders:
                files[where] = None
                self._collect(node, where, chosen, files, times)
                continue
            data = chosen.get(node, "kept")
            assert not isinstance(data, int)
            files[where] = self._files[node].after(data)
            if (modified_ns := self._files[node].modified_ns) is not None:
                times[where] = modified_ns

    def _in_words(self, item: _Item, choice: Data | int) -> str:
        if isinstance(item, tuple):
            return f"the name {item[1]} is that of change {choice}"
        return f"the data of {self._name_of(item)} is {choice}"

    def _name_of(self, node: int) -> str:
        names = (
            name
            for folder in self._folders.values()
            for name, held in folder.items()
            for each in held
            if each.node == node
        )
        return next(names, "a file without a name")


class Recording:
    """Observer that records the changes that a program makes below a folder."""

    def __init__(self, root: Path):
        self._root, self._now = root, _Disk(root)
        self.at_first = _Disk(root)
        self.changes: list[Change] = []
        self._open: dict[int, int] = {}  # number of the file or folder by descriptor
        self._lock = Lock()

    def before(self, call: Call) -> bool:
        """See `Observer`."""
        return False

    def after(self, call: Call) -> None:
        """See `Observer`."""
        with self._lock:
            for change in self._changes_of(call):
                self._now.apply(change)
                self.changes.append(change)

    def _changes_of(self, call: Call) -> Iterator[Change]:
        if call.name == "open":
            yield from self._opened(call)
        elif call.name == "mkdir":
            yield Change("folder", self._now.nodes, *self._place(call.path))
        elif call.name in ("unlink", "rmdir"):
            yield Change("remove", self._node(call.path), *self._place(call.path))
        elif call.name in ("rename", "replace"):
            yield Change("rename", self._node(call.path), *self._place(call.target), *self._place(call.path))
        elif call.name == "link":
            yield Change("name", self._node(call.path), *self._place(call.target))
        elif call.name in ("write", "pwrite"):
            yield Change("write", self._open[call.descriptor], content=call.content, offset=call.offset)
        elif call.name == "ftruncate":
            yield Change("resize", self._open[call.descriptor], offset=call.offset)
        elif call.name == "fsync":
            yield Change("sync", self._open[call.descriptor])
        else:
            assert call.name not in ("symlink", "truncate"), f"the model has no {call}"

    def _opened(self, call: Call) -> Iterator[Change]:
        node = self._now.node_at(self._parts(call.path))
        if node is None:
            node = self._now.nodes
            is_nameless = call.path.endswith("/(nameless)")
            yield Change("file", node, *(() if is_nameless else self._place(call.path)))
        elif call.is_new:
            yield Change("resize", node)
        self._open[call.descriptor] = node

    def _parts(self, path: str) -> tuple[str, ...]:
        return Path(path).relative_to(self._root).parts

    def _place(self, path: str) -> tuple[int, str]:
        *parents, name = self._parts(path)
        folder = self._now.node_at(tuple(parents))
        assert folder is not None, f"{path} lies in no folder"
        return folder, name

    def _node(self, path: str) -> int:
        node = self._now.node_at(self._parts(path))
        assert node is not None, f"nothing is at {path}"
        return node


@contextmanager
def recording(folder: Path) -> Iterator[Recording]:
    """Record the changes of this process below a folder."""
    recorded = Recording(folder)
    with observing(folder, recorded):
        yield recorded


def states(recorded: Recording, *, after: int = 0, first: int = 0, every: int = 1) -> Iterator[State]:
    """Yield possible states of the disk after a power cut.

    There are too many combinations, so only some are yielded: nothing is lost, everything is lost, only one item is
    lost, all items but one are lost, and some random combinations.

    Args:
        after: number of changes after which the power is cut, or later.
        first: number of the first state.
        every: only each such state is yielded after it.
    """
    disk, random_choices, number = deepcopy(recorded.at_first), random.Random(0), 0
    for changes in range(len(recorded.changes) + 1):
        if changes:
            disk.apply(recorded.changes[changes - 1])
        if changes >= after:
            for choices in _choices(disk.unsynced(), random_choices):
                if number >= first and (number - first) % every == 0:
                    yield disk.state(choices)
                number += 1


def _choices(unsynced: dict[_Item, list[Data] | list[int]], randomly: random.Random) -> Iterator[_Choices]:
    yield {}
    if not unsynced:
        return
    everything: _Choices = {item: kinds[-1] for item, kinds in unsynced.items()}
    for loss in _LOSSES:
        yield {**everything, **{item: loss for item in unsynced if isinstance(item, int)}}
        yield {item: loss for item in unsynced if isinstance(item, int)}
    for item, kinds in unsynced.items():
        for kind in kinds[1:]:
            yield {item: kind}
        yield {**everything, item: kinds[0]}
    for _ in range(_COMBINATIONS):
        yield {item: randomly.choice(kinds) for item, kinds in unsynced.items()}
