"""Packing and reading of each layout: every pixel, label, mask and extra column is that of the source."""

import json
from pathlib import Path

import numpy as np
import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import DataError
from mps_shards.shards.key_names import key_to_path
from tests.support.foreign import by_webdataset_s_reader
from tests.support.images import expected
from tests.support.trees import TREES, TreeRecord


@pytest.mark.parametrize("layout", TREES)
def test_every_image_comes_back_with_its_target(tmp_path: Path, layout: str):
    records = TREES[layout](tmp_path / "tree")

    out = pack(tmp_path / "tree" / ("list.csv" if layout == "list" else ""), tmp_path / "out").out

    stems = {path.rpartition(".")[0]: path for path in records}
    read = set()
    for split in {one.split for one in records.values()}:
        data = ShardDataset(out / split, batch_size=None, keys=True)
        for image, target, key in data:
            path = stems[key_to_path(key)]
            assert image.equal(expected((tmp_path / "tree" / path).read_bytes()))
            assert_target(records[path], split, target.numpy(), data.source.classes)
            read.add(path)
    assert read == set(records)


def assert_target(one: TreeRecord, split: str, target: np.ndarray, classes: tuple[str, ...]) -> None:
    """Fail unless split, label and mask are those of the source."""
    assert one.split == split
    if one.ids is not None:
        assert np.array_equal(target, one.ids)
    else:
        assert (classes[int(target)] if target >= 0 else None) == one.label


@pytest.mark.parametrize("layout", ["list", "metadata"])
def test_other_columns_of_a_list_are_stored_as_json(tmp_path: Path, layout: str):
    records = TREES[layout](tmp_path / "tree")

    out = pack(tmp_path / "tree" / ("list.csv" if layout == "list" else ""), tmp_path / "out").out

    samples = by_webdataset_s_reader(sorted(out.rglob("*.tar")))
    notes = {key_to_path(key): json.loads(fields["json"]) for key, fields in samples}
    assert notes == {path.rpartition(".")[0]: one.note for path, one in records.items()}


def test_rows_that_cannot_be_packed_are_skipped_and_listed(tmp_path: Path):
    records = TREES["list"](tmp_path / "tree")
    gone, *rest = records
    (tmp_path / "tree" / gone).unlink()
    line = (tmp_path / "tree/list.csv").read_text().splitlines().index(f'{gone},cow,val,"X, 0"') + 1

    with pytest.raises(DataError, match=rf"list\.csv:{line}: there is no file .*{gone}"):
        pack(tmp_path / "tree/list.csv", tmp_path / "out")
    report = pack(tmp_path / "tree/list.csv", tmp_path / "out", on_bad_sample="skip")

    reason = f"list.csv:{line}: there is no file {gone}"
    assert [(each.path, each.reason) for each in report.skipped] == [(gone, reason)]
    assert json.loads((tmp_path / "out/skipped.jsonl").read_text()) == {"path": gone, "reason": reason}
    assert sum(each.samples for each in report.sets) == len(rest)


def test_a_list_is_packed_to_a_folder_beside_it_with_its_name(tmp_path: Path):
    TREES["list"](tmp_path / "tree")

    assert pack(tmp_path / "tree/list.csv").out == tmp_path / "tree/list-shards"
