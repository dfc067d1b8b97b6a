"""Every executor and every number of workers writes the same bytes."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mps_shards import pack
from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing import commit
from mps_shards.packing.executors import local_threads as local_engine
from tests.support.files import contents
from tests.support.images import class_folders, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=3, each=10)
    return write(tmp_path / "imgs", {"class-1/bad.jpg": b"no image"})


OPTIONS = {"shard_samples": 4, "on_bad_sample": "skip", "drop_duplicates": True}


@pytest.fixture
def local(source: Path, tmp_path: Path) -> dict[str, bytes]:
    return contents(pack(source, tmp_path / "local", workers=1, **OPTIONS).out)


@pytest.mark.parametrize("workers", [2, 4])
def test_local_threads_make_every_shard(source: Path, tmp_path: Path, local: dict[str, bytes], workers: int):
    assert contents(pack(source, tmp_path / "out", workers=workers, **OPTIONS).out) == local


def test_after_a_failure_no_thread_begins_a_shard_and_the_first_error_is_raised(monkeypatch: pytest.MonkeyPatch):
    begun = []

    def fail(number: int, *_: object) -> bool:
        begun.append(number)
        raise DataError(f"shard {number}")

    def handed_out() -> Iterator[int]:
        for number in range(10):
            yield number
            time.sleep(0.01)  # without it, the thread would end before the main thread waits

    monkeypatch.setattr(local_engine, "make_shard", fail)

    with pytest.raises(DataError, match="shard 0"):
        local_engine.run_local(range(10), handed_out(), lambda *_: None, threads=1)

    assert begun == [0]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_array_tasks_may_run_in_any_order(source: Path, tmp_path: Path, local: dict[str, bytes], count: int):
    tasks = random.Random(count).sample(range(count), count)

    for index in tasks:
        report = pack(source, tmp_path / "out", executor="array", task_index=index, num_tasks=count, **OPTIONS)
        assert not report.finished
    report = commit(tmp_path / "out")

    assert contents(tmp_path / "out") == local
    assert (report.finished, len(report.skipped), report.sets[0].samples) == (True, 1, 30)


def test_array_tasks_may_begin_at_the_same_time(source: Path, tmp_path: Path, local: dict[str, bytes]):
    script = """
import sys, mps_shards
source, out, index = sys.argv[1:]
options = dict(shard_samples=4, on_bad_sample="skip", drop_duplicates=True)
mps_shards.pack(source, out, executor="array", task_index=int(index), num_tasks=4, **options)
"""
    command = [sys.executable, "-c", script, source, tmp_path / "out"]
    running = [subprocess.Popen([*command, str(index)], stderr=subprocess.PIPE, text=True) for index in range(4)]

    complaints = [each.communicate(timeout=60)[1] for each in running]
    commit(tmp_path / "out")

    assert [each.returncode for each in running] == [0] * 4, complaints
    assert contents(tmp_path / "out") == local


def test_tasks_of_another_plan_are_refused(source: Path, tmp_path: Path):
    pack(source, tmp_path / "out", executor="array", task_index=0, num_tasks=2, **OPTIONS)

    with pytest.raises(ConfigError, match="another plan"):
        pack(source, tmp_path / "out", executor="array", task_index=1, num_tasks=2, **OPTIONS, seed=1)


def test_an_array_task_may_be_run_again(source: Path, tmp_path: Path, local: dict[str, bytes]):
    for index in (0, 1, 1):
        report = pack(source, tmp_path / "out", executor="array", task_index=index, num_tasks=2, **OPTIONS)
    commit(tmp_path / "out")

    assert report.kept == 4
    assert contents(tmp_path / "out") == local


def test_a_failed_array_task_keeps_the_shards_of_other_tasks(source: Path, tmp_path: Path):
    task = {"executor": "array", "num_tasks": 2, "shard_samples": 16, "shuffle": False}
    with pytest.raises(DataError, match=r"class-1/bad\.jpg is not an image"):
        pack(source, tmp_path / "out", task_index=1, **task)

    pack(source, tmp_path / "out", task_index=0, **task)

    assert (tmp_path / "out" / "shard-000000.tar").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"executor": "spark"}, "executor must be one of 'local', 'ray', 'array', not 'spark'"),
        ({"executor": "array"}, "needs task_index and num_tasks"),
        ({"executor": "array", "task_index": 2, "num_tasks": 2}, "task_index must be from 0 to 1 for 2 tasks, not 2"),
        ({"executor": "array", "task_index": 0, "num_tasks": 2, "overwrite": True}, "cannot overwrite"),
        ({"task_index": 0}, "task_index and num_tasks go with executor 'array'"),
        ({"ray_address": "auto"}, "ray_address needs executor 'ray'"),
        ({"on_bad_sample": "ignore"}, "on_bad_sample must be one of 'fail', 'skip', not 'ignore'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(source: Path, tmp_path: Path, options: dict, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        pack(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_array_task_refuses_a_source_that_changed_since_its_shard_was_made(source: Path, tmp_path: Path):
    (source / "class-1/bad.jpg").unlink()
    task = {"executor": "array", "num_tasks": 1, "task_index": 0, "shard_samples": 4, "shuffle": False, "workers": 1}
    first = source / "class-0" / "0.jpg"
    first = first if first.exists() else sorted((source / "class-0").iterdir())[0]
    count = 0

    def change(samples: int, size: int) -> None:
        nonlocal count
        count += samples
        if count == 8:  # after the shard of the changed image is made
            first.write_bytes(first.read_bytes()[::-1])

    with pytest.raises(StorageError, match=f"{first.name}, or its mask, changed while it was packed"):
        pack(source, tmp_path / "out", on_progress=change, **task)
