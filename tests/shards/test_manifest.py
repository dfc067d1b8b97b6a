"""A manifest is read as it was written; a wrong one is refused, with the names of the file and the field."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ManifestError
from mps_shards.shards.manifest import Manifest, Packed, ShardRecord, manifest_bytes, parse_manifest

DIGEST = "0123456789abcdef" * 4
names = st.from_regex(r"[a-zA-Z0-9_ -][a-zA-Z0-9_ .-]{0,30}", fullmatch=True)
counts = st.integers(0, 2**40)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=9)


def manifest_of(shards: list[ShardRecord], **fields: Any) -> Manifest:
    given = {
        "task": "classification",
        "classes": ("cat", "dog"),
        "samples": sum(shard.samples for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
        "shards": tuple(shards),
        "index_sha256": DIGEST,
        "packed": Packed(version="0.1.0", layout="class folders", seed=0),
    }
    return Manifest(**{**given, **fields})


shards = st.lists(
    st.builds(
        lambda samples, more, **fields: ShardRecord(samples=samples, bytes=512 * samples + more, **fields),
        samples=counts,
        more=counts,
        name=names,
        sha256=digests,
    ),
    max_size=5,
    unique_by=lambda shard: shard.name,
)
manifests = st.builds(
    manifest_of,
    shards,
    task=st.sampled_from(["classification", "multilabel", "captions", "segmentation", "unlabeled"]),
    classes=st.lists(st.text(max_size=12), max_size=4).map(tuple),
    ignore_index=st.none() | st.integers(-1000, 70000),
    index_sha256=digests,
    labels_sha256=st.just(msgspec.UNSET) | digests,
    packed=st.builds(
        Packed,
        version=st.text(max_size=9),
        layout=st.text(max_size=9),
        seed=st.none() | st.integers(0, 2**64 - 1),
        options=st.dictionaries(st.text(max_size=9), plain, max_size=4),
    ),
)


@given(manifests)
def test_a_manifest_comes_back_as_it_was_written(manifest: Manifest):
    read = parse_manifest(manifest_bytes(manifest), where="manifest.json")

    assert read == msgspec.structs.replace(manifest, fingerprint=manifest.computed_fingerprint())


@given(manifests)
def test_equal_manifests_are_equal_bytes_and_readable_by_people(manifest: Manifest):
    content = manifest_bytes(manifest)

    assert content == manifest_bytes(parse_manifest(content, where="manifest.json"))
    assert content.endswith(b"}\n") and content.count(b"\n") > 8
    assert json.loads(content)["format"] == "mps-shards"


ONE = ShardRecord(name="s-000000.tar", samples=3, bytes=2048, sha256=DIGEST)
TWO = ShardRecord(name="s-000001.tar", samples=4, bytes=4096, sha256=DIGEST)


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "unlabeled"},
        {"classes": ("dog", "cat")},
        {"ignore_index": 255},
        {"index_sha256": "f" * 64},
        {"shards": (TWO, ONE)},
        {"shards": (ONE, msgspec.structs.replace(TWO, sha256="e" * 64))},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_decides_on_samples_and_their_order_changes_the_fingerprint(changed: dict[str, Any]):
    before = manifest_of([ONE, TWO])
    after = msgspec.structs.replace(before, **changed)

    assert before.computed_fingerprint() != after.computed_fingerprint()


def test_how_a_set_was_packed_does_not_change_the_fingerprint():
    before = manifest_of([ONE, TWO])
    after = msgspec.structs.replace(before, packed=Packed(version="9", layout="other", seed=None, options={"x": 1}))

    assert before.computed_fingerprint() == after.computed_fingerprint()


def test_optional_fields_that_are_not_used_are_not_in_the_file():
    content = json.loads(manifest_bytes(manifest_of([ONE])))

    assert content.keys() == {
        *("format", "version", "task", "classes", "ignore_index", "samples", "bytes", "shards"),
        *("index_sha256", "packed", "fingerprint"),
    }


def test_the_fingerprint_of_a_set_without_columns_is_that_of_earlier_versions():
    assert (
        manifest_of([ONE, TWO]).computed_fingerprint()
        == "2ec1b9acf546eb4c6ebd7aea43b28b8d631835d16ed3a0581e23aea03e1d3191"
    )


def test_columns_come_back_and_change_the_fingerprint():
    one, two = (manifest_of([ONE], task="regression", classes=(), columns=names) for names in (("age",), ("age", "x")))

    assert parse_manifest(manifest_bytes(two), where="manifest.json").column_names == ("age", "x")
    assert one.computed_fingerprint() != two.computed_fingerprint()


@pytest.mark.parametrize(("task", "columns"), [("regression", msgspec.UNSET), ("regression", ()), ("captions", ("a",))])
def test_columns_go_with_regression_alone(task, columns):
    content = manifest_bytes(manifest_of([ONE], task=task, columns=columns))

    with pytest.raises(ManifestError, match=rf"states the task {task} with \d columns"):
        parse_manifest(content, where="manifest.json")


def test_labels_do_not_change_the_fingerprint():
    bare, labelled = manifest_of([ONE]), manifest_of([ONE], labels_sha256=DIGEST)

    assert bare.computed_fingerprint() == labelled.computed_fingerprint()


def edited(**fields: Any) -> bytes:
    """A manifest with these fields put in by hand; None takes a field out."""
    content = json.loads(manifest_bytes(manifest_of([ONE, TWO])))
    for name, value in fields.items():
        if value is None:
            del content[name]
        else:
            content[name] = value
    return json.dumps(content).encode()


def shard(**fields: Any) -> list[dict[str, Any]]:
    return [{**msgspec.to_builtins(ONE), **fields}, msgspec.to_builtins(TWO)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (manifest_bytes(manifest_of([ONE, TWO]))[:-40], "truncated"),
        (edited(format="other"), r"Invalid enum value 'other' - at `\$\.format`"),
        (edited(version=2), r"Invalid enum value 2 - at `\$\.version`"),
        (edited(task="detection"), r"'detection' - at `\$\.task`"),
        (edited(task=None), "missing required field `task`"),
        (edited(shards=None), "missing required field `shards`"),
        (edited(extra=1), "unknown field `extra`"),
        (edited(samples="7"), r"Expected `int`, got `str` - at `\$\.samples`"),
        (edited(samples=-1), r"at `\$\.samples`"),
        (edited(samples=2**63), r"at `\$\.samples`"),
        (edited(samples=8), r"states 8 samples, but its shards add up to 7"),
        (edited(bytes=1), r"states 1 bytes, but its shards add up to 6144"),
        (edited(index_sha256="abc"), r"at `\$\.index_sha256`"),
        (edited(shards=shard(sha256="G" * 64)), r"at `\$\.shards\[0\]\.sha256`"),
        (edited(shards=shard(samples=-3)), r"at `\$\.shards\[0\]\.samples`"),
        (edited(shards=shard(name="../../etc/passwd")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="/etc/passwd")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name=".hidden.tar")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="..")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="a\\b.tar")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="a\0.tar")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="x" * 256)), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="a\n.tar")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="a.tar\n")), r"at `\$\.shards\[0\]\.name`"),
        (edited(shards=shard(name="a\x1b[2J.tar")), r"at `\$\.shards\[0\]\.name`"),
        (
            edited(samples=2**61 + 4, shards=shard(samples=2**61)),
            f"states {2**61} samples for s-000000.tar, but its 2048 bytes",
        ),
        (edited(classes=["x"] * (2**20 + 1)), r"length <= 1048576 - at `\$\.classes`"),
        (edited(ignore_index=2**31), r"at `\$\.ignore_index`"),
        (b'{"classes":' + b"[" * 10**6, r"at `\$\.classes\[0\]`"),
        (edited(shards=shard(name=TWO.name)), "names a shard twice"),
        (
            edited(classes=["dog", "cat"]),
            "has a fingerprint that does not match its content; was the file edited by hand",
        ),
        (edited(fingerprint="0" * 64), "does not match its content"),
        (edited(fingerprint=None), "does not match its content"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused_by_file_and_field(content: bytes, complaint: str):
    with pytest.raises(ManifestError, match=rf"^set/manifest\.json.*{complaint}"):
        parse_manifest(content, where="set/manifest.json")


@pytest.mark.parametrize("place", [b'"mps-shards"', b'"seed"', b"[", b"{"])
@pytest.mark.parametrize("odd", [b"\x80", b"\xc3", b"[" * 100_000])
def test_bytes_that_are_no_text_and_endless_brackets_are_refused_wherever_they_stand(place: bytes, odd: bytes):
    content = manifest_bytes(manifest_of([ONE, TWO])).replace(place, place[:1] + odd + place[1:], 1)

    with pytest.raises(ManifestError, match=r"^set/manifest\.json"):
        parse_manifest(content, where="set/manifest.json")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_make_reading_fail_otherwise(content: bytes):
    with pytest.raises(ManifestError, match=r"^set/manifest\.json"):
        parse_manifest(content, where="set/manifest.json")


@given(st.data())
def test_no_changed_byte_of_what_counts_goes_unseen(data: st.DataObject):
    content = bytearray(manifest_bytes(manifest_of([ONE, TWO])))
    start, stop = content.index(b'"task"'), content.index(b'"packed"')
    place = data.draw(st.integers(start, stop - 1).filter(lambda place: content[place] > 32))
    content[place] = data.draw(st.integers(33, 126).filter(lambda byte: byte != content[place]))

    with pytest.raises(ManifestError):
        parse_manifest(bytes(content), where="set/manifest.json")
