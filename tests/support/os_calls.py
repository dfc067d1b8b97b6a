"""Observation of the system calls of this process about files below a folder.

Files are opened so that each `read` and `write` of the system is observed, with the sizes of Python's buffers and not
those of the program: after a short write, Python itself must continue.
"""

import builtins
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

__all__ = ["Call", "Observer", "observing"]

# Functions that are looked up at every call, so that replacing them is enough.
_ABOUT_PATHS = ("listdir", "lstat", "mkdir", "readlink", "rmdir", "scandir", "stat", "truncate", "unlink", "utime")
_ABOUT_TWO = ("link", "rename", "replace", "symlink")
_ABOUT_DESCRIPTORS = ("fstat", "fsync", "ftruncate", "posix_fadvise", "pread", "pwrite", "read", "write")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call.

    Attributes:
        path: path by which the file was opened, or the old path of a file that is renamed.
        target: new path of a file that is renamed or linked.
        descriptor: descriptor of the open file; -1 if the call has none.
        content: bytes that are written.
        offset: offset of the content in the file.
        is_new: whether opening made or emptied the file.
    """

    name: str
    path: str
    target: str = ""
    descriptor: int = -1
    content: bytes = b""
    offset: int = 0
    is_new: bool = False

    @property
    def transfers(self) -> bool:
        """Whether the call transfers bytes, perhaps fewer than requested."""
        return self.name in ("pread", "pwrite", "read", "write")

    def __str__(self) -> str:
        return f"{self.name} {self.path}{' -> ' * bool(self.target)}{self.target}"


class Observer(Protocol):
    """Contract of an observer of system calls."""

    def before(self, call: Call) -> bool:
        """Handle a call before it is made; may raise instead. Return whether to transfer only half of the bytes."""
        ...

    def after(self, call: Call) -> None:
        """Handle a call after it has succeeded."""
        ...


@contextmanager
def observing(folder: Path, observer: Observer) -> Iterator[None]:
    """Pass the calls of any thread about files below a folder to an observer."""
    watch = _Watch(str(folder), observer)
    with ExitStack() as patches:
        for name in _ABOUT_PATHS:
            patches.enter_context(patch.object(os, name, watch.about_path(name, getattr(os, name))))
        for name in _ABOUT_TWO:
            patches.enter_context(patch.object(os, name, watch.about_two(name, getattr(os, name))))
        for name in _ABOUT_DESCRIPTORS:
            if hasattr(os, name):
                patches.enter_context(patch.object(os, name, watch.about_descriptor(name, getattr(os, name))))
        if hasattr(fcntl, "F_FULLFSYNC"):  # the fsync of macOS that reaches the disk
            patches.enter_context(patch.object(fcntl, "fcntl", watch.controlled(fcntl.fcntl)))
        patches.enter_context(patch.object(os, "open", watch.opened(os.open)))
        patches.enter_context(patch.object(os, "close", watch.closed(os.close)))
        opened = watch.file_opened(builtins.open)
        patches.enter_context(patch.object(builtins, "open", opened))
        patches.enter_context(patch.object(io, "open", opened))
        yield


class _Watch:
    """Replacements for the functions of `os`, and for `open`."""

    def __init__(self, below: str, observer: Observer):
        self._below, self.observer = below, observer
        self._paths: dict[int, str] = {}  # by open descriptor

    def path_of(self, given: Any, folder: int | None = None) -> str | None:
        """Return the absolute path of a call's file; None if the file is not below the folder."""
        if isinstance(given, int):
            return self._paths.get(given)
        path = os.fsdecode(given)
        if folder is not None and not os.path.isabs(path):
            parent = self._paths.get(folder)
            path = path if parent is None else os.path.join(parent, path)
        path = os.path.abspath(path)
        return path if path == self._below or path.startswith(self._below + os.sep) else None

    def about_path(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            place = self.path_of(path, options.get("dir_fd"))
            if place is None:
                return call(path, *arguments, **options)
            return self._made(Call(name, place), lambda: call(path, *arguments, **options))

        return watched

    def about_two(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(source: Any, target: Any, *arguments: Any, **options: Any) -> Any:
            one, other = self.path_of(source), self.path_of(target)
            if one is None and other is None:
                return call(source, target, *arguments, **options)
            seen = Call(name, one or os.fsdecode(source), other or os.fsdecode(target))
            return self._made(seen, lambda: call(source, target, *arguments, **options))

        return watched

    def about_descriptor(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(descriptor: Any, *arguments: Any) -> Any:
            path = self._paths.get(descriptor) if isinstance(descriptor, int) else None
            if path is None:
                return call(descriptor, *arguments)
            return self._about_open_file(name, path, descriptor, call, arguments)

        return watched

    def controlled(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(descriptor: Any, command: int, *arguments: Any) -> Any:
            path = self._paths.get(descriptor) if isinstance(descriptor, int) else None
            if path is None or command != getattr(fcntl, "F_FULLFSYNC", None):
                return call(descriptor, command, *arguments)
            return self._made(Call("fsync", path, descriptor=descriptor), lambda: call(descriptor, command, *arguments))

        return watched

    def _about_open_file(
        self, name: str, path: str, descriptor: int, call: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        if name in ("write", "pwrite"):
            content = bytes(arguments[0])
            offset = arguments[1] if name == "pwrite" else end_of(descriptor)
            seen = Call(name, path, descriptor=descriptor, content=content, offset=offset)
            return self.written(seen, lambda part: call(descriptor, part, *arguments[1:]))
        seen = Call(name, path, descriptor=descriptor, offset=arguments[0] if name == "ftruncate" else 0)
        is_half = self.observer.before(seen)
        if is_half and name in ("pread", "read"):
            arguments = (max(1, arguments[0] // 2), *arguments[1:])
        found = call(descriptor, *arguments)
        self.observer.after(seen)
        return found

    def opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            place = self.path_of(path, dir_fd)
            if place is None:
                return int(call(path, flags, mode, dir_fd=dir_fd))
            is_nameless = bool(flags & getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY)
            is_new = bool(flags & (os.O_CREAT | os.O_TRUNC)) and not is_nameless
            if is_new and not flags & os.O_TRUNC and exists(place):
                is_new = False
            seen = Call("open", f"{place}/(nameless)" if is_nameless else place, is_new=is_new)
            self.observer.before(seen)
            descriptor = int(call(path, flags, mode, dir_fd=dir_fd))
            self._paths[descriptor] = seen.path
            self.observer.after(_with_descriptor(seen, descriptor))
            return descriptor

        return watched

    def closed(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def watched(descriptor: int) -> None:
            self._paths.pop(descriptor, None)
            call(descriptor)

        return watched

    def file_opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(file: Any, mode: str = "r", buffering: int = -1, *texts: Any, **options: Any) -> Any:
            place = None if isinstance(file, int) else self.path_of(file)
            if place is None:
                return call(file, mode, buffering, *texts, **options)
            raw_mode = mode.replace("b", "").replace("t", "")
            raw = _File(self, place, file, raw_mode, options.pop("opener", None))
            if buffering == 0:
                return raw
            kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
            size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
            buffered = kind(raw, size)
            if "b" in mode:
                return buffered
            options.pop("closefd", None)
            return io.TextIOWrapper(buffered, *texts, **options)

        return watched

    def named(self, descriptor: int, path: str) -> None:
        self._paths[descriptor] = path

    def forgotten(self, descriptor: int) -> None:
        self._paths.pop(descriptor, None)

    def name_of(self, descriptor: int) -> str | None:
        return self._paths.get(descriptor)

    def _made(self, seen: Call, call: Callable[[], Any]) -> Any:
        self.observer.before(seen)
        found = call()
        self.observer.after(seen)
        return found

    def written(self, seen: Call, write: Callable[[bytes], int | None]) -> int:
        """Write the content of a call, or half of it if the observer says so."""
        half = seen.content[: len(seen.content) // 2]
        try:
            is_half = self.observer.before(seen)
        except OSError:
            write(half)
            raise
        count = write(half or seen.content if is_half else seen.content) or 0
        self.observer.after(Call(seen.name, seen.path, "", seen.descriptor, seen.content[:count], seen.offset))
        return count


class _File(io.FileIO):
    """A raw file whose reads and writes are observed."""

    def __init__(self, watch: _Watch, path: str, given: Any, mode: str, opener: Any):
        self._watch, self._path = watch, path
        self._descriptor = -1
        seen = Call("open", path, is_new="w" in mode or ("r" not in mode and not exists(path)))
        if opener is None:
            watch.observer.before(seen)
            super().__init__(given, mode)
            self._descriptor = self.fileno()
            watch.named(self._descriptor, path)
            watch.observer.after(_with_descriptor(seen, self._descriptor))
        else:  # calls os.open, which is observed
            super().__init__(given, mode, opener=opener)
            self._descriptor = self.fileno()
            self._path = watch.name_of(self._descriptor) or path
            watch.named(self._descriptor, self._path)

    def write(self, content: Any) -> int:
        offset = end_of(self._descriptor) if "a" in self.mode else self.tell()
        seen = Call("write", self._path, descriptor=self._descriptor, content=bytes(content), offset=offset)
        return self._watch.written(seen, super().write)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        return super().readinto(view[: max(1, len(view) // 2)] if self._reads_half() else view) or 0

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        return super().read(max(1, size // 2) if self._reads_half() else size) or b""

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def truncate(self, size: int | None = None) -> int:
        seen = Call("ftruncate", self._path, descriptor=self._descriptor, offset=self.tell() if size is None else size)
        self._watch.observer.before(seen)
        found = super().truncate(size)
        self._watch.observer.after(seen)
        return found

    def close(self) -> None:
        if not self.closed:
            self._watch.forgotten(self._descriptor)
        super().close()

    def _reads_half(self) -> bool:
        return self._watch.observer.before(Call("read", self._path, descriptor=self._descriptor))


_stat, _fstat = os.stat, os.fstat


def exists(path: str) -> bool:
    """Whether the file exists; this check is not observed."""
    try:
        _stat(path)
    except OSError:
        return False
    return True


def end_of(descriptor: int) -> int:
    """Return the size of an open file; this check is not observed."""
    found = _fstat(descriptor)
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _with_descriptor(seen: Call, descriptor: int) -> Call:
    return Call(seen.name, seen.path, descriptor=descriptor, is_new=seen.is_new)
