"""The key rule: any path becomes exactly one WebDataset key, and comes back as it was."""

import io
import os
import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator

from mps_shards.errors import DataError
from mps_shards.shards.key_names import encode_key, key_to_path, member_name, split_member
from mps_shards.shards.tar import END, header

# Names of files as a POSIX folder may hold them: any bytes but zero and the slash, and no dot folders.
parts = (
    (
        st.binary(min_size=1, max_size=12)
        | st.text(min_size=1, max_size=12).map(lambda text: text.encode("utf-8", "replace"))
    )
    .map(lambda name: os.fsdecode(name.replace(b"\0", b"").replace(b"/", b"")))
    .filter(lambda name: name not in ("", ".", ".."))
)
odd_parts = st.sampled_from(
    [
        "a.b",
        ".",
        "v1.2",
        "100%",
        "%2E",
        "a\\b",
        "__meta__",
        "__x__",
        "__",
        "____",
        "ü",
        "日本",
        "a b",
        "a\nb",
        " x ",
        "CLS",
    ]
).filter(lambda name: name != ".")
paths = st.lists(parts | odd_parts, min_size=1, max_size=4).map("/".join)


@given(paths)
@example("__meta__/x")
@example("cat/__x__")
@example("a.b/v1.2.final")
@example("line\nfeed/tab\t")
@example(os.fsdecode(b"latin-1 \xe9"))
def test_a_key_gives_its_path_back(path: str):
    assert key_to_path(encode_key(path)) == path


@given(paths, st.sampled_from(["jpg", "JPG", "png", "webp", "cls", "mask.png"]))
@example("__meta__/x", "jpg")
@example("__meta__", "jpg")
@example("a.b/c.d", "mask.png")
def test_webdataset_takes_a_key_whole(path: str, field: str):
    name = member_name(encode_key(path), field)

    assert base_plus_ext(name) == (encode_key(path), field)
    assert split_member(name) == (encode_key(path), field.lower())


@given(st.lists(paths, min_size=2, max_size=8, unique=True))
@example(["a.b", "a%2Eb"])
@example(["__x__/a", "%5F_x__/a", "%255F_x__/a"])
def test_different_paths_have_different_keys(found: list[str]):
    assert len({encode_key(path) for path in found}) == len(found)


@given(st.lists(paths, min_size=1, max_size=6, unique=True))
@example(["__meta__/x", "__y__", "z"])
def test_webdataset_reads_one_sample_a_path_and_skips_none(found: list[str]):
    tar = io.BytesIO()
    for path in found:
        for field in ("cls", "JPG"):
            tar.write(header(member_name(encode_key(path), field), 0))
    tar.write(END)
    tar.seek(0)

    files = ({**file, "__url__": ""} for file in tar_file_iterator(tar))
    samples = list(group_by_keys(files))

    assert [key_to_path(sample["__key__"]) for sample in samples] == found
    assert all(sample["cls"] == sample["jpg"] == b"" for sample in samples)


@given(paths)
def test_listings_show_a_key_on_one_line(path: str):
    assert encode_key(path).isprintable() or not any(ord(c) < 32 or ord(c) == 127 for c in encode_key(path))
    assert "\n" not in encode_key(path) and "\\" not in encode_key(path)


def test_common_names_stay_as_they_are():
    for path in ("cat/n01440764_10026", "train/cat-1/IMG 0001 (2)", "übung/図1", "_x_/y", "a+b=c,d~e"):
        assert encode_key(path) == path


@pytest.mark.parametrize(
    ("name", "key", "field"),
    [
        ("x.jpg", "x", "jpg"),
        ("a/b/x.jpg", "a/b/x", "jpg"),
        ("a.b/x.mask.PNG", "a.b/x", "mask.png"),
        ("./x.jpg", "./x", "jpg"),
        ("x.", "x", ""),
    ],
)
def test_a_member_splits_as_webdataset_splits_it(name: str, key: str, field: str):
    assert split_member(name) == (key, field)
    assert base_plus_ext(name) == (key, name[len(key) + 1 :])


@pytest.mark.parametrize("name", ["", "x", "a.b/x", ".jpg"])
def test_a_member_without_key_and_field_is_an_error_that_names_it(name: str):
    assert base_plus_ext(name) == (None, None)
    with pytest.raises(DataError, match="has no key or no field"):
        split_member(name)


def test_names_survive_tarfile_too():
    name = member_name(encode_key(os.fsdecode(b"caf\xe9.d/\xc3\xbc/x")), "jpg")

    with tarfile.open(fileobj=io.BytesIO(header(name, 0) + END)) as tar:
        assert tar.getnames() == [name] == ["caf%E9%2Ed/ü/x.jpg"]
