"""Listing a folder gives its paths in sorted order without holding them all, and finds all files that share a key."""

import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards.errors import DataError
from tests.support.images import write
from tests.support.listings import list_source

# Names that sort differently alone and within paths: "-", "." and space come before a slash, digits after it.
parts = st.text("ab-. 0é\U0001f600", min_size=1, max_size=3).filter(lambda name: not name.startswith("."))
names = st.builds(lambda stem, kind: f"{stem}.{kind}", parts, st.sampled_from(["jpg", "png", "webp"]))
paths = st.builds(lambda folders, name: "/".join([*folders, name]), st.lists(parts, max_size=3), names)
few = st.sampled_from(["a", "a.b", "a-", "b", "a.b.c"])
near = st.builds(
    lambda folder, stem, kind: f"{folder}{stem}.{kind}",
    st.sampled_from(["", "a.b/", "b/"]),
    few,
    st.sampled_from(["jpg", "png", "webp"]),
)


def without_clashes(found: list[str]) -> list[str]:
    """Return the paths that can exist together: none is a file where another needs a folder."""
    above = {str(folder) for path in found for folder in PurePosixPath(path).parents}
    return [path for path in dict.fromkeys(found) if path not in above]


@settings(max_examples=25)  # few examples, because each writes files
@given(st.lists(paths, min_size=1, max_size=12).map(without_clashes))
def test_images_are_listed_in_the_order_of_their_paths(found: list[str]):
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), dict.fromkeys(found, b"x"))

        [split] = list_source(Path(root), layout="flat", by_name=True).splits

    assert [entry.path for entry in split.entries] == sorted(found)


@settings(max_examples=25)
@given(st.lists(near, min_size=1, max_size=8).map(without_clashes))
def test_images_that_share_a_key_are_refused_and_no_others(found: list[str]):
    repeated = [stem for stem, count in Counter(path.rpartition(".")[0] for path in found).items() if count > 1]
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), dict.fromkeys(found, b"x"))
        if repeated:
            with pytest.raises(DataError, match="would share the key"):
                list_source(Path(root), layout="flat")
        else:
            [split] = list_source(Path(root), layout="flat").splits
            assert len(split.entries) == len(found)


@settings(max_examples=15)
@given(st.lists(st.tuples(parts, parts), min_size=1, max_size=8, unique=True))
def test_labels_are_the_indices_of_the_sorted_class_folders(found: list[tuple[str, str]]):
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), {f"{label}/{name}.jpg": b"x" for label, name in found})

        listing = list_source(Path(root), layout="classes")

    assert listing.classes == tuple(sorted({label for label, _ in found}))
    for entry in listing.splits[0].entries:
        assert listing.classes[entry.label] == entry.path.partition("/")[0]
