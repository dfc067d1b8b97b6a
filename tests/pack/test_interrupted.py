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
from tests.support.images import class_folders, tiny_jpeg, write

# Packs; at the sample of this number, says so and waits to be let on, so that the moment is known.
DRIVER = """
import sys, mps_shards.cli.pack as module
stop = int(sys.argv.pop())
count = 0
def advance(self, samples, size):
    global count
    count += 1
    if count == stop:
        print("now", flush=True)
        sys.stdin.read()
module._Progress.advance = advance
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
    """A pack in a process of its own, held at its 18th sample of 30, in the middle of the second of three shards."""

    def __init__(self, source: Path, out: Path):
        arguments = ["pack", source, out, "--shard-samples", "12", "--workers", "1", "18"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"now\n"

    def ended(self) -> tuple[int, str]:
        """Let it go on; its exit status, and what it said."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.decode()


def test_killed_in_the_middle_leaves_no_manifest_and_no_half_shard(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    running = Pack(source, out)
    assert left_in(out) == {"manifest.json.part", "shard-000000.tar", "shard-000001.tar.part"}

    running.process.kill()
    running.ended()

    assert left_in(out) == {"manifest.json.part", "shard-000000.tar", "shard-000001.tar.part"}
    with tarfile.open(out / "shard-000000.tar") as tar:
        assert len(tar.getnames()) == 24  # whole
    for read in (lambda: ShardDataset(out, batch_size=1), lambda: pack(source, out)):
        with pytest.raises((StorageError, ConfigError), match="holds an unfinished pack"):
            read()

    (out / "shard-000001.tar.part").unlink()  # as if it had been killed between two shards
    with pytest.raises(StorageError, match="holds an unfinished pack"):
        ShardDataset(out, batch_size=1)


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(("sign", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_signal_takes_back_what_was_written(source: Path, tmp_path: Path, sign: int, status: int, existed: bool):
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    running = Pack(source, out)

    running.process.send_signal(sign)
    ended, said = running.ended()

    assert ended == status
    assert "Traceback" not in said
    assert out.exists() == existed and not (existed and left_in(out))
    assert pack(source, out).sets[0].samples == 30


def test_without_interruption_the_held_pack_is_like_any_other(source: Path, tmp_path: Path):
    running = Pack(source, tmp_path / "out")
    assert running.ended()[0] == 0
    pack(source, tmp_path / "other", shard_samples=12)

    names = left_in(tmp_path / "out")
    assert names == left_in(tmp_path / "other")
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in names)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for a megabyte, in six files or folders."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=7", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("existed", [False, True])
def test_a_full_disk_is_said_and_left_as_it_was(tmp_path: Path, small_disk: Path, existed: bool):
    large = b"\xff\xd8\xff" + bytes(300_000)
    source = write(tmp_path / "imgs", {f"cat/{n}.jpg": large for n in range(8)})
    out = small_disk / "out"
    if existed:
        out.mkdir()

    with pytest.raises(StorageError, match=r"cannot write .*shard-00000\d\.tar: the disk is full"):
        pack(source, out, shard_samples=2)

    assert out.exists() == existed and left_in(small_disk) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_without_room_for_another_folder_is_said(tmp_path: Path, small_disk: Path):
    names = ("train", "val", "test")
    source = write(tmp_path / "imgs", {f"{name}/cat/x.jpg": tiny_jpeg() for name in names})

    with pytest.raises(StorageError, match="val: No space left on device"):
        pack(source, small_disk / "a" / "out")

    assert left_in(small_disk) == set()


def test_a_file_that_may_grow_no_further_is_an_error_and_leaves_nothing(source: Path, tmp_path: Path):
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

    if name == "manifest.json":  # then it is a folder of tars like any other, and whole
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

    complaint = rf"shard-000001\.tar has {shard.stat().st_size} bytes, its manifest says {whole}"
    with pytest.raises(ShardsError, match=complaint):
        ShardDataset(tmp_path / "out", batch_size=1)
