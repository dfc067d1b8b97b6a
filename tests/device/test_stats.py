"""Statistics of a loader: counts, times, and the bottleneck."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mps_shards import DeviceLoader, ShardDataset, classify, native
from mps_shards.metrics import LoaderStats, Skip
from mps_shards.reading.foreign_source import ForeignSource
from tests.support.sets import foreign_tars


def test_statistics_of_an_epoch_count_all_its_batches_images_and_bytes(
    loader_of: Callable[..., DeviceLoader], photos: Path
) -> None:
    loader = loader_of()

    batches = list(loader)
    stats = loader.stats()

    assert (stats.batches, stats.images, stats.skipped, stats.workers) == (15, 60, 0, 2)
    assert stats.bytes_sent == sum(images.nbytes + labels.nbytes for images, labels, _ in batches)
    # images, and one digit per label
    assert stats.bytes_read == sum(path.stat().st_size for path in photos.rglob("*.jpg")) + 60
    assert min(stats.read_s, stats.decode_s, stats.elapsed_s) > 0
    if not native.is_available():  # the kernel decodes, transforms and assembles in one call, which counts as decoding
        assert min(stats.transform_s, stats.assemble_s) > 0
    assert (stats.filling, stats.ready, stats.in_flight) == (0, 0, 0)
    assert stats.images_per_s == pytest.approx(60 / stats.elapsed_s)


def test_statistics_during_an_epoch_show_the_queue_and_do_not_change_later(
    loader_of: Callable[..., DeviceLoader],
) -> None:
    loader = loader_of()
    held = iter(loader)
    next(held)

    early = loader.stats()
    list(held)

    assert early.batches == 1
    assert early.filling + early.ready <= 5
    assert loader.stats().batches == 15


def test_a_device_receives_a_quarter_of_the_bytes_that_the_cpu_does(loader_of: Callable[..., DeviceLoader]) -> None:
    on_host, as_bytes = loader_of(), loader_of(transfer="inline")

    for loader in (on_host, as_bytes):
        list(loader)

    labels = 60 * 8
    assert on_host.stats().bytes_sent - labels == 4 * (as_bytes.stats().bytes_sent - labels)


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ({}, "nothing was delivered yet"),
        ({"starved_s": 0.2}, "device-bound: the training loop waited 2% of the time for batches"),
        (
            {"starved_s": 6.0, "decode_s": 9.0, "read_s": 1.0},
            "loader-bound: the training loop waited 60% of the time; 90% of the workers' busy time went into decode",
        ),
        (
            {"starved_s": 0.2, "send_s": 7.0},
            "transfer-bound: the training loop waited 2% of the time, and spent 70% of it sending batches",
        ),
        (
            {"starved_s": 6.0, "decode_s": 1.0, "blocked_s": 18.0},
            "transfer-bound: the training loop waited 60% of the time, and spent 0% of it sending batches",
        ),
        (
            {"starved_s": 6.0, "transform_s": 3.0, "decode_s": 1.0},
            "loader-bound: the training loop waited 60% of the time; 75% of the workers' busy time went into transform",
        ),
    ],
)
def test_the_verdict_names_the_bottleneck(figures: dict[str, float], verdict: str) -> None:
    stats = LoaderStats(batches=10 if figures else 0, elapsed_s=10.0, workers=2)
    for name, value in figures.items():
        setattr(stats, name, value)

    assert stats.verdict() == verdict


def test_the_difference_of_two_statistics_covers_the_time_between_them() -> None:
    early = LoaderStats(batches=2, images=20, elapsed_s=1.0, decode_s=1.5, ready=3, workers=2)
    late = LoaderStats(batches=6, images=60, elapsed_s=2.0, decode_s=2.0, ready=1, workers=2)

    between = late.since(early)

    assert (between.batches, between.images, between.elapsed_s, between.decode_s) == (4, 40, 1.0, 0.5)
    assert (between.ready, between.workers) == (1, 2)
    assert between.images_per_s == 40


def test_reading_tars_without_an_index_counts_as_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = ForeignSource.plans

    def slow(source: ForeignSource, *arguments: Any, **options: Any) -> Any:
        for plan in plans(source, *arguments, **options):
            time.sleep(0.01)
            yield plan

    monkeypatch.setattr(ForeignSource, "plans", slow)
    loader = DeviceLoader(ShardDataset(foreign_tars([40]), batch_size=4), device="cpu", num_threads=2)

    list(loader)

    assert loader.stats().read_s >= 0.1  # ten batches


def test_a_slow_transform_is_found_to_be_the_bottleneck(shard_set: Path) -> None:
    rest = torch.zeros(400, 400)

    def slow(image: torch.Tensor, target: int, rng: Any) -> Any:
        for _ in range(4):
            rest @ rest
        return classify.evaluate(16)(image, target, rng)

    loader = DeviceLoader(ShardDataset(shard_set, batch_size=10, transform=slow), device="cpu", num_threads=2)
    list(loader)

    assert loader.stats().verdict().endswith("went into transform")


def test_printed_statistics_are_a_short_table_that_ends_with_the_verdict(
    loader_of: Callable[..., DeviceLoader],
) -> None:
    loader = loader_of()
    list(loader)

    lines = str(loader.stats()).splitlines()

    assert re.fullmatch(r"delivered +60 images in 15 batches", lines[0])
    assert lines[-1].endswith(loader.stats().verdict()) and len(lines) <= 8
    assert len({re.match(r"(\d workers|[a-z]+( [a-z]+)?) +", line).end() for line in lines}) == 1  # type: ignore


def test_the_html_table_of_statistics_escapes_its_texts() -> None:
    stats = LoaderStats(batches=1, images=1, skipped=1, skips=(Skip("<b>", "s.tar", 3, "not an image"),), elapsed_s=1.0)

    html = stats._repr_html_()

    assert html.startswith("<table>") and "&lt;b&gt;" in html and "<b>" not in html
    assert "1 image in 1 batch<" in html


def test_statistics_of_a_loader_without_batches_can_be_printed() -> None:
    assert str(LoaderStats()).endswith("nothing was delivered yet")
