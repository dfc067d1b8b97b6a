"""Corpus of faults: damaged and unusual shard sets, and the expected outcome of reading each of them.

``python -m tests.support.faults`` prints the corpus as a table. A fault changes a set of two shards of four samples:
the members before they are packed, so that the index describes the changed members, or the finished files.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec
from PIL import Image

from mps_shards.shards.key_names import split_member
from mps_shards.shards.manifest import MANIFEST_NAME, ShardRecord, manifest_bytes
from mps_shards.shards.sample_index import INDEX_NAME, index_bytes, rows
from mps_shards.shards.tar import BLOCK, END, header, padding
from tests.support.faulty_files import (
    FIRST,
    IGNORED,
    SECOND,
    Members,
    again,
    cut,
    edited_index,
    flip,
    interleaved,
    mask_of,
    packed_by_tarfile,
    picture,
    put,
    renamed,
    rewritten,
    sample_members,
    shouting,
    stale_index,
    swapped,
    twice,
    without,
    zero,
)
from tests.support.images import EXAMPLES, encoded, pixels
from tests.support.sets import manifest_of

Kind = Literal["indexed", "foreign"]
SHARD = (0, 1, 2, 3)
ALL = tuple(range(8))
REST = 1  # number of reports for the rest of a shard


@dataclass(frozen=True, slots=True)
class Outcome:
    """Expected outcome of reading a damaged set.

    Attributes:
        when: "open" (an error under every policy), "read" or "decode" (a bad sample, or the rest of a foreign shard),
            "harmless" (every sample is correct), "unseen" (every sample is read, but the samples in `lost` are wrong).
        says: pattern of the error's message.
        lost: numbers of the samples that "skip" leaves out.
        reports: number of reported skips; by default one for each lost sample.
    """

    when: Literal["open", "read", "decode", "harmless", "unseen"]
    says: str = ""
    lost: tuple[int, ...] = ()
    reports: int | None = None

    @property
    def skips(self) -> int:
        """Number of reported skips."""
        if self.when in ("open", "harmless", "unseen"):
            return 0
        return len(self.lost) if self.reports is None else self.reports

    @property
    def rest_of_shard(self) -> bool:
        """Whether the first shard ends at the damage; some samples before the damage may be read."""
        return self.reports == REST

    def __str__(self) -> str:
        if self.when in ("harmless", "unseen"):
            return "as meant" if self.when == "harmless" else "not seen"
        if self.when == "open":
            return "open"
        return f"{self.when} ({'rest of shard' if self.rest_of_shard else f'{len(self.lost)} of 8'})"


HARMLESS = Outcome("harmless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of damage to a set.

    Attributes:
        kind: a set with manifest and index, or tars alone.
        members: function that changes the members of the first shard before they are packed.
        files: function that changes the finished folder.
        late: function that changes the folder after the first sample was read.
        outcome, verified: expected outcome without and with `ReadOptions(verify=True)`.
    """

    name: str
    kind: Kind
    members: Callable[[Members], Members] | None = None
    files: Callable[[Path], None] | None = None
    late: bool = False
    masks: bool = False
    outcome: Outcome
    verified: Outcome

    def __str__(self) -> str:
        return f"{self.name}, {self.kind}"


def make(folder: Path, fault: Fault) -> list[Members]:
    """Write the damaged set (undamaged if the fault comes later), and return its members by shard."""
    shards = [sample_members(range(4), fault.masks), sample_members(range(4, 8), fault.masks)]
    if fault.members is not None:
        shards[0] = fault.members(shards[0])
    folder.mkdir()
    records, index = [], []
    for name, members in zip((FIRST, SECOND), shards, strict=True):
        content, entries = b"", []
        for _, run in groupby(members, lambda member: _key(member[0])):
            sample = b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in run)
            entries.append((len(content), len(sample), zlib.crc32(sample)))
            content += sample
        content += END
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        records.append(ShardRecord(name=name, samples=len(entries), bytes=len(content), sha256=digest))
        index.append(rows(entries))
    if fault.kind == "indexed":
        table = index_bytes(index)
        task = "segmentation" if fault.masks else "classification"
        manifest = msgspec.structs.replace(manifest_of(records, index=table), task=task, ignore_index=IGNORED)
        (folder / INDEX_NAME).write_bytes(table)
        (folder / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
    if fault.files is not None and not fault.late:
        fault.files(folder)
    return shards


def _key(name: str) -> str:
    return split_member(name)[0]


# The table

_CUT_OFF = r"cut off|unexpected end|no tar header|cannot read"
_CRC = r"have CRC-32 [0-9a-f]{8}, but the index says"
_SIZE = r"has \d+ bytes, but its manifest says \d+"


def _both(name: str, members: Callable[[Members], Members], outcome: Outcome, foreign: Outcome | None = None, **more):
    """Return a fault from before the set was packed, which checksums cannot find."""
    for kind, expected in (("indexed", outcome), ("foreign", foreign or outcome)):
        yield Fault(name=name, kind=kind, members=members, outcome=expected, verified=expected, **more)


def _disk(
    name: str,
    files: Callable[[Path], None],
    outcome: Outcome | None,
    verified: Outcome | None = None,
    *,
    foreign: Outcome | None = None,
    **more,
):
    """Return a fault that damages the files after packing."""
    if outcome is not None:
        yield Fault(name=name, kind="indexed", files=files, outcome=outcome, verified=verified or outcome, **more)
    if foreign is not None:
        yield Fault(name=name, kind="foreign", files=files, outcome=foreign, verified=foreign, **more)


def _faults() -> list[Fault]:
    found: list[Fault] = []
    resized = Outcome("open", _SIZE)
    shard_lost = Outcome("read", _CUT_OFF, SHARD, REST)
    one = Outcome("decode", "cannot decode the image", (1,))
    crc = Outcome("read", _CRC, (1,))

    # truncated or extended files
    for name, at in {
        "cut off in an image": lambda infos: infos[3].offset_data + 100,
        "cut off in a label": lambda infos: infos[2].offset_data,
        "cut off in padding": lambda infos: infos[3].offset_data + infos[3].size,
        "cut off between samples": lambda infos: infos[4].offset,
        "cut off between members of a sample": lambda infos: infos[3].offset,
        "cut off in a header": lambda infos: infos[3].offset + 100,
        "cut off before the end blocks": lambda infos: infos[-1].offset_data + infos[-1].size + -infos[-1].size % BLOCK,
        "empty file": lambda infos: 0,
    }.items():
        found += _disk(name, cut(at), resized, foreign=shard_lost)
    goes_on = Outcome("read", "continues after its end", SHARD, REST)
    found += _disk("two tars in one file", rewritten(lambda tar: tar + tar), resized, foreign=goes_on)
    found += _disk("garbage behind the end", rewritten(lambda tar: tar + b"?" * BLOCK), resized, foreign=goes_on)
    found += _disk("gzip named .tar", rewritten(gzip.compress), resized, foreign=HARMLESS)
    cut_gzip = rewritten(lambda tar: gzip.compress(tar)[:-100])
    found += _disk("gzip cut off", cut_gzip, None, foreign=Outcome("read", "cannot be read", SHARD, REST))
    no_tar = rewritten(lambda tar: b"<html>".ljust(len(tar)))
    begins_not = Outcome("read", "no tar header|wrong checksum", SHARD)
    found += _disk(
        "not a tar", no_tar, begins_not, Outcome("read", _CRC, SHARD), foreign=replace(begins_not, reports=REST)
    )

    # changed bytes
    checksum = Outcome("read", "wrong checksum|no tar header", (1,))
    for name, offset in {"flipped bit in a name": 2, "flipped bit in a size": 130, "bad header checksum": 150}.items():
        found += _disk(
            name,
            flip(lambda info, offset=offset: info.offset + offset),
            checksum,
            crc,
            foreign=replace(checksum, lost=SHARD, reports=REST),
        )
    found += _disk(
        "zeroed first header of a sample",
        zero(BLOCK, lambda info: info.offset, member=2),
        Outcome("read", "an index row covers no sample", (1,)),
        crc,
        foreign=goes_on,
    )
    found += _disk(
        "zeroed second header of a sample",
        zero(BLOCK, lambda info: info.offset),
        Outcome("decode", "holds no image", (1,)),
        crc,
        foreign=goes_on,
    )
    broken = Outcome("decode", "cannot decode the image", (1,))
    found += _disk("zeroed hole in an image", zero(64, lambda info: info.offset_data + 40), broken, crc, foreign=broken)
    no_label = Outcome("decode", r"label b'\\x00' is not a class number", (1,))
    label = dict(member=2)
    found += _disk("zeroed label", zero(1, lambda i: i.offset_data, **label), no_label, crc, foreign=no_label)
    unseen = Outcome("unseen", lost=(1,))
    found += _disk("flipped bit in a label", flip(lambda i: i.offset_data, **label), unseen, crc, foreign=unseen)
    found += _disk("flipped bit in a PNG", flip(lambda info: info.offset_data + 200), broken, crc, foreign=broken)
    jpeg = put("png", EXAMPLES["rgb.jpg"](), as_field="jpg")
    found += _disk(
        "flipped bit in a JPEG",
        flip(lambda info: info.offset_data + info.size * 3 // 4),
        unseen,
        crc,
        foreign=unseen,
        members=jpeg,
    )
    noticed = Outcome("decode", "the JPEG is damaged, and some of its pixels would be wrong", (1,))
    found += _disk(
        "zeroed hole in a JPEG",
        zero(64, lambda info: info.offset_data + info.size // 2),
        noticed,
        crc,
        foreign=noticed,
        members=jpeg,
    )

    # files of another set, and wrong numbers
    found += _disk("shards swapped", swapped, HARMLESS, Outcome("read", _CRC, ALL))
    rest = Outcome("read", "now has [0-9]+ bytes, but its manifest says", (1, 2, 3))
    found += _disk("shard shrunk while open", lambda folder: os.truncate(folder / FIRST, 1024), rest, late=True)
    found += _disk("shard replaced while open", rewritten(lambda tar: bytes(len(tar))), HARMLESS, late=True)
    digest = Outcome("open", "has SHA-256 .*, but its manifest says .*: run 'mps-shards repair'")
    moved = Outcome("read", "no tar header|wrong checksum|needs .* bytes, but only|covers two samples", (1, 2, 3))
    found += _disk("stale index", stale_index, moved, digest)
    bad_row = Outcome("read", "index row 1 of shard .* states bytes .*: run 'mps-shards repair'", SHARD)
    found += _disk("index row out of the shard", edited_index("offset", 1, 1 << 40), bad_row, digest)
    found += _disk("index rows that overlap", edited_index("offset", 1, 0), bad_row, digest)
    found += _disk(
        "index of fewer rows",
        rewritten(lambda index: index[: -16 * 2], INDEX_NAME),
        Outcome("open", "index.npy is not an index|has .* rows"),
    )
    found += _disk("missing index", lambda folder: (folder / INDEX_NAME).unlink(), Outcome("open", "No such file"))
    found += _disk("missing shard", lambda folder: (folder / FIRST).unlink(), Outcome("open", "No such file"))
    found += _disk(
        "manifest edited",
        rewritten(lambda text: text.replace(b'"cat"', b'"owl"'), MANIFEST_NAME),
        Outcome("open", "has a fingerprint that does not match"),
    )
    found += _disk("manifest cut off", rewritten(lambda text: text[:-9], MANIFEST_NAME), Outcome("open", "truncated"))

    # members that were damaged before packing
    found += _both("half a JPEG", put("png", jpeg([("k01.png", b"")])[0][1][:900], as_field="jpg"), one)
    found += _both("empty image", put("png", b""), Outcome("decode", "unknown format, 0 bytes", (1,)))
    found += _both("empty label", put("cls", b""), Outcome("decode", "label b'' is not a class number", (1,)))
    found += _both(
        "wrong extension", put("png", b"x", as_field="txt"), Outcome("decode", "holds no image .fields: cls, txt", (1,))
    )
    found += _both("missing image", without("png"), Outcome("decode", "holds no image", (1,)))
    found += _both("missing label", without("cls"), Outcome("decode", "has no label, but the set has labels", (1,)))
    found += _both(
        "two images",
        lambda m: [*m[:4], ("k01.jpg", EXAMPLES["rgb.jpg"]()), *m[4:]],
        Outcome("decode", "2 images", (1,)),
    )
    for name, text in {"no number": b"cat", "negative": b"-1", "a fraction": b"1.0", "huge": b"9" * 30}.items():
        found += _both(f"label {name}", put("cls", text), Outcome("decode", "is not a class number", (1,)))
    out_of_range = Outcome("decode", "label 3 of sample .* is not a class: the set has 3 classes", (1,))
    found += _both("label out of range", put("cls", b"3"), out_of_range, foreign=HARMLESS)

    # faults in keys and names
    back = Outcome("read", "comes back to the key", (4,))
    twin = Outcome("read", "duplicate file name", (*SHARD, 4), REST)
    double = Outcome("read", "holds the field 'cls' twice", (1,))
    found += _both("sample twice, side by side", twice, double, foreign=replace(twin, lost=SHARD))
    found += _both("sample twice, apart", again, HARMLESS, foreign=back)
    found += [
        Fault(
            name="members not side by side",
            kind="foreign",
            members=interleaved,
            outcome=(apart := Outcome("decode", "holds no image|comes back to the key", ALL[:8], 8)),
            verified=apart,
        )
    ]
    found += _both("key in two shards", renamed("k05"), HARMLESS)
    found += _both("dot in a folder", renamed("v1.2/k01"), HARMLESS)
    dotted = Outcome("decode", "holds no image", (1,))
    found += _both("dot in a name", renamed("k01.v2"), dotted)
    found += _both("space in a name", renamed("a b/k 01"), HARMLESS)
    found += _both("Unicode in a name", renamed("日本/été"), HARMLESS)
    found += _both("long name", renamed("d/" * 90 + "long" * 30), HARMLESS)
    for form, flavour in ((tarfile.GNU_FORMAT, "GNU"), (tarfile.PAX_FORMAT, "pax")):
        found.append(
            Fault(
                name=f"long Unicode name, {flavour}",
                kind="foreign",
                members=renamed("é/" * 90 + "ü" * 90),
                files=packed_by_tarfile(form),
                outcome=HARMLESS,
                verified=HARMLESS,
            )
        )

    # images and masks
    for name in (
        "cmyk.jpg",
        "ycck.jpg",
        "palette-translucent.png",
        "moving.gif",
        "rotated.jpg",
        "one-pixel.jpg",
    ):
        found += _both(f"image {name}", picture(name), HARMLESS)
    deep = Outcome("decode", "gray values from .*, which 8 bits would clip", (1,))
    found += _both("image sixteen-bit.png", picture("sixteen-bit.png"), deep)
    thin = encoded(Image.fromarray(pixels(20_000, 1, seed=0)), "PNG")
    found += _both("image of 1 x 20000", put("png", thin), HARMLESS)
    bomb = Outcome("decode", "at most 178,956,970 are accepted|exceeds limit", (1,))
    found += _both("PNG of 3.6 billion pixels", put("png", shouting("png", 60_000, 60_000)), bomb)
    found += _both("JPEG of 3.6 billion pixels", put("png", shouting("jpg", 60_000, 60_000), as_field="jpg"), bomb)
    found += _both(
        "mask of another size",
        put("mask.png", mask_of(1, height=11)),
        Outcome("decode", r"the label map is 12 x 11 pixels, but its image is 12 x 10 pixels", (1,)),
        masks=True,
    )
    unknown = Outcome("decode", "label id [37] at column .* is not a class: the set has 3 classes", (1,))
    found += _both("mask with unknown ids", put("mask.png", mask_of(1, highest=7)), unknown, HARMLESS, masks=True)
    colour = Outcome("decode", "the mask has mode RGB", (1,))
    found += _both("mask in colour", put("mask.png", EXAMPLES["rgb.png"]()), colour, masks=True)
    found += _both("missing mask", without("mask.png"), Outcome("decode", "has no mask.png", (1,)), masks=True)
    return found


FAULTS = _faults()


def summary() -> str:
    """Return the corpus as a Markdown table: when each fault is found, and how much "skip" leaves out."""
    lines = ["| fault | our sets | with `verify=True` | foreign tars |", "|---|---|---|---|"]
    names = dict.fromkeys(fault.name for fault in FAULTS)
    for name in names:
        found = {fault.kind: fault for fault in FAULTS if fault.name == name}
        ours, theirs = found.get("indexed"), found.get("foreign")
        cells = [str(ours.outcome), str(ours.verified)] if ours else ["", ""]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {theirs.outcome if theirs else ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(summary())
