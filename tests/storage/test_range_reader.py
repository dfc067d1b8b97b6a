"""Ranged reads of local files with few open descriptors, from any thread and process."""

import errno
import multiprocessing
import os
import pickle
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.range_reader import RangeReader


def numbered(folder: Path, count: int, size: int = 3000) -> list[Path]:
    """Write files whose bytes depend on the file and the offset."""
    paths = [folder / f"{n}.tar" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes((n + place) % 251 for place in range(size)))
    return paths


def open_tars(folder: Path) -> list[str]:
    """Return the files of the folder that this process has open."""
    held = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith(str(folder)):
            held.append(target)
    return held


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc to count descriptors in")


@needs_proc
def test_two_hundred_files_are_read_through_eight_descriptors(tmp_path: Path):
    paths, reader = numbered(tmp_path, 200), RangeReader(limit=8)

    for n, path in enumerate(paths):
        assert reader.read(str(path), n, 5) == bytes((2 * n + place) % 251 for place in range(5))
        assert len(open_tars(tmp_path)) <= 8

    assert sorted(open_tars(tmp_path)) == sorted(map(str, paths[-8:]))
    reader.close()
    assert open_tars(tmp_path) == []


@needs_proc
def test_the_file_that_was_unused_longest_is_closed_first(tmp_path: Path):
    [first, second, third], reader = numbered(tmp_path, 3), RangeReader(limit=2)

    for path in (first, second, first, third):
        reader.read(str(path), 0, 1)

    assert sorted(open_tars(tmp_path)) == sorted(map(str, (first, third)))
    reader.close()


@needs_proc
def test_eight_threads_read_the_right_bytes_and_leave_at_most_the_limit_open(tmp_path: Path):
    paths, reader = numbered(tmp_path, 40), RangeReader(limit=3)
    rng = np.random.default_rng(0)
    asked = [(int(n), int(at)) for n, at in zip(rng.integers(0, 40, 4000), rng.integers(0, 2900, 4000), strict=True)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda ask: reader.read(str(paths[ask[0]]), ask[1], 100), asked))

    assert found == [bytes((n + at + place) % 251 for place in range(100)) for n, at in asked]
    assert len(open_tars(tmp_path)) <= 3
    reader.close()


@pytest.mark.parametrize(
    ("offset", "size", "end"), [(2990, 11, 3000), (3000, 1, 3000), (5000, 10, 5000), (0, 3001, 3000)]
)
def test_reading_past_the_end_is_an_error_with_the_numbers(tmp_path: Path, offset: int, size: int, end: int):
    [path] = numbered(tmp_path, 1)
    reader = RangeReader()

    with pytest.raises(
        StorageError, match=rf"0\.tar ends at byte {end}, but {size} bytes from {offset} were requested"
    ):
        reader.read(str(path), offset, size)
    assert reader.read(str(path), 2990, 10) == path.read_bytes()[-10:]
    reader.close()


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path):
    reader = RangeReader()

    with pytest.raises(StorageError, match=r"gone\.tar: No such file or directory"):
        reader.read(str(tmp_path / "gone.tar"), 0, 1)


def test_a_file_that_was_missing_can_be_read_when_it_exists_again(tmp_path: Path):
    [path], reader = numbered(tmp_path, 1), RangeReader()
    path.rename(tmp_path / "away")
    with pytest.raises(StorageError):
        reader.read(str(path), 0, 3)

    (tmp_path / "away").rename(path)

    assert reader.read(str(path), 0, 3) == b"\0\1\2"
    reader.close()


@needs_proc
def test_a_reader_can_be_used_after_closing(tmp_path: Path):
    [path], reader = numbered(tmp_path, 1), RangeReader()
    reader.read(str(path), 0, 1)
    reader.close()
    reader.close()

    assert reader.read(str(path), 1, 2) == b"\1\2"
    del reader
    assert open_tars(tmp_path) == []


@needs_proc
def test_a_pickled_reader_opens_its_own_files(tmp_path: Path):
    [path], reader = numbered(tmp_path, 1), RangeReader(limit=5)
    reader.read(str(path), 0, 1)

    copy = pickle.loads(pickle.dumps(reader))

    assert copy.read(str(path), 7, 2) == b"\7\10"
    assert len(open_tars(tmp_path)) == 2
    copy.close()
    assert reader.read(str(path), 0, 2) == b"\0\1"
    reader.close()


@needs_proc
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_with_its_own_descriptors_and_locks(tmp_path: Path):
    paths, reader = numbered(tmp_path, 2), RangeReader()
    reader.read(str(paths[0]), 0, 1)
    shared = {os.fstat(file.descriptor).st_ino for file in reader._open.values()}
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        contents = [reader.read(str(path), 100, 50) for path in paths]
        sender.send((contents, len(open_tars(tmp_path))))

    with reader._lock:  # as if a thread of the parent were reading at that moment
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
    assert receiver.poll(30)
    contents, held = receiver.recv()
    process.join()

    assert contents == [path.read_bytes()[100:150] for path in paths]
    assert held == 2 and shared
    assert reader.read(str(paths[0]), 5, 1) == b"\5"  # the child closed only its own descriptors
    for end in (reader, receiver, sender):
        end.close()


@needs_proc
def test_many_readers_together_use_a_quarter_of_the_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = numbered(tmp_path, 64, size=10)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    readers = [RangeReader() for _ in range(10)]

    for path in paths:
        for reader in readers:
            assert reader.read(str(path), 1, 2) == path.read_bytes()[1:3]

    assert len(open_tars(tmp_path)) <= 256 // 4
    for reader in readers:
        reader.close()


def test_without_a_free_descriptor_the_error_names_the_limit_to_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    [path] = numbered(tmp_path, 1)

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (20, 20))

    with pytest.raises(StorageError, match=r"0\.tar: Too many open files; this process may open 20 .* ulimit -n 1024"):
        RangeReader().read(str(path), 0, 1)


@needs_proc
def test_a_stale_descriptor_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    [path], reader = numbered(tmp_path, 1), RangeReader()
    reader.read(str(path), 0, 1)
    stale = {file.descriptor for file in reader._open.values()}
    pread = os.pread

    def gone(descriptor: int, size: int, offset: int) -> bytes:
        if descriptor in stale:
            stale.clear()  # the next file that is opened gets this number
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", gone)

    assert reader.read(str(path), 7, 2) == b"\7\10"
    assert len(open_tars(tmp_path)) == 1
    reader.close()


@needs_proc
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 3, 3, 0, 1], [2, 2]])
def test_files_that_are_kept_open_are_those_that_were_asked_for_in_order(tmp_path: Path, order: list[int]):
    paths, reader = numbered(tmp_path, 4), RangeReader(limit=4)
    for _ in range(2):  # first they are opened, and then they are open already
        with reader.opened([str(paths[n]) for n in order]) as descriptors:
            assert descriptors is not None
            reader.close()  # closes none that is in use
            assert [os.pread(descriptor, 1, 0)[0] for descriptor in descriptors] == order
        reader.read(str(paths[order[0]]), 0, 1)

    reader.close()
    assert open_tars(tmp_path) == []


@needs_proc
def test_no_more_files_are_kept_open_than_the_limit(tmp_path: Path):
    paths, reader = [str(path) for path in numbered(tmp_path, 5)], RangeReader(limit=3)

    with reader.opened(paths[:2]) as some, reader.opened([paths[0], paths[2]]) as others:
        assert some is not None and others is not None
        with reader.opened(paths[3:4]) as fourth, reader.opened([paths[1], paths[3]]) as both:
            assert fourth is both is None
        with reader.opened([str(tmp_path / "missing.tar")]) as missing:
            assert missing is None
        assert len(open_tars(tmp_path)) == 3
    with reader.opened(paths[3:]) as later:
        assert later is not None

    reader.close()
    assert open_tars(tmp_path) == []
