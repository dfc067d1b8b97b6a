"""``bench`` measures a set with the real loader, and names the bottleneck and the option that changes it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mps_shards import DeviceLoader, ShardDataset, pack
from mps_shards.cli.bench import advice, measured
from mps_shards.metrics import LoaderStats
from mps_shards.shardset.shard_set import ShardSet
from tests.support.commands import refused, run
from tests.support.sets import foreign_tars, shard_set
from tests.support.things import segmentation_set
from tests.support.web import web

SLOW_S = 0.004  # far more than any stage takes for the tiny images here


@pytest.fixture(scope="module")
def photo_set(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("bench") / "photos-shards").out


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(SLOW_S)
        return function(*arguments, **options)

    return slow


def limit_of(*, transform: Any = None, **options: Any) -> tuple[str, str]:
    data = ShardDataset(shard_set([80]), batch_size=8, transform=transform)
    stats, _ = measured(DeviceLoader(data, device="cpu", num_threads=2), **options)
    return stats.bottleneck(), advice(stats)


def test_slow_storage_is_named_as_the_bottleneck(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ShardSet, "read", slowed(ShardSet.read))
    monkeypatch.setattr(ShardSet, "opened", slowed(ShardSet.opened))

    found, said = limit_of()

    assert found == "read"
    assert said.startswith("read-bound: ") and "--workers" in said and "local disk" in said


def test_slow_decoding_is_named_as_the_bottleneck(monkeypatch: pytest.MonkeyPatch):
    from mps_shards.vision import targets as sample

    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")

    monkeypatch.setattr(sample, "decode_image", slowed(sample.decode_image))

    found, said = limit_of()

    assert found == "decode"
    assert said.startswith("decode-bound: ") and "workers' busy time went into JPEG decode; try --decode scaled" in said


def test_a_slow_transform_is_named_as_the_bottleneck():
    found, said = limit_of(transform=slowed(lambda image, target, rng: (image, target)))

    assert found == "transform"
    assert said.startswith("transform-bound: ") and "--transform" in said


def test_a_slow_training_loop_is_named_as_the_bottleneck():
    found, said = limit_of(consume=lambda batch: time.sleep(10 * SLOW_S))

    assert found == "loop"
    assert said.startswith("device-bound: ") and said.endswith("the loader keeps up")


def test_slow_copies_to_the_device_are_named_as_the_bottleneck():
    said = advice(LoaderStats(batches=9, elapsed_s=10.0, send_s=6.0, starved_s=0.1, blocked_s=8.0, workers=2))

    assert said.startswith("transfer-bound: the loop spent 60% of the time sending batches") and "--transfer" in said


def test_fewer_workers_than_cores_are_mentioned_in_the_advice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mps_shards.storage.cores.available_cores", lambda: 8)

    assert advice(LoaderStats(batches=9, elapsed_s=1.0, starved_s=0.9, decode_s=1.0, workers=2)).endswith("--workers 8")


def test_without_a_dominant_stage_no_stage_is_named():
    even = LoaderStats(batches=9, elapsed_s=1.0, starved_s=0.9, read_s=0.4, decode_s=0.3, transform_s=0.3, workers=2)

    assert "no single stage dominates (read 40%, decode 30%, transform 30%, assemble 0%)" in advice(even)


def test_the_text_has_speed_stages_and_a_verdict(photo_set: Path):
    done = run("bench", photo_set, "--device", "cpu", "--batch-size", 5, "--transform", "train:32", "--workers", 2)

    assert done.code == 0, done
    assert done.stderr.startswith(("Next: mps-shards bench ", "Next: mps-shards doctor --set ")), done
    lines = [line for line in done.stdout.splitlines() if line]
    words = [line.split()[0] for line in lines]
    assert words[:4] == ["device", "speed", "measured", "memory"]
    assert words[4:12] == ["stage", "read", "decode", "transform", "assemble", "wait", "transfer", "starved"]
    assert "measured   55 images in " in done.stdout  # all but the first batch
    assert "-bound" in lines[12]


def test_the_suggested_benchmark_differs_only_in_the_remedy(photo_set: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LoaderStats, "bottleneck", lambda _: "decode")
    options = ["--device", "cpu", "--batch-size", 5, "--transform", "train:32", "--batches", 3, "--store-attempts", 2]

    done = run("bench", photo_set, *options, "--compare")

    repeated = " ".join(map(str, options))
    assert done.stderr.endswith(f"Next: mps-shards bench {photo_set} {repeated} --decode scaled\n"), done


def test_json_has_every_figure(photo_set: Path):
    found = run(
        "bench", photo_set, "--device", "cpu", "--batch-size", 5, "--batches", 4, "--decode", "scaled", "--json"
    )

    figures = found.json()
    assert figures["batches"] == 3
    assert figures["images_per_s"] > 0 and figures["mb_per_s"] > 0 and figures["first_batch_s"] > 0
    assert figures["peak_memory_bytes"] > 1e7
    assert list(figures["stages"]) == ["read", "decode", "transform", "assemble", "wait", "transfer", "starved"]
    assert figures["bottleneck"] in ("read", "decode", "transform", "assemble", "loop", "transfer")


@pytest.mark.parametrize("kind", ["labels", "masks"])
def test_compare_measures_plain_webdataset_with_the_same_work(photo_set: Path, kind: str):
    shards = photo_set if kind == "labels" else segmentation_set()

    arguments = ("--device", "cpu", "--batch-size", 4, "--transform", "train:32", "--workers", 1, "--compare", "--json")

    rival = run("bench", shards, *arguments).json()["webdataset"]

    assert rival["images_per_s"] > 0
    assert rival["processes"] == 1


def test_foreign_tars_can_be_measured():
    done = run("bench", foreign_tars([20, 20]), "--device", "cpu", "--batch-size", 4, "--transform", "train:16")

    assert done.code == 0
    assert "measured   36 images" in done.stdout
    assert done.stderr.endswith(f"Next: mps-shards index {foreign_tars([20, 20])}\n")


def test_requests_to_a_store_are_reported():
    with web(shard_set([40, 40])) as server:
        done = run("bench", server.url, "--device", "cpu", "--batch-size", 4, "--transform", "train:16")

    assert done.code == 0, done
    assert "store      " in done.stdout and " fetched, 0 attempts repeated" in done.stdout


def test_an_empty_set_delivers_nothing():
    done = run("bench", shard_set([0]), "--device", "cpu")

    assert done.code == 0, done
    assert "no batch was delivered, because the set holds no samples" in done.stdout


def test_a_set_that_cannot_be_measured_is_an_error(photo_set: Path, tmp_path: Path):
    assert refused("bench", tmp_path / "gone") == f"{tmp_path / 'gone'}: no such file or directory"
    assert refused("bench", segmentation_set(), "--decode", "scaled").startswith("decode='scaled' needs a transform")
    broken = refused("bench", shard_set([3, 3], broken=[4]), "--device", "cpu", "--transform", "train:8")
    assert broken.startswith("cannot decode the image: ") and "in sample 's00004' of shard s-000001.tar" in broken
