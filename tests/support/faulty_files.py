"""Damage to a small shard set: changes to the members before packing, and to the finished files."""

import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mps_shards.shards.key_names import member_name
from mps_shards.shards.sample_index import INDEX_NAME
from mps_shards.shards.tar import BLOCK
from tests.support.images import EXAMPLES, encoded, pixels

Members = list[tuple[str, bytes]]
FIRST, SECOND = "s-000000.tar", "s-000001.tar"
IGNORED = 255


def sample_members(numbers: Sequence[int], masks: bool) -> Members:
    """Return uncompressed images of one size, so that all samples have the same length."""
    members = []
    for number in numbers:
        image = encoded(Image.fromarray(pixels(10, 12, seed=number)), "PNG", compress_level=0)
        target = mask_of(number) if masks else str(number % 3).encode()
        fields = ("png", "mask.png") if masks else ("cls", "png")
        contents = (image, target) if masks else (target, image)
        members += [(member_name(f"k{number:02d}", field), data) for field, data in zip(fields, contents, strict=True)]
    return members


def mask_of(number: int, *, height: int = 10, highest: int = 2) -> bytes:
    """Return a label map with ids from 0 to `highest` and ignored pixels."""
    labels = np.arange(height * 12, dtype=np.uint8).reshape(height, 12) % (highest + 1)
    labels[0, : number % 4] = IGNORED
    return encoded(Image.fromarray(labels), "PNG")


# Damage to members, by default of sample 1, the second sample


def put(field: str, content: bytes, *, as_field: str | None = None) -> Callable[[Members], Members]:
    """Replace the content (and the name) of a field."""

    def damage(members: Members) -> Members:
        name, new = f"k01.{field}", f"k01.{as_field or field}"
        return [(new, content) if member[0] == name else member for member in members]

    return damage


def without(field: str) -> Callable[[Members], Members]:
    """Remove a field."""
    return lambda members: [member for member in members if member[0] != f"k01.{field}"]


def renamed(key: str) -> Callable[[Members], Members]:
    """Change the key of a sample."""
    return lambda members: [(name.replace("k01.", f"{key}.", 1), data) for name, data in members]


def picture(example: str) -> Callable[[Members], Members]:
    """Return an unusual image, which must be decoded as Pillow does."""
    field = example.lower().rpartition(".")[2]
    return put("png", EXAMPLES[example](), as_field=field)


def interleaved(members: Members) -> Members:
    """Put all labels before all images."""
    return sorted(members, key=lambda member: member[0].endswith("png"))


def twice(members: Members) -> Members:
    """Repeat sample 1 directly after itself."""
    return members[:4] + members[2:4] + members[4:]


def again(members: Members) -> Members:
    """Repeat sample 1 at the end."""
    return members + members[2:4]


# Damage to files, by default to the first shard


def cut(at: Callable[[list[tarfile.TarInfo]], int]) -> Callable[[Path], None]:
    """End the shard at a byte that is computed from its members."""

    def damage(folder: Path) -> None:
        with tarfile.open(folder / FIRST) as tar:
            place = at(tar.getmembers())
        os.truncate(folder / FIRST, place)

    return damage


def flip(at: Callable[[tarfile.TarInfo], int], *, member: int = 3, mask: int = 1) -> Callable[[Path], None]:
    """Change one byte of a member; member 3 is the image of sample 1, and member 2 its label."""
    return poke(lambda info, content: (at(info), bytes([content[at(info)] ^ mask])), member=member)


def zero(size: int, at: Callable[[tarfile.TarInfo], int], *, member: int = 3) -> Callable[[Path], None]:
    """Overwrite a part of a member with zeros."""
    return poke(lambda info, _: (at(info), bytes(size)), member=member)


def poke(change: Callable[[tarfile.TarInfo, bytes], tuple[int, bytes]], *, member: int) -> Callable[[Path], None]:
    """Write other bytes at an offset."""

    def damage(folder: Path) -> None:
        with tarfile.open(folder / FIRST) as tar:
            info = tar.getmembers()[member]
        place, content = change(info, (folder / FIRST).read_bytes())
        with (folder / FIRST).open("r+b") as file:
            file.seek(place)
            file.write(content)

    return damage


def rewritten(change: Callable[[bytes], bytes], name: str = FIRST) -> Callable[[Path], None]:
    """Replace a file by a new file with other content."""

    def damage(folder: Path) -> None:
        new = folder / f"{name}.new"
        new.write_bytes(change((folder / name).read_bytes()))
        new.replace(folder / name)

    return damage


def swapped(folder: Path) -> None:
    """Exchange the names of the two shards."""
    (folder / FIRST).rename(folder / "x")
    (folder / SECOND).rename(folder / FIRST)
    (folder / "x").rename(folder / SECOND)


def stale_index(folder: Path) -> None:
    """Write the index of an older pack whose second sample was one block longer."""
    index = np.load(folder / INDEX_NAME)
    index["size"][1] += BLOCK
    index["offset"][2:4] += BLOCK
    np.save(folder / INDEX_NAME, index)


def edited_index(field: str, row: int, value: int) -> Callable[[Path], None]:
    """Change one number of the index."""

    def damage(folder: Path) -> None:
        index = np.load(folder / INDEX_NAME)
        index[field][row] = value
        np.save(folder / INDEX_NAME, index)

    return damage


def packed_by_tarfile(form: int) -> Callable[[Path], None]:
    """Pack the same members with the standard library."""

    def damage(folder: Path) -> None:
        with tarfile.open(folder / FIRST) as tar:
            members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
        with tarfile.open(folder / FIRST, "w", format=form) as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    return damage


def shouting(kind: str, height: int, width: int) -> bytes:
    """Return an image whose header claims a huge size."""
    if kind == "png":
        head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        rest = encoded(Image.new("RGB", (4, 4)), "PNG")[33:]
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + rest
    content = EXAMPLES["rgb.jpg"]()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
