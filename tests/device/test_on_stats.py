"""Progress of a running loader: callbacks, TensorBoard scalars, a live line, and the log."""

import io
import logging
import re
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mps_shards import DeviceLoader, ShardDataset, SkipRules, scalars_to, watch
from mps_shards.metrics import LoaderStats
from tests.support.sets import shard_set

Told = list[LoaderStats]


def loader_of(shards: Path, **options: Any) -> DeviceLoader:
    return DeviceLoader(
        ShardDataset(shards, batch_size=4, **options.pop("data", {})), device="cpu", num_threads=2, **options
    )


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loader's clock advance by 0.3 s at each reading."""
    ticks = count()
    clock = SimpleNamespace(perf_counter=lambda: 0.3 * next(ticks))
    monkeypatch.setattr("mps_shards.loader.time", clock)


def test_a_callback_receives_statistics_every_second_and_at_the_end(hurried: None) -> None:
    told: Told = []

    list(loader_of(shard_set([40]), on_stats=told.append))

    assert [stats.batches for stats in told] == [4, 8, 10]


def test_every_iteration_ends_with_statistics_of_its_own() -> None:
    told: Told = []
    loader = loader_of(shard_set([40]), on_stats=told.append)

    for _ in range(2):
        list(loader)

    assert [stats.images for stats in told] == [40, 40]
    assert told[0] is not told[1]


def test_an_error_of_a_callback_ends_the_iteration_and_its_threads(hurried: None) -> None:
    def full(stats: LoaderStats) -> None:
        raise OSError("no space left for curves")

    with pytest.raises(OSError, match="no space left"):
        list(loader_of(shard_set([40]), on_stats=full))


def test_tensorboard_scalars_are_per_interval_with_steps_that_continue_over_epochs() -> None:
    written: dict[str, list[tuple[float, int]]] = {}

    class Writer:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.setdefault(name, []).append((value, step))

    write = scalars_to(Writer(), tag="train")
    for batches, images, elapsed_s in ((10, 100, 1.0), (30, 300, 2.0), (5, 50, 1.0), (5, 50, 1.0)):
        write(LoaderStats(batches=batches, images=images, elapsed_s=elapsed_s, decode_s=elapsed_s, workers=2))

    assert written["train/images_per_s"] == [(100.0, 10), (200.0, 30), (50.0, 35)]
    assert written["train/decode"] == [(1.0, 10), (1.0, 30), (1.0, 35)]
    assert {"train/starved", "train/blocked", "train/read", "train/transform", "train/assemble"} < written.keys()


def test_a_terminal_shows_a_live_line() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)

    batches = list(watch(loader_of(shard_set([40])), "epoch 3", console=screen))

    assert len(batches) == 10
    assert "epoch 3" in screen.file.getvalue()
    assert "10/10" in screen.file.getvalue()
    assert "images/s, waited" in screen.file.getvalue()


@pytest.mark.parametrize("data", [{}, {"data": {"drop_last": True}}])
def test_output_that_is_not_a_terminal_gets_one_line_at_the_end(data: dict[str, Any]) -> None:
    paper = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, width=100)

    list(watch(loader_of(shard_set([41]), **data), console=paper))

    (line,) = paper.file.getvalue().splitlines()
    assert line.startswith(f"epoch: {40 if data else 41} images in ")


def skipping(shards: Path) -> DeviceLoader:
    rules = SkipRules(policy="skip", max_bad=None)
    return DeviceLoader(ShardDataset(shards, batch_size=4, on_bad_sample=rules), device="cpu", num_threads=2)


def test_skipped_samples_are_shown_in_the_line_and_table_of_an_epoch(caplog: pytest.LogCaptureFixture) -> None:
    shards = shard_set([41], broken=[2, 7, 30])
    paper = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, width=40)
    screen = Console(file=io.StringIO(), force_terminal=True, width=160)

    with caplog.at_level(logging.INFO, logger="mps_shards"), skipping(shards) as loader:
        list(watch(loader, console=paper))
        list(watch(loader, console=screen))
        table = str(loader.stats())

    (line,) = paper.file.getvalue().splitlines()
    assert line.startswith("epoch: 38 images in ") and line.endswith(", 3 samples skipped")
    assert "3 skipped" in screen.file.getvalue()
    logged = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("38 images in ") and "3 samples skipped" in text for text in logged)
    assert re.search(r"^skipped +3 samples; the first is sample '", table, re.MULTILINE)


def test_a_notebook_shows_the_live_line_without_widgets_and_keeps_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            shown.append(data["text/plain"])

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        shown.append(data["text/plain"])
        return Handle()

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)

    list(watch(loader_of(shard_set([40])), "epoch 3", console=Console(force_jupyter=True)))

    assert shown[0] == "epoch 3: starting"
    assert re.fullmatch(r"epoch 3: 10/10 batches, 40 images in .* s, .* images/s, waited \d+%", shown[-1])


def test_the_line_of_an_epoch_that_is_left_early_shows_its_progress() -> None:
    paper = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False)

    for _ in watch(loader_of(shard_set([40])), console=paper):
        break

    assert paper.file.getvalue().startswith("epoch: 4 images in ")


def test_leaving_a_watched_loop_early_ends_its_threads() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True)

    for _ in watch(loader_of(shard_set([40])), console=screen):
        break


def test_the_summary_of_an_epoch_is_logged_at_level_info_only(caplog: pytest.LogCaptureFixture) -> None:
    list(loader_of(shard_set([40])))
    silent = list(caplog.records)
    with caplog.at_level(logging.INFO, logger="mps_shards"):
        list(loader_of(shard_set([40])))

    assert silent == []
    assert caplog.records[0].getMessage().startswith("40 images in ")
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("mps_shards").handlers)
