"""A pack that is stopped, killed, or out of space never leaves anything that looks like a finished shard set."""

import os
import resource
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, ShardsError, StorageError
from tests.support.files import contents
from tests.support.images import class_folders, tiny_jpeg, write

LARGE = tiny_jpeg() + bytes(300_000)

# Packs a folder. At the sample with this number, it prints a line and waits for input, so that the test knows the
# moment. It also prints a line when it has received a signal.
DRIVER = """
import sys, threading, mps_shards.progress_bar as module
from mps_shards.storage.ordered_map import Job, WorkerPool
wait, stop_pool = Job.wait, WorkerPool.stop
waiting = threading.Event()  # the main thread waits for the workers, so that a signal finds it there
def said(self):
    if self.is_stopped():
        print("stopping", flush=True)
    waiting.set()
    wait(self)
def stopping(self):  # a signal may also find the main thread just before it waits for a job
    if held:
        print("stopping", flush=True)
    stop_pool(self)
Job.wait, WorkerPool.stop = said, stopping
stop = int(sys.argv.pop())
count, held = 0, False
def advance(self, samples, size):
    global count, held
    count += 1
    if count == stop:
        waiting.wait(60)
        held = True
        print("now", flush=True)
        sys.stdin.read()
module.Bar.advance = advance
from mps_shards.cli import main
main()
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=3, each=10)
    return tmp_path / "imgs"


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class Pack:
    """A pack in another process that stops at one of 30 samples; sample 18 is in the second of three shards."""

    def __init__(self, source: Path, out: Path, at: int = 18):
        arguments = ["pack", source, out, "--shard-samples", "12", "--workers", "1", at]
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"now\n"

    def signal(self, sign: int) -> None:
        """Send a signal to the process and wait until it has received it."""
        self.process.send_signal(sign)
        assert self.process.stdout.readline() == b"stopping\n"

    def ended(self) -> tuple[int, str]:
        """Let the process continue; return its exit status and its output."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.decode()


def test_a_killed_pack_looks_unfinished_and_can_be_continued(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    running = Pack(source, out)

    running.process.kill()
    running.ended()

    assert {name for name in left_in(out) if not name.startswith(".")} == {"manifest.json.part", "shard-000000.tar"}
    with tarfile.open(out / "shard-000000.tar") as tar:
        assert len(tar.getnames()) == 24  # the tar is complete
    with pytest.raises(StorageError, match="holds an unfinished pack"):
        ShardDataset(out, batch_size=1)
    first = (out / "shard-000000.tar").stat()
    assert pack(source, out, shard_samples=12).kept == 1
    assert (out / "shard-000000.tar").stat() == first
    assert contents(out) == undisturbed(source, tmp_path)


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_signal_keeps_finished_shards_and_reports_them(source: Path, tmp_path: Path, sign: int, status: int):
    out = tmp_path / "out"
    running = Pack(source, out)

    running.signal(sign)
    ended, said = running.ended()

    assert ended == status
    assert "Traceback" not in said
    assert f"1 finished shard is kept in {out}; run the same command again to continue" in said
    assert {name for name in left_in(out) if name.endswith((".tar", ".part"))} == {
        "manifest.json.part",
        "shard-000000.tar",
    }
    assert pack(source, out, shard_samples=12).kept == 1
    assert contents(out) == undisturbed(source, tmp_path)


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_shard_leaves_the_destination_as_it_was(
    source: Path, tmp_path: Path, sign: int, existed: bool
):
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    running = Pack(source, out, at=5)

    running.signal(sign)
    running.ended()

    assert out.exists() == existed and not (existed and any(out.iterdir()))


def test_two_packs_cannot_write_to_one_folder_at_the_same_time(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    running = Pack(source, out)

    for options in ({"shard_samples": 12}, {"overwrite": True}):
        with pytest.raises(ConfigError, match=rf"out is being packed by process {running.process.pid} on .*; wait"):
            pack(source, out, **options)

    assert running.ended()[0] == 0
    assert contents(out) == undisturbed(source, tmp_path)


def undisturbed(source: Path, tmp_path: Path) -> dict[str, bytes]:
    pack(source, tmp_path / "undisturbed", shard_samples=12)
    return contents(tmp_path / "undisturbed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate disk of one megabyte that can hold eleven files or folders."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=12", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("existed", [False, True])
def test_a_full_disk_is_reported_and_left_as_it_was(tmp_path: Path, small_disk: Path, existed: bool):
    source = write(tmp_path / "imgs", {f"cat/{n}.jpg": LARGE for n in range(8)})
    out = small_disk / "out"
    if existed:
        out.mkdir()

    with pytest.raises(StorageError, match=r"cannot write .*shard-000000\.tar: the disk is full"):
        pack(source, out)

    assert out.exists() == existed and left_in(small_disk) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_keeps_the_finished_shards(tmp_path: Path, small_disk: Path):
    source = write(tmp_path / "imgs", {f"cat/{n}.jpg": LARGE for n in range(8)})
    out = small_disk / "out"

    with pytest.raises(StorageError, match=r"cannot write .*shard-000001\.tar: the disk is full") as failure:
        pack(source, out, shard_samples=2, workers=1)
    subprocess.run(["mount", "-o", "remount,size=8m,nr_inodes=100", small_disk], check=True)

    [note] = failure.value.__notes__
    assert note.endswith(f"kept in {out}; run the same command again to continue")
    assert pack(source, out, shard_samples=2).kept == 1
    pack(source, tmp_path / "undisturbed", shard_samples=2)
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_without_room_for_another_folder_is_reported(tmp_path: Path, small_disk: Path):
    names = ("train", "val", "test")
    source = write(tmp_path / "imgs", {f"{name}/cat/x.jpg": tiny_jpeg() for name in names})

    with pytest.raises(StorageError, match="No space left on device"):
        pack(source, small_disk / "a" / "out")

    assert left_in(small_disk) == set()


def test_a_file_size_limit_is_an_error_and_leaves_no_files(source: Path, tmp_path: Path):
    script = f"""
import mps_shards
from mps_shards.errors import StorageError
try:
    mps_shards.pack({str(source)!r}, {str(tmp_path / "out")!r})
except StorageError as error:
    print(error)
"""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=limited)

    assert done.stdout.startswith(f"cannot write {tmp_path / 'out' / 'shard-000000.tar'}: File too large"), done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["shard-000001.tar", "index.npy", "manifest.json"])
def test_a_set_that_lost_a_file_is_refused_by_its_name(source: Path, tmp_path: Path, name: str):
    pack(source, tmp_path / "out", shard_samples=12)
    (tmp_path / "out" / name).unlink()

    def read() -> None:
        list(ShardDataset(tmp_path / "out", batch_size=1))

    if name == "manifest.json":  # without a manifest it is an ordinary folder of tars
        read()
        return
    with pytest.raises(ShardsError, match=name):
        read()


@pytest.mark.parametrize("size", [0, 512, -1])
def test_a_shard_of_another_size_is_refused_with_both_numbers(source: Path, tmp_path: Path, size: int):
    pack(source, tmp_path / "out", shard_samples=12)
    shard = tmp_path / "out" / "shard-000001.tar"
    whole = shard.stat().st_size
    os.truncate(shard, size if size >= 0 else whole - 1)

    complaint = rf"shard-000001\.tar has {shard.stat().st_size} bytes, but its manifest says {whole}"
    with pytest.raises(ShardsError, match=complaint):
        ShardDataset(tmp_path / "out", batch_size=1)
