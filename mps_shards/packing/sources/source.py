"""The contract of a source, from which `pack` reads a listing of entries and the bytes of each entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from mps_shards.packing.pack_options import SourceOptions
    from mps_shards.packing.sources.listing import Entry, Listing

__all__ = ["Source", "SourceSample", "Stamp"]


class Stamp(NamedTuple):
    """An identifier of the content of an entry, which is known without reading the content.

    Attributes:
        digest: 8 bytes that change whenever the content may have changed; see `stamp_of`.
        is_sure: whether equal digests prove equal content. A file that was written a moment ago may change again
            within the resolution of its clock, and a Python object has only its content. In both cases this is False,
            and a resumed pack makes the shard again and compares.
    """

    digest: bytes
    is_sure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSample:
    """The stored bytes of one sample, before any option changes them.

    Attributes:
        extension: extension of the image, which becomes its field's name ("jpg"); the case of letters is kept.
        image: the encoded image.
        mask: the encoded mask; empty if the entry has none.
        others: further fields, packed as they are. The fields that `pack` makes itself from the entry (``cls``,
            ``json``, ``txt``, ``mask.png``) replace those of the same name.
        key: key of the sample, if it does not follow from the path of the entry.
        is_packed: whether the sample comes from a shard set; then its fields are copied unchanged, unless an option
            changes or checks images.
    """

    extension: str
    image: bytes = field(repr=False)
    mask: bytes = field(default=b"", repr=False)
    others: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    key: str = ""
    is_packed: bool = False


class Source(Protocol):
    """What `pack` reads: a folder, a list, an archive, a Parquet file, another shard set, a Python sequence.

    Packing lists a source once, plans the shards from the listing, and then asks for the samples of each shard from
    many threads, in the order of the shard; equal listings and equal samples give equal bytes. A source is sent to
    other processes by pickling, so it must be small and must reopen its files there.

    Attributes:
        default_out: destination of the shards if the user names none; None if the user must name one.
        is_repeatable: whether listing the source again gives the same entries, so that a pack can be resumed.
        is_comparable: whether images can be compared before they are packed; otherwise no duplicates are looked for.
    """

    default_out: Path | None = None
    is_repeatable: bool = True
    is_comparable: bool = True

    @property
    def name(self) -> str:
        """A path or a few words. Error messages put this name before the path of an entry: ``NAME/cat/x.jpg``."""
        ...

    def close(self) -> None:
        """Close open files. The source is not read after that."""
        return None

    def listing(self, options: "SourceOptions") -> "Listing":
        """List every entry of the source, without reading image data; 5 million entries must fit into 1 GB.

        Raises:
            ConfigError: the source cannot be understood; the error names the option that settles it.
            DataError: a file or row cannot be packed; the error names it.
            StorageError: a file or folder cannot be read.
        """
        ...

    def changed_list(self) -> str:
        """Return the path of a list, or of an annotation file, that changed since the source was listed; "" if none.

        Raises:
            StorageError: the file no longer exists.
        """
        return ""

    def read(self, entry: "Entry") -> SourceSample:
        """Return the stored bytes of an entry. Several threads may call this method at once.

        Raises:
            DataError: the content is damaged, or differs from the listing.
            StorageError: the image or its mask cannot be read.
        """
        ...

    def stamp(self, entry: "Entry") -> Stamp:
        """Return a stamp of the content of all files of an entry. Several threads may call this method at once.

        Raises:
            StorageError: a file of the entry no longer exists.
        """
        ...

    def ending(self, entry: "Entry") -> bytes:
        """Return bytes that are cheap to read and the same for equal images: the last 4 KB, or a checksum.

        The search for duplicates compares these bytes before it compares whole images; ``b""`` means unknown.

        Raises:
            StorageError: the image cannot be read.
        """
        return b""
