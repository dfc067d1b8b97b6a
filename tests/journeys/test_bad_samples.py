"""Skipped samples are limited, counted, reported, and written to a log on request."""

import json
import logging
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset, SkipRules
from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.metrics import SkipReport
from tests.support.foreign import by_tarfile, samples
from tests.support.sets import keys, shard_set

BROKEN = (3, 7, 11)
SET = shard_set([15, 15], broken=BROKEN)  # one in ten


def dataset(
    shards: Any = SET, *, on_bad_sample: Any = "skip", max_bad: Any = 0.1, log: Path | None = None, **options: Any
) -> ShardDataset:
    rules = SkipRules(policy=on_bad_sample, max_bad=max_bad, log=log)
    return ShardDataset(shards, **{"batch_size": 5, "on_bad_sample": rules, "keys": True, **options})


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize("max_bad", [0.1, 3, 1.0, None])
def test_bad_samples_up_to_the_limit_are_skipped(max_bad: float | int | None):
    data = dataset(max_bad=max_bad)

    given = [key for _, _, batch in data for key in batch]

    assert given == [key for number, key in enumerate(keys(range(30))) if number not in BROKEN]
    assert data.skipped.count == 3


@pytest.mark.parametrize(("max_bad", "skipped"), [(0.09, 3), (2, 3), (0, 1), (0.0, 1), (0.04, 2)])
def test_one_bad_sample_more_than_the_limit_is_an_error(max_bad: float | int, skipped: int):
    data = dataset(max_bad=max_bad)

    with pytest.raises(
        DataError,
        match=rf"skipped {skipped} of 30 samples, more than max_bad={max_bad} allows; the first was sample 's00003'",
    ):
        list(data)
    with (
        DeviceLoader(dataset(max_bad=max_bad), device="cpu", num_threads=2) as loader,
        pytest.raises(DataError, match=f"more than max_bad={max_bad} allows"),
    ):
        list(loader)


def test_by_default_a_tenth_of_the_samples_may_be_bad():
    list(dataset())

    with pytest.raises(DataError, match=r"skipped 2 of 15 samples, more than max_bad=0\.1 allows"):
        list(dataset(shard_set([15], broken=(3, 7))))


def test_a_set_of_only_bad_samples_is_an_error_and_not_an_empty_epoch():
    with pytest.raises(DataError, match="more than max_bad"):
        list(dataset(shard_set([8], broken=range(8))))


def test_the_limit_applies_to_one_iteration_of_one_rank():
    for epoch in range(3):
        list(dataset(epoch=epoch))
    ranks = [dataset(rank=rank, world_size=3, max_bad=0.3) for rank in range(3)]

    assert [len(list(data)) for data in ranks] == [2, 2, 2]
    assert [data.skipped.count for data in ranks] == [1, 1, 1]


def test_resuming_near_the_end_still_allows_a_share_of_the_whole_epoch():
    data = dataset(shard_set([15, 15], broken=(29,)))
    data.load_state_dict(data.state_dict() | {"position": 25})

    assert [len(batch) for _, _, batch in data] == [4]


@pytest.mark.parametrize("max_bad", [-1, -0.1, 1.5, float("nan"), True, "1%"])
def test_an_invalid_limit_is_refused(max_bad: Any):
    with pytest.raises(ConfigError, match=r"max_bad must be a float from 0\.0 to 1\.0 \(a share\), a whole number"):
        dataset(max_bad=max_bad)


def test_the_report_names_key_shard_position_and_reason():
    data = dataset(batch_size=None)
    assert data.skipped == SkipReport()

    list(data)

    assert [(skip.key, skip.shard, skip.position) for skip in data.skipped.first] == [
        (f"s{number:05d}", "s-000000.tar", number) for number in BROKEN
    ]
    assert all("cannot decode the image" in skip.reason for skip in data.skipped.first)


def test_a_data_set_and_a_composed_data_set_have_the_same_report():
    data = dataset()

    list(data.map(lambda item: item))

    assert data.skipped.count == 3


def test_the_loader_has_the_report_of_its_data_set():
    data = dataset()

    with DeviceLoader(data, device="cpu", num_threads=2) as loader:
        assert loader.stats().skips == ()
        list(loader)
        stats = loader.stats()

    assert stats.skipped == 3 and sorted(skip.key for skip in stats.skips) == keys(BROKEN)
    assert data.skipped.first == stats.skips


def test_the_number_of_records_is_limited_and_the_count_continues(caplog: pytest.LogCaptureFixture):
    data = dataset(shard_set([120], broken=range(110)), max_bad=None)

    with caplog.at_level(logging.WARNING, "mps_shards"):
        list(data)

    assert data.skipped.count == 110 and len(data.skipped.first) == 100
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 102
    assert messages[100] == "skipped 100 samples: further ones in this epoch are counted, but not logged"
    assert messages[101].startswith("epoch 0, rank 0 of 1: skipped 110 of 120 samples; the first was sample")


def test_an_epoch_without_bad_samples_reports_nothing(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "mps_shards"):
        list(dataset(shard_set([4])))

    assert not caplog.records


def test_the_log_file_gets_a_line_with_rank_and_epoch_for_each_bad_sample(tmp_path: Path):
    log = tmp_path / "bad.jsonl"

    for rank in range(2):
        list(dataset(epoch=4, rank=rank, world_size=2, log=log, max_bad=0.5))

    assert [(line["epoch"], line["rank"], line["worker"], line["position"], line["key"]) for line in lines(log)] == [
        (4, 1, 0, number, f"s{number:05d}") for number in BROKEN
    ]


def test_workers_of_a_dataloader_share_a_log_and_have_their_own_limits(tmp_path: Path):
    log = tmp_path / "bad.jsonl"
    allowing = DataLoader(dataset(log=log, max_bad=0.3), batch_size=None, num_workers=2)
    strict = iter(DataLoader(dataset(max_bad=1), batch_size=None, num_workers=2))

    list(allowing)

    assert sorted((line["key"], line["worker"]) for line in lines(log)) == [("s00003", 0), ("s00007", 1), ("s00011", 0)]
    with pytest.raises(DataError, match="skipped 2 of 15 samples, more than max_bad=1 allows"):
        list(strict)
    strict._shutdown_workers()  # otherwise torch does this when the iterator is collected, and waits for five seconds


def test_a_pickled_copy_keeps_the_rules_and_has_its_own_report(tmp_path: Path):
    data = dataset(log=tmp_path / "bad.jsonl")
    list(data)

    copy = pickle.loads(pickle.dumps(data))

    assert copy.skipped.count == 0
    list(copy)
    assert (data.skipped.count, copy.skipped.count, len(lines(tmp_path / "bad.jsonl"))) == (3, 3, 6)


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"the log of bad samples cannot be written: .*/absent is not a directory"):
        dataset(log=tmp_path / "absent" / "bad.jsonl")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}: Is a directory"):
        list(dataset(log=tmp_path))


def test_without_a_known_length_the_limit_is_a_share_of_the_samples_seen(tmp_path: Path):
    held = samples(10)
    held["cat/00002"]["cls"] = held["dog/00003"]["cls"] = b"?"
    by_tarfile(tmp_path / "x.tar", held)

    assert len(list(dataset(tmp_path, batch_size=None, max_bad=0.2))) == 8
    with pytest.raises(DataError, match=r"skipped 2 of 10 samples so far, more than max_bad=0\.19 allows"):
        list(dataset(tmp_path, batch_size=None, max_bad=0.19))


def test_a_damaged_foreign_shard_counts_as_one_bad_sample(tmp_path: Path):
    for number in range(4):
        by_tarfile(tmp_path / f"{number}.tar", samples(5, first=number * 5))
    (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:3000])
    data = dataset(tmp_path, batch_size=None, max_bad=0.4)

    assert [key for *_, key in data] == list(samples(5)) + list(samples(20))[10:]
    assert data.skipped.count == 1
    assert str(data.skipped.first[0]).startswith("the rest of shard 1.tar: ")
    with pytest.raises(
        DataError,
        match=r"including parts of 25% of the shards, more than max_bad=0\.24 allows; the first was the rest of",
    ):
        list(dataset(tmp_path, batch_size=None, max_bad=0.24))


def test_ranks_stay_in_step_after_a_damaged_foreign_shard(tmp_path: Path):
    for number in range(3):
        by_tarfile(tmp_path / f"{number}.tar", samples(4, first=number * 4))
    (tmp_path / "1.tar").write_bytes(b"")

    given = [
        [key for _, _, batch in dataset(tmp_path, batch_size=2, rank=rank, world_size=2, max_bad=1) for key in batch]
        for rank in range(2)
    ]

    assert sorted(given[0] + given[1]) == sorted(list(samples(12))[:4] + list(samples(12))[8:])
    assert len(given[0]) == len(given[1])


def test_files_that_belong_to_no_sample_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    by_tarfile(tmp_path / "x.tar", samples(3))
    with tarfile.open(tmp_path / "x.tar", "a") as tar:
        for name in ("README", "NOTES", "._x.jpg"):
            tar.addfile(tarfile.TarInfo(name))

    with caplog.at_level(logging.WARNING, "mps_shards"):
        assert len(list(dataset(tmp_path, batch_size=None))) == 3

    [record] = caplog.records
    assert "2 files have no key and field, and belong to no sample; the first: 'README'" in record.getMessage()


def test_counts_are_exact_with_many_threads():
    data = dataset(shard_set([400], broken=range(0, 400, 2)), max_bad=None, batch_size=16)

    with DeviceLoader(data, device="cpu", num_threads=8) as loader:
        images = sum(len(batch) for _, _, batch in loader)

    assert (images, loader.stats().skipped, data.skipped.count) == (200, 200, 200)
