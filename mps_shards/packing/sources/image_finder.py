"""Search for the image that a cell of a list means: a path, a name in a subfolder, or an id without extension."""

import os
import posixpath
import unicodedata
from collections.abc import Iterator

from mps_shards.errors import DataError
from mps_shards.packing.sources.file_tree import FileTree, is_image
from mps_shards.packing.sources.folder_names import split_word
from mps_shards.shards.raw_sample import IMAGE_FIELDS

__all__ = ["ImageFinder"]

_SEVERAL = "\0"  # marks a name in the index that several files share


class ImageFinder:
    """Finds the images that a list names. The names of all images are held in memory as soon as a path does not exist.

    Args:
        base: folder that paths are relative to, with a slash at its end; "" is the root.
        suffix: appended to every path.
        split: split of the list, which decides between files of one name; "" if it is not known.
    """

    def __init__(self, tree: FileTree, *, base: str = "", suffix: str = "", split: str = ""):
        self._tree = tree
        self._base = base
        self._suffix = suffix
        self._split = split
        self._index: dict[str, str] | None = None
        self.found_elsewhere: dict[str, str] = {}  # folder and extension that complete a path -> an example

    def find(self, given: object, *, named_by: str) -> str | None:
        """Return the path of the image that `given` means, or None after recording that there is no such image.

        Raises:
            DataError: `given` is not text, is outside of the root, is not an image, or could mean several files.
        """
        path = self.path_of(given, named_by=named_by)
        if path is not None:
            return path
        if not isinstance(given, str | int) or not str(given).strip() or "\0" in str(given):
            raise DataError(f"{named_by}: {given!r} is not the path of a file")
        text = f"{str(given).strip()}{self._suffix}"
        if is_image(text):
            direct = self._tree.inside(
                text, self._base, named_by=named_by
            )  # raises DataError for a path that can never be an image
            self._tree.size(direct, named_by=named_by)
        else:
            where = f"{self._tree.files.name}/{self._base}".removesuffix("/")
            reason = (
                f"{named_by}: no image in {where} is called {text!r}; say where the images are with --root or --suffix"
            )
            self._tree.leave_out(text, reason)
        return None

    def path_of(self, given: object, *, named_by: str = "") -> str | None:
        """Return the path of the only image that `given` can mean; None if there is none.

        Raises:
            DataError: several images fit.
        """
        if isinstance(given, int) and not isinstance(given, bool):
            given = str(given)
        if not isinstance(given, str) or not given.strip() or "\0" in given:
            return None
        text = given.strip() + self._suffix
        is_absolute = os.path.isabs(text)
        direct = self._tree.files.relative(text) if is_absolute else posixpath.normpath(self._base + text)
        if direct.startswith("../"):  # an absolute path, of this machine or of the one where the list was written
            return self._elsewhere(text, named_by) if is_absolute and not os.path.exists(text) else None
        if is_image(direct) and self._tree.files.is_file(direct):
            return direct
        return self._elsewhere(text, named_by)

    def _elsewhere(self, text: str, named_by: str) -> str | None:
        names = self._names()
        tail = unicodedata.normalize("NFC", text.replace("\\", "/")).strip("/")
        top = tail.partition("/")[0]
        may_drop = os.path.isabs(text) or top not in map(_bare, self._tree.names(self._base))
        for path in _tails(tail) if may_drop else [tail]:
            found = names.get(path)
            if found is None:
                continue
            if found == _SEVERAL:
                found = self._of_several(path, text, named_by)
            self._note(text, found)
            return found
        return None

    def _of_several(self, wanted: str, text: str, named_by: str) -> str:
        """Return the only one of several files with this name that is in the split of the list."""
        found = [path for path in self._tree.image_paths(self._base) if wanted in _aliases(path)]
        here = [path for path in found if self._split and self._split in map(split_word, path.split("/")[:-1])]
        if len(here) == 1:
            return here[0]
        shown = ", ".join(found[:3]) + (" ..." if len(found) > 3 else "")
        where = f"{named_by}: " if named_by else ""
        raise DataError(
            f"{where}{text!r} could mean {len(found)} files ({shown}); choose by --root FOLDER or --suffix .jpg"
        )

    def _names(self) -> dict[str, str]:
        """Return the images by the names that a list may use for them."""
        if self._index is None:
            self._index = {}
            for path in self._tree.image_paths(self._base):
                for alias in _aliases(path):
                    if self._index.setdefault(alias, path) != path:
                        self._index[alias] = _SEVERAL
        return self._index

    def _note(self, text: str, found: str) -> None:
        if not found.endswith(text):
            folder, extension = posixpath.dirname(found), found.rpartition(".")[2]
            added = f"{folder}/*.{extension}" if folder else f"*.{extension}"
            if len(self.found_elsewhere) < 10:
                self.found_elsewhere.setdefault(added, f"{text} is {found}")
        elif (folder := found.removesuffix(text)) and len(self.found_elsewhere) < 10:
            self.found_elsewhere.setdefault(f"{folder}*", f"{text} is {found}")


def _bare(name: str) -> str:
    return name.removesuffix("/")


def _tails(path: str) -> Iterator[str]:
    """Yield ``"a/b/c.jpg"``, ``"b/c.jpg"``, ``"c.jpg"``, because the list may have paths of another machine."""
    parts = path.split("/")
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _aliases(path: str) -> Iterator[str]:
    """Yield the texts by which a list may name an image: the ends of its path, with and without extension."""
    normal = unicodedata.normalize("NFC", path)
    parts = normal.split("/")
    for start in range(max(0, len(parts) - 3), len(parts)):
        tail = "/".join(parts[start:])
        yield tail
        stem, _, extension = tail.rpartition(".")
        if extension.lower() in IMAGE_FIELDS:
            yield stem
