"""Folders and files without permissions: an unprivileged user gets an error of one line, and no partial output."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.damage import copied
from tests.support.files import contents
from tests.support.images import tiny_jpeg, write

LONG = "n" * 300
NOT_READ = "Permission denied; grant this user access to it and to the folders above it"


@pytest.fixture(scope="module")
def powerless() -> list[str]:
    """Return the beginning of a command line for an unprivileged process, also if root runs the tests."""
    if os.geteuid():
        return []
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("needs setpriv to give up what root may do")
    return prefix


@pytest.fixture
def said(powerless: list[str]) -> Callable[..., str]:
    """Run a command that fails, check that it printed no traceback, and return its last line."""

    def failed(*arguments: object, before: str = "") -> str:
        line = shlex.join([*powerless, sys.executable, "-m", "mps_shards", *map(str, arguments)])
        done = subprocess.run(["bash", "-c", before + line], capture_output=True, check=False, text=True)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        return next(each for each in done.stderr.splitlines() if each.startswith("Error: ")).removeprefix("Error: ")

    return failed


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    folder = write(tmp_path / "imgs", {f"{name}/{n}.jpg": tiny_jpeg(n) for name in "ab" for n in range(3)})
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


COMMANDS = [("verify",), ("index",), ("repair",), ("unpack", "OUT"), ("pack", "OUT")]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_an_unreadable_folder_is_named(tmp_path: Path, said: Callable[..., str], arguments: tuple[str, ...]):
    folder = copied([2], tmp_path / "set")
    folder.chmod(0)

    try:
        line = said(arguments[0], folder, *(tmp_path / "out" for _ in arguments[1:]))
    finally:
        folder.chmod(0o755)

    assert str(folder) in line and line.endswith(NOT_READ)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.parametrize("kind", ["long", "loop", "dangling"])
def test_a_missing_path_is_named(tmp_path: Path, said: Callable[..., str], arguments: tuple[str, ...], kind: str):
    path = tmp_path / (LONG if kind == "long" else "link")
    if kind != "long":
        path.symlink_to(path if kind == "loop" else tmp_path / "gone")

    line = said(arguments[0], path, *(tmp_path / "out" for _ in arguments[1:]))

    causes = {
        "long": "File name too long",
        "loop": "Too many levels of symbolic links",
        "dangling": "which does not exist",
    }
    assert str(path) in line and causes[kind] in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["long", "loop", "file", "read-only", "below a file"])
@pytest.mark.parametrize("command", ["pack", "unpack", "reshard", "index"])
def test_an_unwritable_folder_is_named(tmp_path: Path, images: Path, said: Callable[..., str], command: str, kind: str):
    out = tmp_path / (LONG if kind == "long" else "out")
    if kind == "loop":
        out.symlink_to(out)
    elif kind in ("file", "below a file"):
        out.write_bytes(b"mine")
        out = out / "x" if kind == "below a file" else out
    elif kind == "read-only":
        out.mkdir(mode=0o555)
    folder = images if command == "pack" else copied([2], tmp_path / "set")
    if command == "index":
        for name in ("manifest.json", "index.npy"):
            (folder / name).unlink()
    before = contents(tmp_path)

    line = said(command, folder, *{"reshard": ["-o"], "index": ["--out"]}.get(command, []), out)

    assert (LONG if kind == "long" else "out") in line
    assert contents(tmp_path) == before


def test_an_unreadable_file_is_skipped_and_named_like_any_bad_sample(
    tmp_path: Path, images: Path, said: Callable[..., str], powerless: list[str]
):
    (images / "a" / "0.jpg").chmod(0)
    (images / "a" / "loop.jpg").symlink_to("loop.jpg")
    (images / "b" / "dangling.jpg").symlink_to("gone.jpg")
    locked = images / "c"
    locked.mkdir(mode=0)
    out = tmp_path / "out"
    command = [*powerless, sys.executable, "-m", "mps_shards", "pack", str(images), str(out), "--on-bad-sample", "skip"]

    assert str(locked) in said("pack", images, out)
    done = subprocess.run(command, capture_output=True, check=False, text=True)

    assert done.returncode == 0, done.stderr
    skipped = {
        each["path"]: each["reason"] for each in map(json.loads, (out / "skipped.jsonl").read_text().splitlines())
    }
    assert list(skipped) == ["a/0.jpg", "a/loop.jpg", "b/dangling.jpg", "c/"]
    assert "Permission denied" in skipped["a/0.jpg"] and "Permission denied" in skipped["c/"]
    assert "symbolic links" in skipped["a/loop.jpg"] and "does not exist" in skipped["b/dangling.jpg"]
    assert json.loads((out / "manifest.json").read_bytes())["samples"] == 5


def test_a_limit_on_file_sizes_leaves_no_partial_output(tmp_path: Path, images: Path, said: Callable[..., str]):
    line = said("pack", images, tmp_path / "out", before="ulimit -f 4; ")

    assert "File too large; allow larger files (`ulimit -f`)" in line
    assert not (tmp_path / "out").exists()
