"""Columns of Parquet files are given a role, or refused with the option that settles it."""

from pathlib import Path

import pytest

from mps_shards import pack
from mps_shards.errors import ConfigError
from tests.support.images import tiny_jpeg

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def written(path: Path, rows: "pyarrow.Table") -> Path:
    parquet.write_table(rows, path)
    return path


IMAGES = [{"bytes": tiny_jpeg(n), "path": f"{n}.jpg"} for n in range(4)]
ANY_LABEL = {"label": [0, 1, 0, 1]}


@pytest.mark.parametrize(
    ("columns", "complaint", "settled"),
    [
        ({"label": [0, None, 1, 0]}, r"1 of 4 rows \(such as row 1\) have no label in column 'label'", {"yes": True}),
        (
            {"label": [0.5, 1.5, 0.5, 2]},
            "0.5 in column 'label' are not whole numbers: .*--targets",
            {"targets": "number"},
        ),
        ({"label": ["Cat", "cat", "dog", "dog"]}, "differ only in upper and lower case", {"targets": "class"}),
        (
            {"objects": [{"box": [1, 2]}] * 4},
            r"no column is recognised as the label \(columns: objects\)",
            {"yes": True},
        ),
        ({**ANY_LABEL, "depth": IMAGES}, "depth holds images too, which would be left out", {"image_column": "image"}),
        ({"label": [["a"], ["b"], [], ["a"]]}, "column 'label' has lists of 'a', whose classes", None),
    ],
)
def test_columns_that_leave_a_doubt_are_refused_with_what_settles_it(
    columns: dict, complaint: str, settled: dict | None, tmp_path: Path
):
    rows = pyarrow.table({"image": pyarrow.array(IMAGES, IMAGE), **columns})
    source = written(tmp_path / "x.parquet", rows)

    with pytest.raises(ConfigError, match=complaint):
        pack(source)
    assert not (tmp_path / "x-shards").exists()
    if settled:
        assert pack(source, **settled).sets[0].samples == 4


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        (pyarrow.array(["b", "a", "b", "a"]).dictionary_encode(), "classification", ("a", "b")),
        (pyarrow.array([True, False, True, False]), "classification", ("False", "True")),
        (pyarrow.array([1.0, 0.0, 1.0, 0.0]), "classification", ("0", "1")),
        (pyarrow.array([[0, 1], [1], [], [0]]), "multilabel", ("0", "1")),
    ],
)
def test_label_columns_may_have_any_type(labels: "pyarrow.Array", task: str, classes: tuple, tmp_path: Path):
    report = pack(
        written(tmp_path / "x.parquet", pyarrow.table({"image": pyarrow.array(IMAGES, IMAGE), "label": labels}))
    )

    assert (report.sets[0].task, report.classes) == (task, classes)


def test_a_column_of_splits_makes_splits(tmp_path: Path):
    rows = pyarrow.table({"image": pyarrow.array(IMAGES, IMAGE), **ANY_LABEL, "split": ["train", "test"] * 2})

    report = pack(written(tmp_path / "x.parquet", rows))

    assert {each.split: each.samples for each in report.sets} == {"train": 2, "test": 2}
