"""The files of a source as the layouts need them: images in the order of their paths, and files that are left out."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mps_shards.errors import ConfigError, DataError, ShardsError, StorageError
from mps_shards.packing.destinations.destination import MARKER
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.class_list import read_class_list
from mps_shards.packing.sources.files import ICLOUD, Files, SubFiles, is_of_one_file
from mps_shards.packing.sources.listing import Bad
from mps_shards.shards.manifest import MANIFEST_NAME
from mps_shards.shards.raw_sample import IMAGE_FIELDS
from mps_shards.shards.sample_index import INDEX_NAME
from mps_shards.vision.image_files import begins_like_image
from mps_shards.wording import counted

__all__ = [
    "ANNOTATION_KINDS",
    "ARCHIVE_KINDS",
    "SPLIT_NAMES",
    "FileTree",
    "check_names",
    "is_image",
    "read_classes",
    "refusal",
]

SPLIT_NAMES = frozenset(["train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"])
CLASS_LIST = "classes.txt"
ANNOTATION_KINDS = frozenset(
    [
        *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".txt", ".mat", ".xlsx", ".xls", ".ods", ".parquet"),
        *(".cls", ".pkl", ".pickle", ".yaml", ".yml", ".npy", ".npz", ".lst", ".sqlite", ".h5", ".hdf5"),
    ]
)
# extensions of files that may hold images, but are not read: archives, raw data of cameras, medical and layered images
ARCHIVE_KINDS = frozenset([".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"])
_UNREAD_KINDS = ARCHIVE_KINDS | frozenset(
    [
        *(".nef", ".cr2", ".cr3", ".arw", ".dng", ".raf", ".orf", ".rw2", ".dcm", ".dicom", ".nii", ".mha", ".nrrd"),
        *(".psd", ".xcf", ".exr", ".hdr", ".tga", ".fits", ".pcx", ".jp2", ".j2k", ".jxr", ".dds", ".svs", ".ndpi"),
    ]
)
# files next to the tars of a shard set, of which the marker exists while the pack is unfinished
_SET_FILES = frozenset([MANIFEST_NAME, INDEX_NAME, MARKER])
_MOST_ANNOTATIONS = 1000
_MOST_BARE = 50
_MOST_UNREAD = 50


@dataclass(slots=True, kw_only=True)
class FileTree:
    """The files below one root, and the files that were left out while the root is listed. Hidden files do not count.

    Attributes:
        options: options for reading the source.
        list_files: folder of the lists, if it is not the root.
        bad: the files that were left out because they cannot be packed.
        ignored: number of files that are not images, by extension.
        annotations: the first thousand ignored files that look like annotations.
        packed: folders that hold a shard set, whose files are not listed.
        bare: the first fifty ignored files whose names have no extension.
        unread: the first fifty ignored files that may hold images, but are not read.
    """

    files: Files
    options: SourceOptions = field(default_factory=SourceOptions)
    list_files: Files | None = None
    bad: list[Bad] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    annotations: list[str] = field(default_factory=list)
    packed: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    _others: set[int] = field(default_factory=set)  # hashes of paths that were counted or are used
    _folders: dict[str, list[str]] = field(default_factory=dict)  # several layouts ask for the same folders
    _stems: dict[str, set[str]] = field(default_factory=dict)

    def shown(self, path: str = "") -> str:
        """Return a path as messages show it, with the name of the source."""
        return f"{self.files.name}/{path}".removesuffix("/")

    @property
    def lists(self) -> Files:
        """The files among which a list of images is looked up: those of the tree, unless others were given."""
        return self.list_files or self.files

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder, sorted; names of folders end with a slash, so that whole paths come sorted too."""
        try:
            return self.files.names(folder)
        except StorageError as error:
            if not (self.options.skip_bad and is_of_one_file(error)):
                raise
            if all(bad.path != folder for bad in self.bad):  # several layouts list the same folders
                self.leave_out(folder, str(error))
            return []

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly inside a folder, without the slash; none if there is no such folder."""
        if folder not in self._folders:
            names = self.names(folder) if self.files.is_folder(folder) else []
            self._folders[folder] = [name[:-1] for name in names if name.endswith("/")]
        return self._folders[folder]

    def stems(self, folder: str) -> set[str]:
        """Names of the images directly inside a folder, without their extensions."""
        if folder not in self._stems:
            self._stems[folder] = {name.rpartition(".")[0] for name in self.names(folder) if is_image(name)}
        return self._stems[folder]

    def paths(self, start: str = "") -> Iterator[str]:
        """Paths of all files below a folder, sorted by code point; holds the names of one folder per level.

        Args:
            start: the folder, with a slash at its end; "" is the root.
        """
        inside = [(start, self._shown_names(start), frozenset([self.files.identity(start)]))]
        while inside:
            prefix, names, around = inside[-1]
            name = next(names, None)
            if name is None:
                inside.pop()
            elif not name.endswith("/"):
                yield prefix + name
            elif (this := self.files.identity(prefix + name)) not in around:  # else a link to a parent folder
                inside.append((prefix + name, self._shown_names(prefix + name), around | {this}))

    def _shown_names(self, folder: str) -> Iterator[str]:
        """Return the names in a folder, or none if the folder holds a shard set, which is not packed."""
        names = self.names(folder)
        if folder in self.packed:
            return iter(())
        if not _SET_FILES.isdisjoint(names) and any(name.endswith(".tar") for name in names):
            self.packed.append(folder)
            return iter(())
        return iter(names)

    def images(self, start: str = "") -> Iterator[tuple[str, int]]:
        """Path and bytes of every image below a folder, sorted by path; counts the other files as ignored.

        Raises:
            DataError: two files would share a key.
        """
        return self.sized(self.image_paths(start))

    def image_paths(self, start: str = "") -> Iterator[str]:
        """Path of every image below a folder, sorted; counts the other files as ignored."""
        for path in self.paths(start):
            if is_image(path):
                yield path
                continue
            name = posixpath.basename(path)
            if name.endswith(ICLOUD):
                self.leave_out(
                    path, f"{self.shown(path)} is in iCloud only; download it in the Finder, then pack again"
                )
                continue
            self.ignore(path)

    def ignore(self, path: str) -> None:
        """Count a file that is not an image, once."""
        if hash(path) in self._others:  # a layout may walk the tree more than once
            return
        self._others.add(hash(path))
        name = posixpath.basename(path)
        stem, dot, extension = name.rpartition(".")
        kind = dot + extension.lower() if stem else name
        self.ignored[kind] += 1
        if kind in ANNOTATION_KINDS and len(self.annotations) < _MOST_ANNOTATIONS:
            self.annotations.append(path)
        if kind in _UNREAD_KINDS and len(self.unread) < _MOST_UNREAD:
            self.unread.append(path)
        if not dot and len(self.bare) < _MOST_BARE:
            self.bare.append(path)

    def ignore_beside(self, folder: str) -> None:
        """Count the files outside of the folder that holds all images; `folder` ends with a slash."""
        for name in self.names():
            if not name.endswith("/"):
                self.ignore(name)
            elif name != folder:
                for _ in self.image_paths(name):
                    pass

    def use(self, path: str) -> None:
        """Stop reporting a file as left out, because it is used, as a list is."""
        if hash(path) in self._others:
            kind = posixpath.splitext(path)[1].lower()
            self.ignored -= Counter({kind: 1})
        self._others.add(hash(path))
        if path in self.annotations:
            self.annotations.remove(path)

    def sized(self, paths: Iterable[str], *, named_by: str = "") -> Iterator[tuple[str, int]]:
        """Yield each of these sorted paths of images with the file's size in bytes; raises as `images` does."""
        head = "\0"  # files that could share a key follow each other: they are equal up to the first dot
        keys: dict[str, str] = {}
        before = None
        for path in paths:
            if path == before:
                raise DataError(f"{self.shown(path)} is named twice in one split; remove one")
            before = path
            if not path.startswith(head):
                keys = {}
                folder, slash, name = path.rpartition("/")
                head = f"{folder}{slash}{name.partition('.')[0]}."
            stem = path.rpartition(".")[0]
            other = keys.setdefault(path if self.options.keys == "name" else stem, path)
            if other != path:
                raise DataError(
                    f"{self.shown(other)} and {self.shown(path)} would share the key "
                    f"{posixpath.basename(stem)!r}; rename one, or keep extensions in keys (--keys name)"
                )
            size = self.size(path, named_by=named_by)
            if size:
                yield path, size

    def size(self, path: str, *, named_by: str = "") -> int:
        """Bytes of a file; 0 if the file is empty or missing and bad files are skipped.

        Args:
            named_by: the file and line that name this path, for the message; "" if the path was found in a folder.
        """
        try:
            size = self.files.size(path)
        except StorageError as error:
            if not is_of_one_file(error):
                raise
            self.leave_out(path, str(error))
            return 0
        except FileNotFoundError:
            reason = f"{self.shown(path)} is a link to a file that does not exist; remove the link"
            if named_by:
                hint = "; paths need forward slashes" if "\\" in path else ""
                reason = f"{named_by}: there is no file {self.shown(path)}{hint}"
            self.leave_out(path, reason)
            return 0
        if not size:
            self.leave_out(path, f"{self.shown(path)} is empty (0 bytes); remove it or replace it")
        return size

    def inside(self, given: object, base: str = "", *, named_by: str) -> str:
        """Return the path of an image that a file names: relative to the root, with forward slashes, without ``..``.

        Args:
            base: folder that `given` is relative to, with a slash at its end; "" is the root.

        Raises:
            DataError: `given` is not text, has not the extension of an image, or is outside of the root.
        """
        if not isinstance(given, str) or not given or "\0" in given:
            raise DataError(f"{named_by}: {given!r} is not the path of a file")
        path = self.files.relative(given) if os.path.isabs(given) else posixpath.normpath(base + given)
        if path.startswith("../"):
            raise DataError(f"{named_by}: {given} is outside of {self.files.name}; pack a folder that holds all images")
        if not is_image(path):
            raise DataError(f"{named_by}: {given!r} is not an image by its name (known: {', '.join(IMAGE_FIELDS)})")
        return path

    def leave_out(self, path: str, reason: str) -> None:
        """Record a file that cannot be packed. Unless such files are skipped, `list_tree` refuses them at the end."""
        self.bad.append(Bad(path, reason))

    def holds_images(self, folder: str = "") -> bool:
        """Whether there is an image anywhere below a folder; "" is the root."""
        return any(is_image(path) or path.endswith(ICLOUD) for path in self.paths(folder))

    def below(self, folder: str) -> "FileTree":
        """Return a folder of this tree as another tree. Each tree records its own ignored and bad files."""
        return FileTree(files=SubFiles(self.files, folder), options=self.options)

    def class_order(self, names: Iterable[str]) -> list[str]:
        """Return the classes in order: those of --classes, or the found names, sorted as text or as numbers.

        Raises:
            DataError: a name that was found is not one of --classes.
        """
        if self.options.classes is not None:
            given = read_class_list(self.options.classes)
            unknown = sorted(set(names) - set(given))
            if unknown:
                raise DataError(
                    f"{', '.join(map(repr, unknown[:5]))} is not one of the {len(given)} classes that "
                    f"{self.options.classes} names; add it there, or leave the images out"
                )
            return list(given)
        if self.options.numeric_order and all(name.isdecimal() for name in names):
            return sorted(names, key=lambda name: (int(name), name))
        return sorted(names)

    def nameless_images(self) -> list[str]:
        """Return the files that begin like images, although their names have no extension."""
        found = []
        for path in filter(self.files.is_file, self.bare):  # others are links that lead nowhere
            with self.files.open(path) as file:
                if begins_like_image(file.read(64)):
                    found.append(path)
        return found

    def no_images(self) -> ShardsError:
        """Return the error for a source without images that could be packed."""
        nameless = self.nameless_images()
        hint = f"; {nameless[0]} begins like an image, so give such files an extension (.jpg)" if nameless else ""
        if archives := [kind for kind in self.ignored if kind in ARCHIVE_KINDS]:
            hint = hint or f"; it holds {archives[0]} files: pack each of these, or unpack them"
        if self.packed:
            hint = f"; {self.shown(self.packed[0]).removesuffix('/')} is packed already: reshard changes its shards"
        return refusal(self.bad) or ConfigError(
            f"no images found in {self.files.name} (looked for {', '.join(IMAGE_FIELDS)}){hint}"
        )


def refusal(bad: Sequence[Bad]) -> DataError | None:
    """Return the error that names the first of these files that cannot be packed, and counts the others."""
    if not bad:
        return None
    more = f"; {counted(len(bad) - 1, 'more file')} cannot be packed either" if len(bad) > 1 else ""
    return DataError(f"{bad[0].reason}{more}; --on-bad-sample skip leaves such files out")


def is_image(path: str) -> bool:
    """Whether a file's extension is that of an image."""
    stem, _, extension = path.rpartition(".")
    return bool(stem) and extension.lower() in IMAGE_FIELDS


def check_names(names: Iterable[str]) -> None:
    """Refuse names of classes and splits that cannot be written to the manifest or used in file names.

    Raises:
        DataError: a name has a backslash, or bytes that are not UTF-8.
    """
    for name in names:
        if "\\" in name or name != name.encode("utf-8", "replace").decode():
            raise DataError(f"the folder name {name!r} cannot name a class or split; rename it")


def read_classes(tree: FileTree, folder: str = "") -> tuple[str, ...]:
    """Class names from ``classes.txt`` in a folder, one per line; empty if there is no such file.

    Raises:
        DataError: the file is not UTF-8, or a name is missing or repeated.
    """
    path = folder + CLASS_LIST
    if not tree.files.is_file(path):
        return ()
    try:
        classes = tuple(name.strip() for name in tree.files.read(path).decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise DataError(f"{tree.shown(path)} is not UTF-8: {error}; save it as UTF-8") from error
    for number, name in enumerate(classes):
        if not name or name in classes[:number]:
            cause = "an empty line" if not name else f"{name!r} is repeated"
            raise DataError(f"{tree.shown(path)}:{number + 1}: {cause}")
    return classes
