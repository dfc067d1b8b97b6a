"""Log files to which several threads and processes append lines."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.append_log import append_line


def write_many(path: Path, letter: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: append_line(path, letter * (50 + number % 900)), range(200)))


def test_lines_of_threads_and_processes_never_mix(tmp_path: Path):
    path = tmp_path / "lines"
    workers = [multiprocessing.get_context("fork").Process(target=write_many, args=(path, letter)) for letter in "ab"]

    for worker in workers:
        worker.start()
    write_many(path, "c")
    for worker in workers:
        worker.join()

    lines = path.read_text().splitlines()
    assert len(lines) == 600 and all(len(set(line)) == 1 for line in lines)


def test_any_text_is_appended_to_the_existing_lines(tmp_path: Path):
    path = tmp_path / "lines"
    path.write_text("before\n")

    append_line(path, "é日")

    assert path.read_text("utf-8") == "before\né日\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_named():
    with pytest.raises(StorageError, match="cannot write /dev/full: No space left on device"):
        append_line(Path("/dev/full"), "x")
