"""Names that collide on some disks."""

import pytest

from mps_shards.shards.name_folding import find_colliding_names, fold_name


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
    assert fold_name(one) == fold_name(other)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("a", "\u00e4"), ("train", "train "), ("\udcff", "\udcfe")])
def test_other_differences_count(one: str, other: str):
    assert fold_name(one) != fold_name(other)


def test_the_first_pair_is_named():
    assert find_colliding_names(["b", "a", "c", "A", "B"]) == ("a", "A")
    assert find_colliding_names(["a", "b", "a"]) is None  # the same name is not another one
