"""Opening of shards by name: one shard set, several sets, and tars of other tools."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest

from mps_shards import ShardDataset
from mps_shards.errors import ConfigError, ManifestError, StorageError
from mps_shards.shards.manifest import MANIFEST_NAME, manifest_bytes, parse_manifest
from mps_shards.shardset.shard_set import ShardSet
from tests.support.sets import foreign_tars, keys, shard_set

SET = shard_set([3, 0, 1, 4])


def keys_of(data: ShardDataset) -> list[str]:
    return [key for *_, found in data for key in found]


def read(shards, **options) -> list[str]:
    return keys_of(ShardDataset(shards, **{"batch_size": 4, "keys": True, **options}))


@pytest.mark.parametrize(
    ("named", "numbers"),
    [
        (str(SET), range(8)),
        (SET / "s-000003.tar", range(4, 8)),
        (f"{SET}/s-{{000002..000003}}.tar", range(3, 8)),
        ([str(SET / "s-000003.tar"), SET / "s-000000.tar"], [4, 5, 6, 7, 0, 1, 2]),
        (f"file://{SET}", range(8)),
    ],
    ids=["folder", "tar", "braces", "list", "file URL"],
)
def test_a_shard_set_can_be_named_in_many_ways(named, numbers):
    assert read(named) == keys(numbers)


def test_an_epoch_holds_the_samples_of_several_sets():
    other = shard_set([2, 5], name="t")

    assert sorted(read([SET, other], shuffle=True)) == keys(range(8)) + keys(range(7), name="t")
    assert [key for key in read([SET, other]) if key[0] == "t"] == keys(range(7), name="t")


def test_weights_decide_the_share_of_each_set_in_an_epoch():
    other = shard_set([2, 5], name="t")

    for epoch in range(3):
        found = read({SET: 1, other: 4}, shuffle=True, epoch=epoch)
        assert [sum(key.startswith(name) for key in found) for name in "st"] == [3, 12]


def test_a_set_without_samples_has_no_batches_but_can_be_combined_with_others():
    for ranks in ({}, {"rank": 1, "world_size": 2}):
        data = ShardDataset(shard_set([0, 0]), batch_size=4, shuffle=True, **ranks)
        assert (len(data), list(data)) == (0, [])
    assert read([shard_set([0]), SET]) == keys(range(8))


@pytest.mark.parametrize("other", [{"classes": ("cat", "dog", "owl")}, {"task": "unlabeled", "classes": ()}])
def test_sets_of_other_classes_or_tasks_are_not_mixed(tmp_path, other):
    folder = Path(shutil.copytree(SET, tmp_path / "other"))
    manifest = parse_manifest((folder / MANIFEST_NAME).read_bytes(), where="here")
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(msgspec.structs.replace(manifest, **other)))

    with pytest.raises(ConfigError, match="cannot be mixed: their tasks, class names or columns differ"):
        ShardDataset([SET, folder], batch_size=4)


@pytest.mark.parametrize(
    ("named", "options", "error", "complaint"),
    [
        ([SET, foreign_tars([2])], {}, ConfigError, f"has no {MANIFEST_NAME}, but other sets have one"),
        ({foreign_tars([2]): 1}, {}, ConfigError, f"weights need shard sets with a {MANIFEST_NAME}"),
        ([], {}, ConfigError, "no shards were named"),
        (SET / "s-000007.tar", {}, StorageError, "no such file or directory"),
        ("gopher://here/s.tar", {}, ConfigError, "gopher"),
    ],
)
def test_shards_that_cannot_be_opened_are_an_error_at_construction(named, options, error, complaint):
    with pytest.raises(error, match=complaint):
        ShardDataset(named, batch_size=4, **options)


def test_a_folder_without_a_manifest_or_tars_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match=f"has no {MANIFEST_NAME}"):
        ShardDataset(tmp_path, batch_size=4)
    (tmp_path / "s-000000.tar.part").touch()
    with pytest.raises(StorageError, match="unfinished pack"):
        ShardDataset(tmp_path, batch_size=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": True},
        {"remainder": "wrap"},
        {"on_bad_sample": "ignore"},
        {"seed": -1},
        {"epoch": 1.5},
        {"shards": {SET: 0}},
        {"shuffle": 1000},
        {"transform": "train"},
        {"rank": 1},
        {"rank": 2, "world_size": 2},
        {"normalize": "imagenot"},
    ],
)
def test_invalid_arguments_are_refused(wrong):
    with pytest.raises(ConfigError):
        ShardDataset(**{"shards": SET, "batch_size": 4, **wrong})


@pytest.mark.parametrize("position", [0, 40, 996])
def test_resuming_reads_only_the_next_batch(monkeypatch, position):
    data = ShardDataset(shard_set([400, 600]), batch_size=4, shuffle=True, keys=True)
    data.load_state_dict({**data.state_dict(), "position": position})
    counted = []
    monkeypatch.setattr(ShardSet, "opened", lambda self, shards: nullcontext())  # keeps the kernel from reading
    monkeypatch.setattr(
        ShardSet, "read", lambda self, number, read=ShardSet.read: counted.append(number) or read(self, number)
    )

    _, _, first = next(iter(data))

    assert keys(counted) == first
    assert len(counted) == 4
