"""Headers and the walk over members agree with the standard library's tarfile; damage is an error, never silence."""

import io
import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mps_shards.errors import ShardError
from mps_shards.shards.tar import (
    BLOCK,
    END,
    REGULAR,
    Member,
    _plain_members,
    data_size,
    header,
    members,
    padding,
    pax_records,
    walk,
)
from tests.support.tars import (
    FORMATS,
    PLAIN,
    by_tarfile,
    contents,
    field,
    made,
    names,
    naming,
    of_kind,
    packed,
    pax,
    sealed,
    walked,
)


@given(st.lists(st.tuples(names, contents), max_size=5))
@example([("a/" * 70 + "x.jpg", b"1"), ("ü" * 120 + ".jpg", b"2"), ("x" * 101, b"3"), ("y" * 100, b"4")])
def test_what_is_written_is_read_alike_by_tarfile_and_by_us(files: list[tuple[str, bytes]]):
    tar = packed(files)

    assert walked(tar) == by_tarfile(tar) == files
    assert len(tar) % BLOCK == 0


@given(names, st.integers(0, 8**11 - 1))
@example("cat/x.jpg", 0)
@example("d" * 99 + "/x.jpg", 5)
@example("d" * 155 + "/" + "f" * 100, 5)
@example("d" * 156 + "/" + "f" * 100, 5)
@example("f" * 101, 5)
def test_a_header_is_the_one_of_tarfile_with_all_else_fixed(name: str, size: int):
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644

    assert header(name, size) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def test_plain_names_cost_one_block_and_hold_no_time_or_owner():
    block = header("cat/x.jpg", 1234)

    info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    assert len(block) == BLOCK
    assert (info.name, info.size, info.mode) == ("cat/x.jpg", 1234, 0o644)
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize("form", FORMATS)
@given(st.lists(st.tuples(names, contents), max_size=4))
def test_foreign_formats_are_walked_as_tarfile_reads_them(form: str, files: list[tuple[str, bytes]]):
    try:
        tar = made(files, FORMATS[form], mtime=1.5e9, uid=1000, uname="somebody")
    except (ValueError, UnicodeEncodeError):  # ustar cannot hold every name
        return

    assert walked(tar) == by_tarfile(tar)


def test_folders_links_and_devices_are_passed_over():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("odd")
            info.type, info.linkname = kind, "x.jpg"
            archive.addfile(info)
        info = tarfile.TarInfo("x.jpg")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))

    assert walked(stream.getvalue()) == [("x.jpg", b"abc")]


def test_an_empty_file_of_old_whose_name_ends_in_a_slash_is_a_folder():
    tar = of_kind(b"\0", "cat/", 0) + header("cat/x.jpg", 3) + b"abc" + padding(3) + END

    assert walked(tar) == by_tarfile(tar) == [("cat/x.jpg", b"abc")]


@pytest.mark.parametrize(
    "tar",
    [
        of_kind(b"\0", "cat/", 3) + b"abc" + padding(3),
        of_kind(b"L", "././@LongLink", 5) + b"x.jpg" + padding(5) + of_kind(b"\0", "cat/", 0),
    ],
    ids=["with data", "named a file"],
)
def test_what_is_a_folder_to_one_reader_and_a_file_to_another_is_refused(tar: bytes):
    with pytest.raises(ShardError, match=r"x\.tar: the header at byte \d+ may mean a folder or a file"):
        walked(tar + END)


def test_pax_headers_for_all_members_and_of_times_change_nothing():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", pax_headers={"comment": "all of it"}) as archive:
        info = tarfile.TarInfo("x.jpg")
        info.mtime, info.size = 12.5, 3
        archive.addfile(info, io.BytesIO(b"abc"))

    assert walked(stream.getvalue()) == [("x.jpg", b"abc")]


@pytest.mark.parametrize("kind", [b"\0", b"7"], ids=["v7", "contiguous"])
def test_older_kinds_of_regular_file_are_read(kind: bytes):
    tar = of_kind(kind, "x.jpg", 3) + b"abc" + padding(3) + END

    assert walked(tar) == by_tarfile(tar) == [("x.jpg", b"abc")]


def test_a_checksum_over_signed_bytes_is_accepted_as_tarfile_does():
    block = bytearray(made([("\xe9t\xe9.jpg", b"abc")], tarfile.GNU_FORMAT)[:BLOCK])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in block)
    tar = bytes(block) + b"abc" + padding(3) + END

    assert walked(tar) == by_tarfile(tar)


@pytest.mark.parametrize(
    ("tar", "complaint"),
    [
        (PLAIN[:20] + b"?" + PLAIN[21:] + b"abc" + padding(3), "header at byte 0 has a wrong checksum"),
        (b"\xff\xd8\xff" + bytes(600), "no tar header at byte 0"),
        (b"no tar at all".ljust(BLOCK), "no tar header at byte 0"),
        (field(PLAIN, 124, b"twelve bytes"), "no tar header at byte 0"),
        (field(PLAIN, 124, b"\x81\0\0\0\0\0\0\0\0\0\0\3") + b"abc" + padding(3), "no tar header at byte 0"),
        (field(PLAIN, 156, b"S") + b"abc" + padding(3), "member at byte 0 is a sparse file"),
        (field(PLAIN, 124, b"-0000000777\0") + bytes(BLOCK), "no tar header at byte 0"),
        (field(PLAIN, 124, b"00000010000\0") + bytes(BLOCK), "member at byte 0 needs 4096 bytes, but only 512 follow"),
        (field(PLAIN, 124, b"\x80\0\0\0\0\0\0\xff\0\0\0\0") + bytes(BLOCK), "needs .* bytes, but only 512"),
        (field(PLAIN, 156, b"L") + b"name" + bytes(508), None),
        (field(field(PLAIN, 156, b"L"), 124, b"77777777777\0") + bytes(BLOCK), "states a name of"),
        (field(field(PLAIN, 156, b"x"), 124, b"77777777777\0") + bytes(BLOCK), "states a name of"),
        (packed([("a.jpg", b"abc")])[:-1024] + PLAIN[:100] + b"?" * 412 + bytes(BLOCK), "at byte 1024"),
        (PLAIN + b"abc", None),
        (PLAIN, "member at byte 0 needs 3 bytes, but only 0 follow"),
        (PLAIN + b"ab", "member at byte 0 needs 3 bytes, but only 2 follow"),
    ],
)
def test_damage_is_an_error_that_names_the_place(tar: bytes, complaint: str | None):
    if complaint is None:
        assert walked(tar) in ([], [("x.jpg", b"abc")])
        return
    with pytest.raises(ShardError, match=rf"^x\.tar: .*{complaint}"):
        members(tar, where="x.tar")


def test_a_size_ends_at_its_first_nul_as_tarfile_has_it():
    tar = field(PLAIN, 124, b"\0\0\0\0001\0\0\0\0\0\0\0") + END

    assert walked(tar) == by_tarfile(tar) == [("x.jpg", b"")]


@pytest.mark.parametrize(
    "records",
    [
        b"nonsense",
        b"30 path=y.jpg\n",
        b"0 path=y.jpg\n",
        b"3 \n",
        b"-5 path=y.jpg\n",
        b"9" * 5000 + b" path=y.jpg\n",
        b"13 size=-12\n",
        b"10 size=x\n",
        "11 size=²\n".encode(),
        b"%d size=%s\n" % (5006 + 4, b"9" * 5000),
        b"17 path=y.jpg\n",
    ],
)
def test_a_malformed_pax_header_is_an_error(records: bytes):
    with pytest.raises(ShardError, match=r"^x\.tar: "):
        members(pax(records), where="x.tar")


def test_a_pax_header_names_and_sizes_the_next_member_only():
    tar = pax(b"14 path=y.jpg\n")[: -len(END)] + PLAIN + b"abc" + padding(3) + END

    assert walked(tar) == [("y.jpg", b"abc"), ("x.jpg", b"abc")]


@settings(max_examples=300)
@given(st.binary(max_size=2048) | st.binary(max_size=600).map(lambda data: PLAIN + data), st.data())
def test_no_bytes_make_the_walk_fail_otherwise(tar: bytes, data: st.DataObject):
    for block in range(0, len(tar) - BLOCK, BLOCK):
        if data.draw(st.booleans()):  # get behind the checksum
            tar = tar[:block] + sealed(tar[block : block + BLOCK]) + tar[block + BLOCK :]

    try:
        found = members(tar, where="x.tar")
    except ShardError:
        return
    assert all(0 <= member.start <= member.stop <= len(tar) for member in found)


@settings(max_examples=200)
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 511), st.integers(1, 255))
def test_no_flipped_byte_of_a_header_goes_unseen(form: str, place: int, change: int):
    tar = bytearray(made([("a" * 120 + "/" + "b" * 90, b"abc"), ("y.jpg", b"de")], FORMATS[form]))
    tar[place] ^= change

    try:
        found = walked(bytes(tar))
    except ShardError:
        return
    # only where the byte has no meaning: blanks and zeros around the checksum itself
    assert 148 <= place < 156 and found == by_tarfile(bytes(tar))


@given(
    st.lists(st.tuples(names, st.binary(max_size=600)), max_size=4),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255) | st.sampled_from(b"\0 /017")), max_size=2),
    st.integers(0, 600),
)
@example([("x_y.jpg", b"abc")], [(1, 0)], 0)  # a name with a NUL in it
def test_the_short_way_through_plain_headers_finds_what_the_walk_finds(
    files: list[tuple[str, bytes]], changes: list[tuple[int, int]], missing: int
):
    tar = bytearray(packed(files)[: -len(END)])
    for place, value in changes if tar else ():
        start = place % len(tar) // BLOCK * BLOCK
        tar[start + place % BLOCK] = value
        if sum(tar[start + 257 : start + 262]) == sum(b"ustar"):
            tar[start : start + BLOCK] = sealed(bytes(tar[start : start + BLOCK]))
    content = bytes(tar[: len(tar) - missing])

    found = _plain_members(content)

    if found is not None:
        entries = walk(lambda start, stop: content[start:stop], len(content), where="x.tar")
        assert found == [Member(name, start, stop) for kind, name, _, start, stop in entries if kind in REGULAR]


def test_what_packing_writes_takes_the_short_way():
    assert _plain_members(packed([("cat/x.jpg", b"abc"), ("cat/x.cls", b"1")])[: -len(END)]) is not None
    assert _plain_members(packed([("cat/\u00e9.jpg", b"abc")])[: -len(END)]) is None


def test_walking_a_view_copies_no_data():
    tar = packed([("x.jpg", bytes(1000))])
    inside = memoryview(b"?" * BLOCK + tar)[BLOCK:]

    [member] = members(inside, where="x.tar")

    assert (member.start, member.stop) == (BLOCK, BLOCK + 1000)


def test_zero_blocks_end_the_walk():
    assert walked(END + PLAIN + b"abc" + padding(3)) == []
    assert walked(b"") == []


def test_links_and_folders_hold_no_data_whatever_their_header_says():
    for kind in b"123456":
        block = field(PLAIN, 156, bytes([kind]))
        assert data_size(block, where="x.tar", position=0) == 0


def test_a_pax_header_of_a_hundred_thousand_records_is_read_in_linear_time():
    """A copy of the rest for each record would move 200 GB here: the test would time out."""
    content = b"5 a=\n" * 200_000 + b"12 path=x.y\n"

    assert pax_records(content, where="s.tar") == {"a": "", "path": "x.y"}


@pytest.mark.parametrize("kind", b"xgLKX")
def test_a_header_that_claims_megabytes_of_names_is_refused(kind: int):
    block = bytearray(header("a", (1 << 20) + 1))
    block[156] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)

    with pytest.raises(ShardError, match="states a name of 1048577 bytes"):
        data_size(bytes(block), where="s.tar", position=0)


@pytest.mark.parametrize(("kind", "content"), [(b"L", bytes(6)), (b"x", b"8 path=\n")])
def test_an_empty_long_name_is_refused(kind: bytes, content: bytes):
    naming = tarfile.TarInfo("name")
    naming.type, naming.size = kind, len(content)
    before = naming.tobuf(tarfile.GNU_FORMAT) + content + padding(len(content))

    with pytest.raises(ShardError, match="x: the header before byte 1024 states an empty name"):
        members(before + header("a.cls", 1) + b"5" + padding(1), where="x")


@pytest.mark.parametrize(
    "headers",
    [
        naming(b"x", b"12 path=a.b\n") + naming(b"x", b"11 mtime=1\n"),
        naming(b"L", b"a.b\0") + naming(b"L", b"c.d\0"),
        naming(b"x", b"12 path=a.b\n") + naming(b"g", b"") + naming(b"L", b"c.d\0"),
        naming(b"L", b"a.b\0") + naming(b"X", b"12 path=c.d\n"),
    ],
    ids=["pax", "gnu", "gnu after pax", "pax after gnu"],
)
def test_a_member_that_two_headers_name_is_refused(headers: bytes):
    with pytest.raises(ShardError, match=r"two headers before byte \d+ name the same member"):
        walked(headers + PLAIN + b"abc" + padding(3) + END)


def test_a_long_name_ends_at_its_nul_wherever_that_is():
    for content in (b"a.b\0", b"a.b", b"a.b\0c.d"):
        tar = naming(b"L", content) + PLAIN + b"abc" + padding(3) + END
        assert walked(tar) == by_tarfile(tar) == [("a.b", b"abc")]
    unended = of_kind(b"L", "name", 3) + b"a.bcd".ljust(BLOCK, b"\0") + PLAIN + b"abc" + padding(3) + END

    assert walked(unended) == by_tarfile(unended) == [("a.bcd", b"abc")]


def test_a_kind_of_member_that_nobody_knows_is_passed_over_with_the_size_that_pax_gives_it():
    tar = naming(b"x", b"12 size=600\n") + of_kind(b"V", "v.jpg", 3) + bytes(1024) + PLAIN + b"abc" + padding(3) + END

    assert walked(tar) == by_tarfile(tar)
    assert [data for _, data in walked(tar)] == [b"abc"]


@pytest.mark.parametrize("kind", [b"x", b"X"])
def test_a_pax_header_of_either_kind_names_a_member_past_a_global_one(kind: bytes):
    headers = naming(kind, b"12 path=a.b\n") + naming(b"g", b"12 comment=\n")
    tar = headers + PLAIN + b"abc" + padding(3) + END

    assert walked(tar) == by_tarfile(tar) == [("a.b", b"abc")]


@pytest.mark.parametrize(
    ("kind", "content", "complaint"),
    [
        (b"g", b"12 path=a.b\n", "states one name or size for all members"),
        (b"g", b"9 size=1\n", "states one name or size for all members"),
        (b"x", b"22 GNU.sparse.major=1\n", "is a sparse file, which shards cannot hold"),
        (b"g", b"22 GNU.sparse.major=1\n", "is a sparse file, which shards cannot hold"),
    ],
)
def test_pax_headers_that_make_a_member_another_are_refused(kind: bytes, content: bytes, complaint: str):
    with pytest.raises(ShardError, match=complaint):
        walked(naming(kind, content) + PLAIN + b"abc" + padding(3) + END)


@pytest.mark.parametrize("name", ["._a.jpg", "__MACOSX/._a.jpg", "a/.DS_Store", "./.a.jpg", "d\\._a.jpg", ".hidden"])
def test_hidden_files_are_members_of_no_sample(name: str):
    assert [found for found, _ in walked(packed([(name, b"junk"), ("a.jpg", b"x"), (name, b"")]))] == ["a.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", ".d/a.jpg", "a..jpg", "d./a.jpg", "..d/a.jpg"])
def test_a_dot_elsewhere_hides_nothing(name: str):
    assert walked(packed([(name, b"x")])) == [(name, b"x")]
