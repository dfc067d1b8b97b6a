"""A raw sample finds its image and its label, or says what it holds instead."""

import pytest

from mps_shards.errors import DecodeError
from mps_shards.shards.raw_sample import IMAGE_FIELDS, RawSample


def sample(**fields: bytes) -> RawSample:
    return RawSample(
        key="cat/x", shard="s-000001.tar", fields={name.replace("_", "."): b for name, b in fields.items()}
    )


@pytest.mark.parametrize("field", IMAGE_FIELDS)
def test_the_image_is_found_by_its_extension(field: str):
    assert sample(**{"cls": b"1", field: b"pixels", "json": b"{}"}).image() == (field, b"pixels")


def test_a_mask_is_not_taken_for_the_image():
    assert sample(mask_png=b"mask", jpg=b"pixels").image() == ("jpg", b"pixels")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "no image (fields: nothing)"),
        ({"cls": b"1", "txt": b""}, "no image (fields: cls, txt)"),
        ({"mask_png": b""}, "no image (fields: mask.png)"),
        ({"jpg": b"", "png": b""}, "2 images (fields: jpg, png)"),
    ],
)
def test_no_image_or_several_are_an_error_that_lists_the_fields(fields: dict[str, bytes], complaint: str):
    with pytest.raises(DecodeError) as raised:
        sample(**fields).image()

    assert str(raised.value) == f"sample 'cat/x' of shard s-000001.tar holds {complaint}"


@pytest.mark.parametrize(
    ("content", "label"),
    [(b"0", 0), (b"7", 7), (b" 12\n", 12), (b"007", 7), (b"999999999999999999", 10**18 - 1)],
)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_a_label_is_a_whole_number_in_ascii(content: bytes, label: int, kind: type):
    assert sample(cls=kind(content)).label() == label


def test_no_label_is_minus_one():
    assert sample(jpg=b"pixels").label() == -1


@pytest.mark.parametrize(
    "content", [b"", b" ", b"-1", b"+1", b"1.0", b"cat", b"1 2", b"0x1", b"1_0", b"\xb2", "٣".encode(), b"9" * 19]
)
def test_a_label_that_is_no_class_number_is_an_error_that_shows_it(content: bytes):
    with pytest.raises(DecodeError, match=r"sample 'cat/x' of shard s-000001\.tar: label b.* is not a class number"):
        sample(cls=content).label()
