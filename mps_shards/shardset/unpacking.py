"""Unpacking of shard sets into files below one folder: class folders, flat folders, or images with label maps."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from mps_shards.errors import DataError, StorageError
from mps_shards.native import is_tiled
from mps_shards.shards.key_names import encode_key, key_to_path, split_member
from mps_shards.shards.name_folding import fold_name
from mps_shards.shards.raw_sample import MASK_FIELD, Buffer, RawSample
from mps_shards.shards.tar import members
from mps_shards.shardset.opening import StoredSet, open_set, set_folders
from mps_shards.storage.cores import available_cores
from mps_shards.storage.disk_sync import make_folder, sync_folder
from mps_shards.storage.file_batch import FileBatch
from mps_shards.storage.folder import Folder
from mps_shards.storage.local_disk import PART
from mps_shards.storage.location import open_folder
from mps_shards.storage.ordered_map import ordered_map, raise_if_stopped

__all__ = ["UnpackReport", "files_of", "unpack"]

# One letter in two Unicode normal forms, as bytes, so that every locale can write it
_COMPOSED, _DECOMPOSED = os.fsdecode(b"\xc3\xa9"), os.fsdecode(b"e\xcc\x81")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackReport:
    """Result of unpacking.

    Attributes:
        sets: folders of the sets that were read.
        files: number of files in `out`, including files that existed before.
        already: number of files that existed before with the same content.
        clashes: number of files and folders whose names differ from others only in case or Unicode normal form.
        tiled: number of images that packing rewrote in tiles; their pixels equal the source, their bytes do not.
    """

    out: Path
    sets: tuple[str, ...]
    samples: int
    files: int
    already: int
    bytes: int
    clashes: int
    tiled: int
    seconds: float


def unpack(
    folder: Folder | str | os.PathLike[str],
    out: Path,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda samples: None,
    on_progress: Callable[[int], None] = lambda samples: None,
) -> UnpackReport:
    """Write the files of a shard set, or of each shard set directly below a folder.

    Images get the paths that their keys name, so packing and unpacking a folder gives equal files. If the class of a
    sample is not part of its path, the class becomes the top folder. Images with label maps go to ``images/`` and label
    maps to ``masks/``; other fields are written beside the image. Each file appears complete, so a killed run can be
    repeated: files that exist with the right content are kept.

    Args:
        overwrite: replace existing files with other content.
        workers: number of shards to unpack at the same time; the available cores by default, at most 8.
        on_start: called with the number of samples.
        on_progress: called with the number of samples done since its last call, from any thread.

    Raises:
        DataError: a sample is damaged, or its path is outside of `out` or taken by another sample or file.
        ManifestError: there is no shard set, or its index does not match.
        StorageError: a file cannot be read or written.
    """
    began = time.monotonic()
    folder = open_folder(folder)
    sets = [open_set(found, whole=True) for found in set_folders(folder) or [folder]]
    on_start(sum(stored.manifest.samples for stored in sets))
    _make_folder(out)
    writer = _Writer(out, overwrite=overwrite)
    shards = [(stored, shard.name) for stored in sets for shard in stored.manifest.shards]

    def unpack_one(number: int) -> _Written:
        return _unpack_shard(*shards[number], writer, f".unpack-{number}", on_progress)

    workers = workers or min(8, available_cores())
    done = ordered_map(unpack_one, range(len(shards)), workers=workers, name="mps-shards-unpack")
    written = reduce(_Written.plus, done, _Written())
    writer.sync_folders()
    return UnpackReport(
        out=out,
        sets=tuple(str(stored.folder) for stored in sets),
        samples=sum(stored.manifest.samples for stored in sets),
        **written._asdict(),
        clashes=len(writer.colliding),
        seconds=time.monotonic() - began,
    )


def _make_folder(out: Path) -> None:
    try:
        make_folder(out)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise StorageError(f"{out} is not a directory; name another place") from error
        raise


class _Written(NamedTuple):
    files: int = 0
    already: int = 0
    bytes: int = 0
    tiled: int = 0

    def plus(self, other: "_Written") -> "_Written":
        return _Written(*map(sum, zip(self, other, strict=True)))


def _unpack_shard(
    stored: StoredSet, shard: str, writer: "_Writer", prefix: str, on_progress: Callable[[int], None]
) -> _Written:
    """Write the files of a shard.

    Args:
        prefix: beginning of temporary names, different for each shard. The names are equal in all runs, so that a
            repeated run overwrites the temporary files of a killed run.
    """
    written = _Written()
    with FileBatch() as batch:
        for number in range(len(stored.rows[shard])):
            content = stored.content(shard, number)
            for which, (path, data) in enumerate(files_of(stored, shard, content)):
                where = f"sample number {number} of shard {stored.folder / shard}"
                part = f"{prefix}-{number}-{which}{PART}"
                written = written.plus(writer.write(path, data, batch, part=part, where=where))
            on_progress(1)
    return written


def files_of(stored: StoredSet, shard: str, content: Buffer) -> Iterator[tuple[str, Buffer]]:
    """Return the files of one sample as relative paths with forward slashes, and contents.

    Raises:
        DataError: a name is empty or leads outside of the folder.
    """
    view = memoryview(content)
    held: dict[str, tuple[str, Buffer]] = {}
    key = ""
    for name, start, stop in members(content, where=f"shard {shard}"):
        key, field = split_member(name)
        held[field] = (name[len(key) + 1 :], view[start:stop])
        if "\\" in name:  # keys that pack makes are percent-encoded
            raise DataError(f"member {name!r} of shard {shard} has a backslash in its name; it is not unpacked")
    fields = {field: data for field, (_, data) in held.items()}
    stem = _stem(key)
    raw = RawSample(key=key, shard=shard, fields=fields)
    image, target = stored.choice.image_field(raw), stored.choice.target_field(raw)
    keeps_extension = stored.manifest.packed.options.get("keys") == "name"
    base = stem.rpartition(".")[0] if keeps_extension else stem
    label = stored.choice.class_number(raw, target)
    top = ""
    if label >= 0:
        classes = stored.manifest.classes
        name = classes[label] if label < len(classes) else str(label)
        if not f"{stem}/".startswith(f"{name}/") and not stem.partition("/")[2].startswith(f"{name}/"):
            top = f"{name}/"
    pairs = MASK_FIELD in held and "images" not in stem.split("/")[:-1]
    for field, (written, data) in held.items():
        if field == "cls":
            continue
        path = stem if field == image and keeps_extension else f"{base}.{written}"
        if field == MASK_FIELD:
            path = f"{base}.{written[len('mask.') :]}"
            path = path if pairs else f"/{path}".replace("/images/", "/masks/", 1)[1:]
        path = f"{'masks/' if field == MASK_FIELD else 'images/'}{path}" if pairs else f"{top}{path}"
        _check_path(path, f"sample {key!r} of shard {shard}")
        yield path, data


def _stem(key: str) -> str:
    """Return the source path of a key; keys of foreign shards are paths themselves."""
    path = key_to_path(key)
    return path if encode_key(path) == key else key.removeprefix("./")


def _check_path(path: str, where: str) -> None:
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise DataError(f"{where} has the path {path!r}, which leads out of the folder; it is not unpacked")


class _Writer:
    """Writes files below a folder, each once and complete. Safe to use from any thread."""

    def __init__(self, out: Path, *, overwrite: bool):
        self._out, self._overwrite = out, overwrite
        self._folders: set[str] = set()
        self._owners: dict[int, object] = {}  # owner of each path, by hash of the path
        self._folded: dict[int, int] = {}  # hash of the path of a file or folder by that of its folded form
        self.colliding: set[str] = set()  # paths that some disk treats as equal to earlier ones
        self._probing = Lock()

    def write(self, path: str, content: Buffer, batch: FileBatch, *, part: str, where: str) -> "_Written":
        """Write a file unless it exists with the same content.

        Args:
            part: temporary name of the file, which no other file has.

        Raises:
            DataError: another sample has this path, or a file with other content exists.
        """
        raise_if_stopped()
        self._claim(path, where, batch)
        folder, _, name = path.rpartition("/")
        try:
            place = self._folder(folder, where, batch)
            already = self._is_there(place / name, content)
            if not already:
                batch.add(place / name, content, part=place / part)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"cannot write {self._out / path}: {error.strerror}") from error
        return _Written(1, int(already), len(content), int(is_tiled(content)))

    def sync_folders(self) -> None:
        """Make the names of all files durable."""
        folders = {each for folder in map(Path, self._folders) for each in (folder, *folder.parents)}
        for folder in sorted(folders, reverse=True):
            sync_folder(self._out / folder)

    def _claim(self, path: str, where: str, batch: FileBatch) -> None:
        """Reserve the path of a file."""
        owner = object()
        if self._owners.setdefault(hash(path), owner) is not owner:
            raise DataError(f"{where} would become {path!r}, and so would another sample")
        self._check_collision(path, where, batch)

    def _check_collision(self, path: str, where: str, batch: FileBatch) -> None:
        """Refuse a path that this disk treats as equal to an earlier one, and record it if only other disks would."""
        whole = hash(path)
        if self._folded.setdefault(hash(fold_name(path)), whole) == whole:
            return
        self.colliding.add(path)
        if self._mixes_names():
            folder, _, name = path.rpartition("/")
            place = self._out / folder
            names = {*os.listdir(place), *batch.waiting(place)} if place.is_dir() else set()
            other = next(
                (each for each in sorted(names) if each != name and fold_name(each) == fold_name(name)), "another one"
            )
            raise DataError(
                f"{where} would become {path!r}, and {self._out} is on a disk that treats this name as {other!r}: "
                "they differ only in case or Unicode normal form. Unpack to a disk that distinguishes them, or leave "
                "one out (mps-shards reshard --drop, --except)"
            )

    def _mixes_names(self) -> bool:
        """Whether the disk treats names as equal that differ only in case, or in Unicode normal form."""
        with self._probing, tempfile.NamedTemporaryFile(dir=self._out, prefix=".unpack-", suffix=_COMPOSED) as probe:
            name = os.path.basename(probe.name)
            others = (name.replace("unpack", "UNPACK"), name.replace(_COMPOSED, _DECOMPOSED))
            return any((self._out / other).exists() for other in others)

    def _folder(self, folder: str, where: str, batch: FileBatch) -> Path:
        """Create the folder if needed, and make sure that it is not a link."""
        if folder not in self._folders:
            step = self._out
            for depth, part in enumerate(parts := folder.split("/") if folder else []):
                self._check_collision("/".join(parts[: depth + 1]), where, batch)
                step = step / part
                if step.is_symlink():
                    raise StorageError(f"{step} is a link; files are not unpacked through links")
                step.mkdir(exist_ok=True)
            self._folders.add(folder)
        return self._out / folder

    def _is_there(self, path: Path, content: Buffer) -> bool:
        if not os.path.lexists(path):
            return False
        is_same_size = not path.is_symlink() and path.is_file() and path.stat().st_size == len(content)
        if is_same_size and path.read_bytes() == content:
            return True
        if not self._overwrite or path.is_dir():
            raise DataError(f"{path} exists with other content; remove it, or unpack with --overwrite")
        return False
