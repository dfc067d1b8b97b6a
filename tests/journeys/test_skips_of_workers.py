"""Samples that DataLoader workers skip are reported in the main process: `skipped`, `repr`, `stats()`, `watch`, log."""

import io
import logging
import pickle
from itertools import islice
from typing import Any

import pytest
import torch.multiprocessing
from rich.console import Console
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from mps_shards import DeviceLoader, ShardDataset, SkipRules
from mps_shards.inspect.live_line import watch
from mps_shards.metrics import Skip, SkipReport
from mps_shards.reading.worker_skips import WorkerSkips
from tests.support.sets import shard_set

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 and later

BROKEN = (3, 7, 11)  # of batches 0, 1 and 2 of five
SET = shard_set([15, 15], broken=BROKEN)


def dataset(**options: Any) -> ShardDataset:
    rules = SkipRules(policy="skip", max_bad=0.5)
    return ShardDataset(SET, **{"batch_size": 5, "on_bad_sample": rules, **options})


@pytest.mark.parametrize(
    ("method", "persistent"),
    [("fork", False), ("fork", True), ("spawn", True), pytest.param("forkserver", False, marks=pytest.mark.slow)],
)
def test_the_main_process_counts_the_samples_that_workers_skip_in_each_epoch(method: str, persistent: bool):
    data = dataset()
    batches = DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context=method, persistent_workers=persistent
    )
    assert data.skipped == SkipReport() and "skipped" not in repr(data)

    for _ in range(2):
        assert len(list(batches)) == 6

        assert data.skipped.count == 3
        assert [(skip.key, skip.shard, skip.position) for skip in data.skipped.first] == [
            ("s00003", "s-000000.tar", 3),
            ("s00007", "s-000000.tar", 7),
        ]
        assert data.skipped.first[0].reason.startswith("cannot decode the image")
        assert "skipped=3" in repr(data) and "skipped" in data._repr_html_()


def test_a_resumed_stateful_dataloader_counts_the_remaining_skips():
    batches = StatefulDataLoader(dataset(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    list(islice(batches, 2))
    state = batches.state_dict()
    data = dataset()
    resumed = StatefulDataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork")
    resumed.load_state_dict(state)

    list(resumed)

    assert data.skipped.count == 1  # sample 11, in the third batch


def test_epochs_are_counted_separately_by_the_iterator_that_reads_them():
    data = dataset()
    batches = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork")
    list(batches)
    data.load_state_dict(data.state_dict(batches=0) | {"position": 10})

    list(batches)
    assert data.skipped.count == 1
    list(data)  # in this process
    assert data.skipped.count == 3


def test_a_copy_has_its_own_counts():
    data = dataset()
    copy = pickle.loads(pickle.dumps(data))

    list(DataLoader(copy, batch_size=None, num_workers=2, multiprocessing_context="fork"))

    assert (data.skipped.count, copy.skipped.count) == (0, 3)


def test_a_composed_data_set_reports_the_same_skips():
    data = dataset()

    list(DataLoader(data.map(len), batch_size=None, num_workers=2, multiprocessing_context="fork"))

    assert data.skipped.count == 3


def test_device_loader_over_a_dataloader_reports_skips_in_all_its_reports(caplog: pytest.LogCaptureFixture):
    screen = Console(file=io.StringIO(), width=200)
    data = dataset()
    with DeviceLoader(
        DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork"), device="cpu"
    ) as loader:
        for _ in range(2):
            with caplog.at_level(logging.INFO, "mps_shards"):
                batches = watch(loader, console=screen)
                next(batches)
                list(batches)
            stats = loader.stats()

            assert stats.skipped == 3 and stats.skips == data.skipped.first

    assert screen.file.getvalue().count("3 samples skipped") == 2
    assert "3 samples skipped" in caplog.text
    assert "skipped" in str(stats)


def rank(number: int, data: ShardDataset, counts: Any) -> None:
    list(DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert data.position.epoch == 1  # of its own iterations alone
    counts[number] = data.skipped.count


def test_ranks_that_inherit_one_data_set_do_not_count_the_skips_of_other_ranks():
    data = dataset()
    context = torch.multiprocessing.get_context("fork")
    counts = context.Array("i", [-1, -1])
    ranks = [context.Process(target=rank, args=(number, data, counts)) for number in range(2)]

    for process in ranks:
        process.start()
    for process in ranks:
        process.join()

    assert list(counts) == [3, 3]
    assert data.skipped.count == 0 and data.position.epoch == 0


def test_long_names_are_shortened_and_any_text_is_kept():
    skips = WorkerSkips()
    skips.record(7, 1, 1, Skip("é" * 300, "a.tar", None, "\0bad \ud800"))
    skips.record(7, 1, 5, None)
    skips.record(8, 0, 2, Skip(None, "b.tar", 4, "x"))
    skips.record(8, 1000, 2, Skip(None, "b.tar", 4, "x"))

    assert skips.report(7).count == 5
    [first] = skips.report(7).first
    assert first.key == "é" * 78 + "…" and (first.position, first.reason) == (None, "?bad ?")
    assert skips.report(8) == SkipReport(2, (Skip(None, "b.tar", 4, "x"),))
    assert skips.report(3) == SkipReport()  # in the place of 7
