"""Names that some disks take for one."""

import pytest

from mps_shards.shards.name_folding import alike, folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train", "Train"),
        ("\u00e9", "e\u0301"),  # composed and decomposed
        ("\u00c9", "e\u0301"),
        ("\u00fc.jpg", "U\u0308.JPG"),
        ("stra\u00dfe", "STRASSE"),
        ("\u1e9b\u0323", "\u1e69"),  # two steps: the fold of one is not composed
    ],
)
def test_case_and_normal_form_do_not_count(one: str, other: str):
    assert folded(one) == folded(other)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("a", "\u00e4"), ("train", "train "), ("\udcff", "\udcfe")])
def test_other_differences_count(one: str, other: str):
    assert folded(one) != folded(other)


def test_the_first_pair_is_named():
    assert alike(["b", "a", "c", "A", "B"]) == ("a", "A")
    assert alike(["a", "b", "a"]) is None  # the same name is not another one
