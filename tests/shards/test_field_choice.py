"""Which fields are image and target: as named, else guessed where there is no doubt; and what is said otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.raw_sample import RawSample


def sample(**fields: bytes) -> RawSample:
    named = {name.replace("__", "."): content for name, content in fields.items()}
    return RawSample(key="a/x", shard="s.tar", fields=named)


def plain(raw: RawSample, image: str | None = None, target: str | None = None, classes: tuple[str, ...] = ()):
    choice = FieldChoice.parsed(image, target) or FieldChoice()
    return choice.naming(classes).plain(raw).fields


@pytest.mark.parametrize(
    ("fields", "image", "target", "expected"),
    [
        ({"jpg": b"I", "cls": b"3", "txt": b"T"}, None, None, {"jpg": b"I", "cls": b"3"}),
        ({"jpg": b"I", "mask__png": b"M", "json": b"{}"}, None, None, {"jpg": b"I", "mask.png": b"M"}),
        ({"jpg": b"I", "txt": b"T"}, None, None, {"jpg": b"I", "txt": b"T"}),
        ({"png": b"P", "webp": b"W", "cls": b"3"}, "jpg;webp;png", None, {"webp": b"W", "cls": b"3"}),
        ({"left__jpg": b"L", "right__jpg": b"R"}, ".RIGHT.jpg", None, {"jpg": b"R"}),
        ({"img": b"I"}, "img", None, {"jpg": b"I"}),  # what it is, its content says
        ({"jpg": b"I", "png": b"M"}, None, "png", {"jpg": b"I", "mask.png": b"M"}),
        ({"jpg": b"I", "seg__tif": b"M", "cls": b"1"}, None, "seg.tif", {"jpg": b"I", "mask.png": b"M"}),
        ({"jpg": b"I", "cls": b"1", "mask__png": b"M"}, None, "cls", {"jpg": b"I", "cls": b"1"}),
        ({"jpg": b"I", "cls": b"1", "mask__png": b"M"}, None, "none", {"jpg": b"I"}),
        ({"jpg": b"I", "index": b" 7\n"}, None, "cls;index", {"jpg": b"I", "cls": b"7"}),
        ({"jpg": b"I", "json": b'{"Label": 5}'}, None, "json:Label", {"jpg": b"I", "cls": b"5"}),
        ({"jpg": b"I", "json": b'{"meta": {"id": "6"}}'}, None, "json:meta.id", {"jpg": b"I", "cls": b"6"}),
    ],
)
def test_a_sample_becomes_one_as_our_own_sets_hold_it(fields, image, target, expected):
    assert plain(sample(**fields), image, target) == expected


@pytest.mark.parametrize(
    ("target", "fields"), [("json:label", {"json": b'{"label": "dog"}'}), ("cls", {"cls": b"dog"})]
)
def test_labels_may_be_names_where_the_classes_are_named(target, fields):
    raw = sample(jpg=b"I", **fields)

    assert plain(raw, target=target, classes=("cat", "dog"))["cls"] == b"1"
    with pytest.raises(DecodeError, match=r"'dog'.* is not a class number"):
        plain(raw, target=target)
    with pytest.raises(DecodeError, match="none of the 1 class names"):
        plain(raw, target=target, classes=("cat",))


@pytest.mark.parametrize(
    ("fields", "image", "target", "complaint"),
    [
        (
            {"jpg": b"", "png": b""},
            None,
            None,
            r"holds 2 images \(fields: jpg, png\); name the field of the image, such as image=",
        ),
        (
            {"v2__jpg": b""},
            None,
            None,
            r"holds no image \(fields: v2.jpg\); name the field of the image, such as image=\"v2.jpg",
        ),
        (
            {"jpg": b"", "cls": b"1", "mask__png": b""},
            None,
            None,
            r"holds 2 targets .*; name the field of the target, such as target=\"cls\"",
        ),
        ({"jpg": b""}, "png;webp", None, r"has no png or webp, which image= names \(fields: jpg\)"),
        ({"jpg": b""}, None, "json:label", r"has no json:label, which target= names \(fields: jpg\)"),
        ({"jpg": b"", "json": b"{"}, None, "json:label", "its .json is not JSON"),
        ({"jpg": b"", "json": b'{"a": 1}'}, None, "json:label", "its .json has no 'label'"),
        ({"jpg": b"", "json": b"[1]"}, None, "json:label", "its .json has no 'label'"),
        *(
            ({"jpg": b"", "json": b'{"label": %s}' % value}, None, "json:label", "is not a class number")
            for value in (b"-1", b"1.0", b"true", b"null", b"[1]", b'"cat"', b"1000000000000000000")
        ),
    ],
)
def test_a_sample_in_doubt_is_an_error_that_names_it_and_the_argument(fields, image, target, complaint):
    with pytest.raises(DecodeError, match=rf"sample 'a/x' of shard s.tar.*{complaint}"):
        plain(sample(**fields), image, target)


@pytest.mark.parametrize(
    ("image", "target", "complaint"),
    [
        ("", None, "has an empty field name"),
        ("jpg;;png", None, "has an empty field name"),
        ("json:image", None, "a field of its own"),
        (None, "json:", "has an empty field name"),
        (None, ":label", "has an empty field name"),
        (None, "cls;mask.png", "names both masks and labels"),
    ],
)
def test_a_choice_that_cannot_work_is_refused(image, target, complaint):
    with pytest.raises(ConfigError, match=complaint):
        FieldChoice.parsed(image, target)


names = st.text("abcxyz.", min_size=1, max_size=6).filter(lambda name: name.strip("."))


@given(st.lists(names, max_size=3), st.lists(st.tuples(names, names), max_size=3))
def test_what_a_manifest_records_is_the_choice_that_was_made(image, target):
    made = FieldChoice.parsed(";".join(image) or None, ";".join(f"{a.strip('.')}:{b}" for a, b in target) or None)

    assert FieldChoice.recorded(made.options() if made else {}) == made
