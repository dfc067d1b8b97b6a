"""Files of this machine: few descriptors whatever happens, whole files or none."""

import errno
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.local_disk import (
    RangeReader,
    file_size,
    map_array,
    open_stream,
    read_file,
    replacing,
    sync_folder,
)


def numbered(folder: Path, count: int, size: int = 3000) -> list[Path]:
    """Files whose bytes tell file and place apart."""
    paths = [folder / f"{n}.tar" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes((n + place) % 251 for place in range(size)))
    return paths


def open_tars(folder: Path) -> list[str]:
    """Files of the folder that this process holds open."""
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
def test_eight_threads_read_rightly_and_leave_no_more_than_the_limit_open(tmp_path: Path):
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

    with pytest.raises(StorageError, match=rf"0\.tar ends at byte {end}, {size} bytes from {offset} were asked for"):
        reader.read(str(path), offset, size)
    assert reader.read(str(path), 2990, 10) == path.read_bytes()[-10:]
    reader.close()


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path):
    reader = RangeReader()

    with pytest.raises(StorageError, match=r"gone\.tar: No such file or directory"):
        reader.read(str(tmp_path / "gone.tar"), 0, 1)


def test_a_file_that_is_gone_can_be_read_again_once_it_is_back(tmp_path: Path):
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
    assert reader.read(str(paths[0]), 5, 1) == b"\5"  # the child closed only what was its own
    for end in (reader, receiver, sender):
        end.close()


def test_a_file_appears_whole_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "x.tar"

    with replacing(path) as file:
        file.write(b"abc")
        assert not path.exists()

    assert path.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["x.tar"]


@pytest.mark.parametrize("failure", [ValueError("ours"), KeyboardInterrupt(), StorageError("theirs"), SystemExit(143)])
def test_a_block_that_fails_leaves_nothing_and_raises_its_own_error(tmp_path: Path, failure: BaseException):
    with pytest.raises(type(failure)) as raised, replacing(tmp_path / "x.tar") as file:
        file.write(b"abc")
        raise failure

    assert raised.value is failure
    assert os.listdir(tmp_path) == []


def test_a_block_that_fails_leaves_an_older_file_as_it_was(tmp_path: Path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"old")

    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.tar"]


def test_a_full_disk_is_named_as_such(tmp_path: Path):
    with pytest.raises(StorageError, match=r"cannot write .*x\.tar: the disk is full"), replacing(tmp_path / "x.tar"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert os.listdir(tmp_path) == []


def test_an_error_of_another_file_is_not_blamed_on_this_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "x.tar"):
        (tmp_path / "other").read_bytes()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path):
    complaint = r"cannot write .*x\.tar: No such file or directory"
    with pytest.raises(StorageError, match=complaint), replacing(tmp_path / "missing" / "x.tar"):
        raise AssertionError("the block must not run")


def test_what_is_no_file_is_an_error_that_names_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")

    for path, complaint in [
        (tmp_path / "gone", "gone: No such file or directory"),
        (tmp_path, "is no regular file"),
        (tmp_path / "pipe", "is no regular file"),
    ]:
        with pytest.raises(StorageError, match=complaint):
            file_size(path)
    for read in (lambda path: read_file(path, max_bytes=9), open_stream, map_array, sync_folder):
        with pytest.raises(StorageError, match="gone: No such file or directory"):
            read(tmp_path / "gone")


def test_a_small_file_is_read_whole_and_a_large_one_refused_with_both_numbers(tmp_path: Path):
    path = tmp_path / "manifest.json"
    path.write_bytes(b"12345")

    assert read_file(path, max_bytes=5) == b"12345"
    with pytest.raises(StorageError, match=r"manifest\.json has 5 bytes, at most 4 are accepted"):
        read_file(path, max_bytes=4)


def test_an_array_is_mapped_and_cannot_be_written(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype="<u4"))

    mapped = map_array(tmp_path / "a.npy")

    assert mapped.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def not_arrays() -> dict[str, bytes]:
    npz, pickled, whole = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(npz, a=1)
    np.save(pickled, np.array([{}], dtype=object))
    np.save(whole, np.arange(100))
    return {
        "empty": b"",
        "garbage": b"garbage" * 9,
        "npz": npz.getvalue(),
        "pickled": pickled.getvalue(),
        "cut off": whole.getvalue()[:300],
        "cut off in the header": whole.getvalue()[:50],
        "unbalanced header": whole.getvalue().replace(b"(100,)", b"((((((", 1),
        "header of deep nesting": whole.getvalue()[:8] + b"\xf6\x01" + b"(" * 502,
        "a type that is none": whole.getvalue().replace(b"'<i8'", b"',u8'", 1),
        "a shape that is none": whole.getvalue().replace(b"(100,)", b"{(1,):", 1),
    }


@pytest.mark.parametrize("kind", not_arrays())
def test_a_file_that_is_no_array_is_a_value_error(tmp_path: Path, kind: str):
    (tmp_path / "index.npy").write_bytes(not_arrays()[kind])

    with pytest.raises(ValueError):
        map_array(tmp_path / "index.npy")


# literal_eval, by which NumPy reads a header, is not safe between threads before CPython 3.11.8 (python/cpython#106905)
def test_threads_that_map_an_array_at_the_same_time_all_get_it(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros(3, dtype=[("offset", "<u8"), ("size", "<u4")]))
    script = f"""
import gc, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mps_shards.storage.local_disk import map_array
sys.setswitchinterval(1e-6)
gc.set_threshold(10, 5, 5)
gc.callbacks.append(lambda *_: sum(range(50)))  # as Hypothesis does: collecting runs Python, so threads change there
def often(path):
    return [map_array(path).shape for _ in range(400)]
with ThreadPoolExecutor(8) as pool:
    assert all(shapes == [(3,)] * 400 for shapes in pool.map(often, [Path({str(tmp_path / "a.npy")!r})] * 8))
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr[-300:]


@pytest.mark.parametrize(
    "header", ["(" * 9000, "-" * 9000 + "1", "{{}}", f"{{'descr': '<u8', 'fortran_order': False, 'shape': ({2**64},)}}"]
)
def test_an_array_s_header_that_numpy_trips_over_is_a_value_error(tmp_path, header):
    path = tmp_path / "index.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n")

    with pytest.raises(ValueError, match="its header cannot be understood"):
        map_array(path)
