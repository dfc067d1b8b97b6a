"""The benchmarks beside rivals: a tiny real round, a checker that can fail, and tables whose ratios are right."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mps_shards import native
from tools.bench import images as bench_images
from tools.bench import large as bench_large
from tools.bench import overhead as bench_overhead
from tools.bench import segment as bench_segment
from tools.bench import short as bench
from tools.bench import start as bench_start
from tools.bench import threads as bench_threads
from tools.bench.rivals import arena, of_torchvision, of_webdataset, ours, roster, trial
from tools.bench.rivals.arena import Result, results_table, verdicts
from tools.bench.rivals.pictures import prepared
from tools.bench.rivals.report import spread, table
from tools.bench.rivals.workloads import WORKLOADS, Task

webdataset_leaves_tars_open = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bench-data")


def told(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_round_in_fresh_processes_measures_ours_and_the_ceiling(tmp_path, data, capsys):
    options = ["--workloads", "W1", "--contestants", "ours", "decode", "--images", "24", "--rounds", "1"]

    results = bench_images.main([*options, "--epochs", "1", "--data", str(data), "--out", str(tmp_path)])

    assert [(each.contestant, each.failure) for each in results] == [("ours", None), ("decode", None)]
    assert all(each.rate > 1 for each in results)
    machine, *lines = told(tmp_path / "bench_images.jsonl")
    assert machine["cores"] >= 1 and torch.__version__.startswith(machine["versions"]["torch"]) and machine["commit"]
    mine = next(line for line in lines if line.get("trial") == "ours")
    assert mine["max_off"] <= 1 and mine["first_batch_s"] > 0 and mine["rss_mb"] > 50
    said = capsys.readouterr().out
    assert "| **mps-shards**" in said and "of the bare loop: decode only" in said


@pytest.mark.parametrize(
    ("workload", "open_loader", "off"),
    [
        ("W2", ours.exact, 0.1),
        ("W3", ours.exact, 0.0),
        ("W4", ours.exact, 0.1),
        ("W4", ours.scaled, 6.0),
        ("W5", ours.exact, 0.1),
    ],
)
def test_ours_delivers_every_workload(workload, open_loader, off, data):
    task = prepared(workload, data, workers=2, images=16 if workload != "W4" else 2)

    figures = trial.measure(open_loader, task, epochs=1, tolerance=off)

    assert len(figures["images_per_s"]) == 1


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # webdataset's own arrays
@webdataset_leaves_tars_open
@pytest.mark.parametrize(
    ("workload", "open_loader"),
    [
        ("W1", of_torchvision.folder_pil),
        ("W1", of_torchvision.folder_io),
        ("W2", of_webdataset.pil),
        ("W3", of_webdataset.rgb8),
        ("W5", of_webdataset.rgb8),
    ],
)
def test_rivals_that_the_project_installs_pass_the_same_checks(workload, open_loader, data, monkeypatch):
    # in this process: forking one that runs threads is not for tests
    monkeypatch.setattr(of_torchvision, "workers", in_this_process)
    monkeypatch.setattr(of_webdataset, "workers", in_this_process)
    task = prepared(workload, data, workers=2, images=16)

    figures = trial.measure(open_loader, task, epochs=0, tolerance=0.1)

    assert figures["images_per_s"] == []


def in_this_process(samples, task, *, batch_size):
    return torch.utils.data.DataLoader(samples, batch_size=batch_size)


def swapped_labels(images, labels):
    return images, labels.flip(0)


def one_pixel_off(images, labels):
    return images.roll(1, dims=-1), labels


def other_pictures(images, labels):
    squares = (torch.arange(224) // 14 % 2).float()
    return (squares[:, None] - squares).abs().expand_as(images).contiguous(), labels


def bytes_range(images, labels):
    return images * 255, labels


def channels_last(images, labels):
    return images.contiguous(memory_format=torch.channels_last), labels


def one_short(images, labels):
    return images[1:], labels[1:]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (swapped_labels, "delivered with the wrong label"),
        (one_pixel_off, "differ from those of the files"),
        (other_pictures, "belongs to no file"),
        (bytes_range, "instead of 0..1"),
        (channels_last, "not stored as NCHW"),
        (one_short, "images were delivered"),
    ],
)
def test_no_rate_is_told_of_a_loader_that_delivers_something_else(spoil, complaint, data):
    task = prepared("W3", data, workers=1, images=16)

    class Spoiled:
        def __init__(self, told: Task):
            self.loader = ours.exact(told)

        def close(self):
            self.loader.close()

        def __iter__(self):
            return (spoil(*batch) for batch in self.loader)

    with pytest.raises(ValueError, match=complaint):
        trial.measure(Spoiled, task, epochs=0, tolerance=0.1)


def test_a_wrong_mask_is_found(data):
    task = prepared("W5", data, workers=1, images=16)

    class Spoiled:
        def __init__(self, told: Task):
            self.loader = ours.exact(told)

        def close(self):
            self.loader.close()

        def __iter__(self):
            return ((images, masks.roll(1, dims=-1)) for images, masks in self.loader)

    with pytest.raises(ValueError, match="wrong_masks"):
        trial.measure(Spoiled, task, epochs=0, tolerance=0.1)


def test_a_rival_that_does_not_install_is_reported_and_the_others_go_on(tmp_path, data, monkeypatch, capsys):
    def absent(package, folder):
        if package:
            raise roster.NotInstalled("no wheel for this machine")
        return sys.executable

    monkeypatch.setattr(arena, "python_for", absent)
    monkeypatch.setattr(arena, "_figures", canned)
    options = ["--workloads", "W1", "--images", "16", "--data", str(data), "--out", str(tmp_path)]

    results = bench_images.main([*options, "--contestants", "mlx-data", "ours"])

    assert [each.failure is None for each in results] == [False, True]
    assert "not installed: no wheel for this machine" in capsys.readouterr().out


def test_a_contestant_that_fails_is_named_with_its_error(tmp_path, data):
    task = prepared("W3", data, workers=1, images=16)
    elsewhere = Task.decoded(task.encoded().replace(str(task.shards), str(tmp_path)))

    with pytest.raises(arena.TrialFailed, match="ManifestError"):
        arena._figures(sys.executable, roster.ROSTER["ours"], elsewhere, 1)


RATES = {"ours": 100.0, "webdataset-rgb8": 40.0, "folder-io": 80.0, "decode": 200.0, "work": 125.0}


def canned(python, contestant, task, epochs):
    name = next(name for name, each in roster.ROSTER.items() if each == contestant)
    rate = RATES.get(name, 50.0)
    return {"images_per_s": [rate] * epochs, "first_batch_s": 0.5, "rss_mb": 1000.0, "pss_mb": 800.0, "cpu_ms": 1.0}


@webdataset_leaves_tars_open
def test_the_short_benchmark_leaves_tables_and_a_chart(tmp_path, data, monkeypatch, capsys):
    monkeypatch.setattr(arena, "_figures", canned)
    (tmp_path / "data").symlink_to(data)

    assert bench.main(["--out", str(tmp_path), "--images", "16", "--rounds", "1"])

    written = (tmp_path / "speed.md").read_text()
    assert written in capsys.readouterr().out
    assert "* W1: 2.00x webdataset's best; 1.25x the best rival" in written and "`make bench`" in written
    assert len(told(tmp_path / "bench_images.jsonl")) == 1 + 3 * 6 * 2
    assert (tmp_path / "speed.svg").read_text().count("</svg>") == 1
    assert (tmp_path / "bench_overhead.jsonl").exists()


def test_start_and_threads_run_every_contestant_in_turn(tmp_path, data, monkeypatch, capsys):
    monkeypatch.setattr(arena, "_figures", canned)
    common = ["--out", str(tmp_path), "--data", str(data), "--images", "16", "--rounds", "2"]

    assert bench_start.main(common)
    assert bench_threads.main([*common, "--threads", "1", "2"])

    trials = [line for line in told(tmp_path / "bench_start.jsonl") if "trial" in line]
    assert [trial["trial"] for trial in trials] == 2 * ["ours", *2 * ["webdataset-rgb8"], *2 * ["folder-io"]]
    said = capsys.readouterr().out
    assert "spawn" in said and "threads or processes" in said


def test_large_and_segmentation_are_the_same_benchmark_on_other_photographs():
    assert bench_large.main is bench_segment.main is bench_images.main
    assert {"ours", "ours-scaled", "decode"} <= {name for name, each in roster.ROSTER.items() if "W4" in each.workloads}
    assert {"ours", "webdataset-rgb8"} <= {name for name, each in roster.ROSTER.items() if "W5" in each.workloads}
    assert all(set(each.workloads) <= set(WORKLOADS) for each in roster.ROSTER.values())


@webdataset_leaves_tars_open
def test_overhead_counts_samples_before_it_tells_of_time(tmp_path, data, capsys):
    bench_overhead.main(["--out", str(tmp_path), "--data", str(data), "--images", "16", "--rounds", "1"])

    said = capsys.readouterr().out
    assert "us of Python per sample" in said and "webdataset in this process" in said
    assert len(told(tmp_path / "bench_overhead.jsonl")) == 1 + 2 * (6 if native.is_available() else 5)


def test_ratios_are_of_medians_of_undisturbed_trials_and_ceilings_are_no_rivals():
    results = [
        Result("ours", "W1", [300.0, 100.0, 110.0], disturbed=[1.0, 1.0]),
        Result("webdataset-pil", "W1", disturbed=[50.0]),
        Result("folder-io", "W1", [100.0]),
        Result("decode", "W1", [220.0]),
        Result("dali", "W1", failure="not installed: no wheel"),
    ]

    (line,) = verdicts(results)

    assert line == (
        "W1: 2.20x webdataset's best; 1.10x the best rival (torchvision ImageFolder, decode_jpeg + v2); "
        "0.50 of the bare loop: decode only"
    )
    order = [row.split("|")[1].strip() for row in results_table(results).splitlines()[4:]]
    assert order[0] == "bare loop: decode only" and order[1] == "**mps-shards**" and order[-1] == "DALI on the CPU"


def test_tables_line_up_and_spreads_hold_the_median():
    lines = table(["loader", "n"], [["a", "1"], ["long name", "1,000"]]).splitlines()

    assert len({len(line) for line in lines}) == 1 and lines[1].endswith("-: |")
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}


def test_photographs_are_made_once_and_segmentation_has_several_ids(data):
    first = prepared("W5", data, workers=1, images=16)
    before = {path: path.stat().st_mtime_ns for path in first.photos.rglob("*.*")}

    second = prepared("W5", data, workers=1, images=16)

    assert {path: path.stat().st_mtime_ns for path in second.photos.rglob("*.*")} == before
    from PIL import Image

    with Image.open(next((first.photos / "masks").iterdir())) as mask:
        assert mask.mode == "L" and len(np.unique(np.asarray(mask))) > 2
