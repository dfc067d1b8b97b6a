"""Commands in a shell whose output is closed, cannot be written, or needs characters that the locale lacks."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.sets import shard_set

ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN_1 = {"PYTHONIOENCODING": "latin-1"}


def shell(*arguments: object, redirected: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``mps-shards`` as a user's shell does."""
    line = shlex.join([sys.executable, "-m", "mps_shards", *map(str, arguments)])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} {redirected}"],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("hund/a", "kätze/ü"):
        path = tmp_path / "imgs" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return tmp_path / "imgs"


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", "2> >(true)"])
def test_packing_finishes_although_its_output_streams_are_closed(images: Path, tmp_path: Path, redirected: str):
    done = shell("pack", images, tmp_path / "out", redirected=redirected)

    assert done.returncode == 0, done
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert not any(b"Found" in path.read_bytes() for path in tmp_path.rglob("*.tar"))


@pytest.mark.parametrize("arguments", [("ls",), ("verify",), ("info",), ("ls", "--json")])
def test_a_reader_that_exits_early_ends_the_command_without_a_message(arguments: tuple[str, ...]):
    done = shell(*arguments, shard_set([300]), redirected="| true")

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_pipe_that_closes_during_the_output_ends_the_command_without_a_message():
    done = shell("ls", shard_set([300]), redirected="| head -n 2")

    assert done.returncode in (0, 128 + signal.SIGPIPE)
    assert (len(done.stdout.splitlines()), done.stderr) == (2, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [("ls", "SET"), ("verify", "SET"), ("--help",), ("ls", "--help")])
def test_a_full_disk_behind_the_output_is_an_error_of_one_line(arguments: tuple[str, ...]):
    done = shell(*(shard_set([3]) if each == "SET" else each for each in arguments), redirected="> /dev/full")

    assert done.returncode == 1
    assert done.stderr == b"Error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("environment", [ASCII_ONLY, LATIN_1])
def test_characters_that_the_encoding_lacks_are_replaced(environment: dict[str, str]):
    done = shell("stats", shard_set([6]), **environment)

    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    bars = [line for line in done.stdout.decode("ascii").splitlines() if line.startswith("cat ")]
    assert bars[0].endswith("#####")
    assert "ShardDataset(..., " in done.stdout.decode()


def test_latin_1_shows_the_letters_that_it_has(images: Path, tmp_path: Path):
    done = shell("pack", images, tmp_path / "out", **LATIN_1)

    assert (done.returncode, b"k\xe4tze" in done.stderr) == (0, True)


def test_file_names_that_the_locale_cannot_read_are_refused_rather_than_packed_under_other_keys(
    images: Path, tmp_path: Path
):
    done = shell("pack", images, tmp_path / "out", "--layout", "flat", **ASCII_ONLY)

    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert b"cannot be read in this locale, whose encoding is ascii; set PYTHONUTF8=1" in done.stderr
    assert not (tmp_path / "out").exists()


def test_file_names_that_the_locale_cannot_write_are_an_error_of_one_line(images: Path, tmp_path: Path):
    assert shell("pack", images, tmp_path / "out").returncode == 0

    done = shell("unpack", tmp_path / "out", tmp_path / "again", **ASCII_ONLY)

    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert rb"k\xe4tze' cannot be written in this locale, whose encoding is ascii; set PYTHONUTF8=1" in done.stderr


def test_a_removed_current_directory_is_an_error_of_one_line():
    line = shlex.join([sys.executable, "-m", "mps_shards", "ls", "x"])

    done = subprocess.run(
        ["bash", "-c", f"cd $(mktemp -d) && rmdir $PWD && {line}"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONSAFEPATH": "1"},
        check=False,
    )

    assert (done.returncode, done.stderr) == (
        1,
        b"Error: the current directory was removed; change to another one (cd)\n",
    )
