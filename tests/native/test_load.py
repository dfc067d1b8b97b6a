"""The kernel loads samples from tars with the same result as Python, and leaves unusual samples to Python."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import native
from mps_shards.errors import DataError
from mps_shards.native import UNLABELED, Decoder, Layout, Loaded, Loading
from mps_shards.shards.raw_sample import IMAGE_FIELDS, RawSample
from mps_shards.shards.tar import header, padding, sample_from
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms.geometry import Geometry
from tests.support.images import encoded, picture, turbo
from tests.support.native import by_kernel, needs_kernel

pytestmark = needs_kernel()

SIDE = 16
PHOTO = encoded(picture("RGB", 40, 56), "JPEG", quality=90)
WHOLE = Geometry(resized=(SIDE, SIDE))
MANY_CLASSES = 10**18 - 1


def member(name: str, content: bytes, **changes: Any) -> bytes:
    """Return a tar member as `pack` writes it, or with a header made by `tarfile` if an attribute is given."""
    if not changes:
        return header(name, len(content)) + content + padding(len(content))
    info = tarfile.TarInfo(name)
    info.size = len(content)
    layout = changes.pop("layout", tarfile.USTAR_FORMAT)
    for attribute, value in changes.items():
        setattr(info, attribute, value)
    return info.tobuf(layout, "utf-8", "surrogateescape") + content + padding(len(content))


@contextmanager
def stored(runs: Sequence[bytes], folder: Path) -> Iterator[np.ndarray]:
    """Return the spans of some byte ranges in one open file."""
    path = folder / "shard.tar"
    path.write_bytes(b"".join(runs))
    descriptor = os.open(path, os.O_RDONLY)
    stops = np.cumsum([len(run) for run in runs])
    try:
        places = zip(stops, runs, strict=True)
        yield np.array([(descriptor, stop - len(run), len(run), at) for at, (stop, run) in enumerate(places)])
    finally:
        os.close(descriptor)


def loaded(
    spans: np.ndarray,
    *,
    geometry: Geometry = WHOLE,
    most_label: int = MANY_CLASSES,
    seed: int = 0,
    epoch: int = 0,
    scaled: bool = False,
    sides: tuple[int, int] = (SIDE, SIDE),
    max_pixels: int = 1 << 20,
) -> tuple[Loaded, np.ndarray]:
    rows = np.zeros((len(spans), 3, *sides), np.uint8)
    loading = Loading(
        geometry=geometry.numbers(),
        seed=seed,
        epoch=epoch,
        most_label=most_label,
        scaled=scaled,
        max_pixels=max_pixels,
    )
    return Decoder().load(spans, loading, rows, layout=Layout.BYTE_PLANES), rows


def geometries() -> st.SearchStrategy[Geometry]:
    low = st.floats(0.01, 1.0)
    areas = st.tuples(
        st.tuples(low, low).map(lambda pair: (min(pair), max(pair))),
        st.tuples(st.floats(0.1, 1.0), st.floats(1.0, 9.0)),
    )
    flips = st.none() | st.sampled_from([0.25, 0.5, 1.0])
    fixed = st.builds(Geometry, area=st.none() | areas, resized=st.just((SIDE, SIDE)), flip=flips)
    shorter = st.builds(Geometry, resized=st.integers(SIDE, 40), crop=st.just((SIDE, SIDE)), flip=flips)
    return fixed | shorter


@settings(max_examples=300)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    geometry=geometries(),
    seed=st.integers(0, (1 << 64) - 1),
    epoch=st.integers(0, (1 << 64) - 1),
    position=st.integers(0, (1 << 63) - 1),
    scaled=st.booleans(),
)
def test_a_view_is_drawn_as_python_draws_it(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    geometry: Geometry,
    seed: int,
    epoch: int,
    position: int,
    scaled: bool,
):
    content = turbo("RGB", "420", height=height, width=width, quality=90)
    view = geometry.plan(height, width, KeyedRandom(seed=seed).at(epoch, position))
    run = member("a.jpg", content) + member("a.cls", b"3")

    with stored([run], tmp_path_factory.getbasetemp()) as spans:
        spans[0, 3] = position
        found, rows = loaded(spans, geometry=geometry, seed=seed, epoch=epoch, scaled=scaled)

    assert (found.keys, found.labels, found.nbytes) == (["a"], [3], len(content) + 1)
    assert np.array_equal(rows[0], by_kernel(content, view, factor=view.factor() if scaled else 1))


NAMES = st.sampled_from(
    ["a", "b/a", "a.b/c", "x/.hidden", ".a", "a\\b", "ä", "dir/", "", "n" * 90, "p" * 80 + "/" + "q" * 80, "a b", "A"]
)
FIELDS = st.sampled_from(["jpg", "JPG", "jpeg", "cls", "json", "txt", "seg.png", "png", "", "cls.txt", "Jpg.gz"])
CONTENTS = st.sampled_from([PHOTO, b"7", b" 12\n", b"", b"x", b"-1", b"007", b"9" * 18, b"9" * 19, b"1_0", b"1.0"])
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "layout": st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
        "type": st.sampled_from([b"0", b"\0", b"7", b"5", b"2", b"1"]),
        "mode": st.integers(0, 0o7777),
        "mtime": st.integers(0, 1 << 33),
        "uname": st.just("user"),
    },
)


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a row of the index: usually one sample, with headers of many kinds, sometimes damaged."""
    key = draw(NAMES)
    parts = [member(f"{key}.jpg", PHOTO), member(f"{key}.cls", b"7")] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0 if parts else 1, 3))):
        name = f"{key if draw(st.integers(0, 9)) else draw(NAMES)}.{draw(FIELDS)}"
        try:
            parts.append(member(name, draw(CONTENTS), **draw(CHANGES)))
        except ValueError:  # this kind of header cannot hold the name
            parts.append(member(name, PHOTO))
    run = bytearray(b"".join(draw(st.permutations(parts))))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        run[draw(st.integers(0, len(run) - 1))] ^= 1 << draw(st.integers(0, 7))
    if draw(st.integers(0, 9)) == 0:
        run += bytes(512 * draw(st.integers(1, 3)))
    return bytes(run)


def read_by_python(run: bytes) -> tuple[str, int, bytes] | None:
    try:
        raw: RawSample = sample_from(run, shard="shard.tar")
        return raw.key, raw.label(), bytes(raw.image()[1])
    except DataError:
        return None


@settings(max_examples=600)
@given(found=st.lists(runs(), min_size=1, max_size=3))
def test_samples_loaded_by_the_kernel_equal_those_that_python_reads(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes]
):
    with stored(found, tmp_path_factory.getbasetemp()) as spans:
        for most_label in (MANY_CLASSES, UNLABELED):
            result, rows = loaded(spans, most_label=most_label)
            for at, run in enumerate(found):
                if result.outcomes[at]:
                    expected = read_by_python(run)
                    assert expected is not None
                    key, label, content = expected
                    assert (result.keys[at], result.labels[at]) == (key, label)
                    assert (label == UNLABELED) == (most_label == UNLABELED)
                    view = WHOLE.plan(40, 56, np.random.default_rng())
                    assert np.array_equal(rows[at], by_kernel(content, view))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["a", "class/image 1", "p" * 80 + "/" + "q" * 80])
def test_tars_of_other_programs_are_loaded(tmp_path: Path, layout: int, key: str):
    run = member(f"{key}.JPG", PHOTO, layout=layout, mtime=1_700_000_000) + member(f"{key}.cls", b"4\n", layout=layout)
    run += member(f"{key}.json", b"{}", layout=layout)

    with stored([run], tmp_path) as spans:
        found, _ = loaded(spans)

    if len(key) < 100 or layout == tarfile.USTAR_FORMAT:  # other programs write a long name in an extra header
        assert (found.keys, found.labels, found.outcomes) == ([key], [4], b"\2")
    else:
        assert found.outcomes == b"\0"


@pytest.mark.parametrize(
    ("run", "most_label"),
    [
        (member("a.jpg", PHOTO), 9),
        (member("a.jpg", PHOTO) + member("a.cls", b"10"), 9),
        (member("a.jpg", PHOTO) + member("a.cls", b"1"), UNLABELED),
        (member("a.jpg", PHOTO) + member("a.cls", b"cat"), 9),
        (member("a.jpg", PHOTO) + member("b.cls", b"1"), 9),
        (member("a.jpg", PHOTO) + member("a.png", PHOTO) + member("a.cls", b"1"), 9),
        (member("a.jpg", PHOTO) + member("a.cls", b"1") + member("a.cls", b"1"), 9),
        (member("a.cls", b"1"), 9),
        (member("a.jpg", encoded(picture("RGB", 9, 9), "PNG")) + member("a.cls", b"1"), 9),
        (member("a.jpg", PHOTO[:-40]) + member("a.cls", b"1"), 9),
        ((member("a.jpg", PHOTO) + member("a.cls", b"1"))[:-512], 9),
    ],
)
def test_unusual_samples_are_left_to_python(tmp_path: Path, run: bytes, most_label: int):
    good = member("b.jpg", PHOTO) + (member("b.cls", b"9") if most_label != UNLABELED else b"")

    with stored([good, run, good], tmp_path) as spans:
        found, _ = loaded(spans, most_label=most_label)

    assert found.outcomes == b"\2\0\2"
    assert found.keys == ["b", "", "b"]


@pytest.mark.parametrize("field", IMAGE_FIELDS)
def test_the_kernel_knows_every_image_field_of_python(tmp_path: Path, field: str):
    label = member("a.cls", b"1")
    alone, beside = member(f"a.{field}", PHOTO) + label, member("a.other", b"") + member(f"a.{field}", PHOTO) + label
    twice = member("a.jpg" if field != "jpg" else "a.png", PHOTO) + alone

    with stored([alone, beside, twice], tmp_path) as spans:
        found, _ = loaded(spans)

    assert found.outcomes == b"\2\2\0"


def test_samples_that_cannot_be_read_are_left_to_python(tmp_path: Path):
    run = member("a.jpg", PHOTO) + member("a.cls", b"1")
    with stored([run], tmp_path) as spans:
        descriptor, offset, size, _ = spans[0]
        closed = os.dup(descriptor)
        os.close(closed)
        wrong = [
            (closed, 0, size, 0),
            (descriptor, offset + 512, size, 0),
            (descriptor, -512, size, 0),
            (descriptor, 0, 1 << 40, 0),
        ]

        found, _ = loaded(np.array([*wrong, (descriptor, 0, 0, 0), spans[0]]))

    assert found.outcomes == b"\0\0\0\0\0\2"
    assert found.read_s > 0


def test_images_of_another_shape_or_too_large_are_left_to_python(tmp_path: Path):
    run = member("a.jpg", PHOTO) + member("a.cls", b"1")
    with stored([run], tmp_path) as spans:
        assert loaded(spans, geometry=Geometry(), sides=(40, 56))[0].outcomes == b"\2"
        assert loaded(spans, geometry=Geometry(), sides=(40, 55))[0].outcomes == b"\0"
        assert loaded(spans, max_pixels=40 * 56)[0].outcomes == b"\2"
        assert loaded(spans, max_pixels=40 * 56 - 1)[0].outcomes == b"\0"


def test_arguments_of_wrong_sizes_are_refused(tmp_path: Path):
    loading = Loading(geometry=WHOLE.numbers(), seed=0, epoch=0, most_label=0, scaled=False, max_pixels=1 << 20)
    rows = np.zeros((2, 3, SIDE, SIDE), np.uint8)
    spans = np.zeros((2, 4), np.int64)
    short = Loading(geometry=np.zeros(4), seed=0, epoch=0, most_label=0, scaled=False, max_pixels=1)
    for wrong in (
        (spans[:, :3], loading, rows),
        (spans.astype(np.int32), loading, rows),
        (spans, loading, rows[:1]),
        (spans, short, rows),
    ):
        with pytest.raises(ValueError, match=r"spans|destination"):
            native.Decoder().load(*wrong, layout=Layout.BYTE_PLANES)  # type: ignore[arg-type]  # not tuples of one kind


def test_an_empty_call_loads_nothing():
    found, _ = loaded(np.zeros((0, 4), np.int64))

    assert found == Loaded(b"", [], [], 0, 0.0)
