"""Trees of files as a source: a folder or an archive in any layout, or the images that a list names."""

from dataclasses import dataclass, field
from pathlib import Path

from mps_shards.errors import DataError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.detection import list_tree
from mps_shards.packing.sources.file_tree import FileTree
from mps_shards.packing.sources.files import Files, NotedFiles, ReadFiles
from mps_shards.packing.sources.listing import Entry, Listing
from mps_shards.packing.sources.source import Source, SourceSample, Stamp

__all__ = ["TreeSource"]


@dataclass(slots=True)
class TreeSource(Source):
    """A folder or an archive, or the images in it that a list names.

    Attributes:
        list_name: path of the list to read; "" if the tree itself is read.
        list_files: files that include the list, if it is not in the tree.
    """

    files: Files
    list_name: str = ""
    list_files: Files | None = None
    default_out: Path | None = None
    read_files: ReadFiles = field(default_factory=ReadFiles, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.files.name

    def listing(self, options: SourceOptions) -> Listing:
        files = NotedFiles(self.files, self.read_files)
        list_files = NotedFiles(self.list_files, self.read_files) if self.list_files is not None else None
        listing = list_tree(FileTree(files=files, options=options, list_files=list_files), list_name=self.list_name)
        for each in [each for each in self.read_files if each[1] in listing.annotations]:
            self.read_files.remove(each)  # the file was read, but its content is not used
        return listing

    def changed_list(self) -> str:
        for files, path, stamp in self.read_files:
            if files.stamp([path]).digest != stamp.digest:
                return f"{files.name}/{path}"
        return ""

    def read(self, entry: Entry) -> SourceSample:
        image = self.files.read(entry.path)
        if len(image) != entry.size:
            raise DataError(
                f"{self.name}/{entry.path} had {entry.size} bytes when it was listed and has {len(image)} now; "
                "pack again"
            )
        mask = self.files.read(entry.mask) if entry.mask else b""
        return SourceSample(extension=entry.path.rpartition(".")[2], image=image, mask=mask)

    def stamp(self, entry: Entry) -> Stamp:
        return self.files.stamp([entry.path, entry.mask] if entry.mask else [entry.path])

    def ending(self, entry: Entry) -> bytes:
        return self.files.ending(entry.path, entry.size)
