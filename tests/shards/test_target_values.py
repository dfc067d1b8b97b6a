"""Targets that are several classes, numbers or text: read as written, or an error that names sample and value."""

import pytest

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.raw_sample import RawSample
from mps_shards.shards.target_values import caption, class_ids, numbers


def sample(**fields: bytes) -> RawSample:
    return RawSample(key="k", shard="x.tar", fields={"jpg": b"", **fields})


def test_class_ids_come_ascending_and_once():
    assert class_ids(sample(json=b'{"labels": [3, 0, 3], "more": 1}'), classes=4) == (0, 3)
    assert class_ids(sample(json=b'{"labels": []}')) == ()


@pytest.mark.parametrize(
    ("json", "complaint"),
    [
        (b'{"labels": [4]}', r"json:labels holds '4', which is not a class \(the set has 4 classes\)"),
        (b'{"labels": [-1]}', "holds '-1', which is not a class"),
        (b'{"labels": [1.0]}', r"holds '1\.0', which is not a class"),
        (b'{"labels": [true]}', "holds 'True', which is not a class"),
        (b'{"labels": "cat"}', "json:labels is 'cat', which is not a list of classes"),
        (b'{"label": [1]}', "its .json has no 'labels'"),
        (b"[1]", "its .json has no 'labels'"),
        (b"{", "its .json is not JSON"),
    ],
)
def test_what_is_no_list_of_classes_is_named(json: bytes, complaint: str):
    with pytest.raises(DecodeError, match=rf"sample 'k' of shard x.tar: .*{complaint}"):
        class_ids(sample(json=json), classes=4)


def test_numbers_come_in_the_order_of_the_columns():
    content = sample(json=b'{"height": 1, "age": 23.5, "pose": {"x": -2}, "a.b": 7}')

    assert numbers(content, ["age", "height", "pose.x", "a.b"]) == (23.5, 1.0, -2.0, 7.0)


@pytest.mark.parametrize("value", [b'"23"', b"null", b"true", b"[1]"])
def test_what_is_no_number_is_named(value: bytes):
    with pytest.raises(DecodeError, match="which is not a finite number"):
        numbers(sample(json=b'{"age": ' + value + b"}"), ["age"])


def test_captions_are_text():
    assert caption(sample(txt="Füchse im Schnee\n".encode())) == "Füchse im Schnee\n"
    with pytest.raises(DecodeError, match=r"its \.txt is not UTF-8 text"):
        caption(sample(txt=b"\xff"))
    with pytest.raises(DecodeError, match=r"has no txt \(fields: jpg\)"):
        caption(sample())


def test_a_choice_turns_foreign_targets_into_those_of_our_sets():
    names = ("cat", "dog", "fox")
    tags = FieldChoice.parsed(None, "json:meta.tags", task="multilabel")
    ages = FieldChoice.parsed(None, None, columns=["age"])
    texts = FieldChoice.parsed(None, "caption.txt")
    assert tags is not None and ages is not None and texts is not None
    raw = sample(json=b'{"meta": {"tags": ["fox", "cat"]}, "age": 3, "license": "x"}', **{"caption.txt": b"hi"})

    found = [choice.plain(raw).fields for choice in (tags.naming(names), ages, texts)]

    assert (tags.task, ages.task, texts.task) == ("multilabel", "regression", "captions")
    assert found == [
        {"jpg": b"", "json": b'{"labels":[0,2]}'},
        {"jpg": b"", "json": b'{"age":3.0}'},
        {"jpg": b"", "txt": b"hi"},
    ]


@pytest.mark.parametrize(
    ("target", "task", "columns", "complaint"),
    [
        (None, "regression", [], "columns are needed for regression"),
        (None, "captions", ["age"], "columns are needed for regression"),
        ("seg.png", "classification", [], "is for segmentation, not for classification"),
        ("cls;txt", None, [], "a set has one kind of target"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(target, task, columns, complaint):
    with pytest.raises(ConfigError, match=complaint):
        FieldChoice.parsed(None, target, task=task, columns=columns)


@pytest.mark.parametrize(
    ("json", "hint"), [(b'{"a": [1]}', "needs --task multilabel"), (b'{"a": 1.5}', "needs? --columns a")]
)
def test_a_label_of_another_kind_is_refused_with_the_option_that_takes_it(json: bytes, hint: str):
    choice = FieldChoice.parsed(None, "json:a")
    assert choice is not None

    with pytest.raises(DecodeError, match=hint):
        choice.label(sample(json=json), "json:a")
