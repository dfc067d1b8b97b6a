"""Tars and headers made with the standard library, for comparison with our own."""

import io
import tarfile

from hypothesis import strategies as st

from mps_shards.shards.key_names import is_hidden
from mps_shards.shards.tar import END, header, members, padding

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
    lambda name: not name.endswith("/") and not name.startswith("/") and not is_hidden(name)
)
contents = st.binary(max_size=1200)


def packed(files: list[tuple[str, bytes]]) -> bytes:
    return b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in files) + END


def walked(tar: bytes) -> list[tuple[str, bytes]]:
    return [(member.name, tar[member.start : member.stop]) for member in members(tar, where="x.tar")]


def by_tarfile(tar: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [(info.name, archive.extractfile(info).read()) for info in archive if info.isreg()]  # type: ignore[union-attr]


def made(files: list[tuple[str, bytes]], form: int, **fields: object) -> bytes:
    """Return a tar that tarfile wrote."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def sealed(block: bytes) -> bytes:
    """Return a header block with a correct checksum."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def of_kind(kind: bytes, name: str, size: int) -> bytes:
    block = header(name, size)
    return sealed(block[:156] + kind + block[157:])


def field(block: bytes, start: int, value: bytes) -> bytes:
    return sealed(block[:start] + value + block[start + len(value) :])


PLAIN = header("x.jpg", 3)


def pax(records: bytes) -> bytes:
    block = field(field(PLAIN, 156, b"x"), 124, b"%011o\0" % len(records))
    return block + records + padding(len(records)) + PLAIN + b"abc" + padding(3) + END


def naming(kind: bytes, content: bytes) -> bytes:
    return of_kind(kind, "name", len(content)) + content + padding(len(content))
