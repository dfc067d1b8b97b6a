"""A folder as the layouts see it: its images in the order of their paths, and what in it cannot be packed."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.listing import Bad
from mps_shards.shards.raw_sample import IMAGE_FIELDS

__all__ = ["SPLIT_NAMES", "Source", "check_names", "is_image", "read_classes"]

SPLIT_NAMES = frozenset(["train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"])
CLASS_LIST = "classes.txt"


@dataclass(slots=True, kw_only=True)
class Source:
    """One folder while it is listed. Hidden files are passed over, links followed.

    Attributes:
        by_name: keys will hold file extensions, so ``a.jpg`` may lie beside ``a.png``.
        skip_bad: go on after a file that cannot be packed.
        bad: what was passed over so.
        ignored: files met that were no images, by extension.
    """

    folder: Path
    by_name: bool = False
    skip_bad: bool = False
    bad: list[Bad] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    _folders: dict[str, list[str]] = field(default_factory=dict)  # every layout asks for the same few

    def names(self, folder: str = "") -> list[str]:
        """What lies in a folder, sorted; names of folders end with a slash, so that whole paths come sorted too.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            with os.scandir(self.folder / folder) as items:
                return sorted(f"{i.name}/" if i.is_dir() else i.name for i in items if not i.name.startswith("."))
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}") from error

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders right inside one, without the slash; none where there is no such folder."""
        if folder not in self._folders:
            names = self.names(folder) if (self.folder / folder).is_dir() else []
            self._folders[folder] = [name[:-1] for name in names if name.endswith("/")]
        return self._folders[folder]

    def files(self, start: str = "") -> Iterator[str]:
        """Paths of all files below a folder, sorted by code point; holds the names of the folders it is in.

        Args:
            start: the folder, with a slash at its end; "" is the source itself.
        """
        inside = [(start, iter(self.names(start)), frozenset([self._identity(start)]))]
        while inside:
            prefix, names, around = inside[-1]
            name = next(names, None)
            if name is None:
                inside.pop()
            elif not name.endswith("/"):
                yield prefix + name
            elif (this := self._identity(prefix + name)) not in around:  # else a link back to a folder it lies in
                inside.append((prefix + name, iter(self.names(prefix + name)), around | {this}))

    def images(self, start: str = "") -> Iterator[tuple[str, int]]:
        """Path and bytes of every image below a folder, sorted by path; counts the other files as ignored.

        Raises:
            DataError: an empty file, or two that would share a key.
        """
        return self.sized(self.image_paths(start))

    def image_paths(self, start: str = "") -> Iterator[str]:
        """Path of every image below a folder, sorted; counts the other files as ignored."""
        for path in self.files(start):
            if is_image(path):
                yield path
                continue
            name = posixpath.basename(path)
            stem, dot, extension = name.rpartition(".")
            self.ignored[dot + extension.lower() if stem else name] += 1

    def sized(self, paths: Iterable[str], *, named_by: str = "") -> Iterator[tuple[str, int]]:
        """Sorted paths of images, each with its bytes; see `images`, and `size`."""
        head = "\0"  # files that could share a key stand together: all up to the first dot is equal
        keys: dict[str, str] = {}
        before = None
        for path in paths:
            if path == before:
                raise DataError(f"{self.folder / path} is named twice in one split; remove one")
            before = path
            if not path.startswith(head):
                keys = {}
                folder, slash, name = path.rpartition("/")
                head = f"{folder}{slash}{name.partition('.')[0]}."
            stem = path.rpartition(".")[0]
            other = keys.setdefault(path if self.by_name else stem, path)
            if other != path:
                raise DataError(
                    f"{self.folder / other} and {self.folder / path} would share the key "
                    f"{posixpath.basename(stem)!r}; rename one, or keep extensions in keys (--keys name)"
                )
            size = self.size(path, named_by=named_by)
            if size:
                yield path, size

    def size(self, path: str, *, named_by: str = "") -> int:
        """Bytes of a file; 0 where it is empty or missing, and bad files are skipped.

        Args:
            named_by: what says that the file is there, for the message; "" if it was seen.
        """
        try:
            size = os.stat(f"{self.folder}/{path}").st_size
        except OSError as error:
            if named_by and isinstance(error, FileNotFoundError | NotADirectoryError):
                hint = "; paths need forward slashes" if "\\" in path else ""
                self.leave_out(path, f"{named_by}: there is no file {self.folder / path}{hint}")
                return 0
            raise StorageError(f"{error.filename}: {error.strerror}") from error
        if not size:
            self.leave_out(path, f"{self.folder / path} is empty (0 bytes); remove it or replace it")
        return size

    def inside(self, given: object, base: str = "", *, named_by: str) -> str:
        """Path of an image that a file names: relative to the source, with forward slashes, without detours.

        Args:
            base: folder that it is relative to, with a slash at its end; "" is the source itself.

        Raises:
            DataError: it is no text, no image by its name, or lies outside of the source.
        """
        if not isinstance(given, str) or not given or "\0" in given:
            raise DataError(f"{named_by}: {given!r} is no path of a file")
        if os.path.isabs(given):
            ways = (os.path.relpath(given, root) for root in (self.folder.absolute(), self.folder.resolve()))
            path = min(ways, key=len)  # the one without dots, if there is one
        else:
            path = posixpath.normpath(base + given)
        if path.startswith("../"):
            raise DataError(f"{named_by}: {given} lies outside of {self.folder}; pack a folder that holds all images")
        if not is_image(path):
            raise DataError(f"{named_by}: {given!r} is no image by its name (known: {', '.join(IMAGE_FIELDS)})")
        return path

    def leave_out(self, path: str, reason: str) -> None:
        """Note what cannot be packed, or raise it as a DataError."""
        if not self.skip_bad:
            raise DataError(reason)
        self.bad.append(Bad(path, reason))

    def holds_images(self, folder: str = "") -> bool:
        """Whether there is an image anywhere below a folder; "" is the source itself."""
        return any(is_image(path) for path in self.files(folder))

    def no_images(self) -> ConfigError:
        """The error of a source without any."""
        return ConfigError(f"no images found in {self.folder} (looked for {', '.join(IMAGE_FIELDS)})")

    def _identity(self, folder: str) -> tuple[int, int]:
        try:
            about = os.stat(self.folder / folder)
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}") from error
        return about.st_dev, about.st_ino


def is_image(path: str) -> bool:
    """Whether a file's extension is that of an image."""
    stem, _, extension = path.rpartition(".")
    return bool(stem) and extension.lower() in IMAGE_FIELDS


def check_names(names: Iterable[str]) -> None:
    """Classes and splits stand in the manifest, splits in file names too.

    Raises:
        DataError: bytes that are no UTF-8, or a backslash.
    """
    for name in names:
        if "\\" in name or name != name.encode("utf-8", "replace").decode():
            raise DataError(f"the folder name {name!r} cannot name a class or split; rename it")


def read_classes(folder: Path) -> tuple[str, ...]:
    """Class names from ``classes.txt`` in a folder, one a line; empty where there is no such file.

    Raises:
        DataError: no UTF-8, or a name that is missing or stands there twice.
    """
    path = folder / CLASS_LIST
    try:
        names = path.read_text("utf-8-sig").splitlines() if path.exists() else []
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}; save it as UTF-8") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    classes = tuple(name.strip() for name in names)
    for number, name in enumerate(classes):
        if not name or name in classes[:number]:
            raise DataError(f"{path}:{number + 1}: {'an empty line' if not name else f'{name!r} stands there twice'}")
    return classes
