"""Output of ``reshard``; a killed run leaves no folder that looks like a finished set."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mps_shards.shardset.verification import verify
from tests.support.commands import refused, run
from tests.support.damage import copied, flip
from tests.support.files import contents
from tests.support.images import write
from tests.support.sets import shard_set


def test_sets_are_merged_and_filtered(tmp_path: Path):
    said = run("reshard", shard_set([3]), shard_set([3], name="b"), "-o", tmp_path / "out", "--except", "dog")

    assert (said.code, said.stderr) == (0, f"Next: mps-shards info {tmp_path / 'out'}\n")
    assert said.lines(tmp_path) == [
        "DIR/out: 4 samples in 1 shard, 0.0 MB",
        "Left out: 2 samples of other classes",
    ]
    assert run("info", tmp_path / "out").lines(tmp_path)[2] == "classes      2 (cat, fox)"


def test_splits_become_sets(tmp_path: Path):
    said = run("reshard", shard_set([8]), "-o", tmp_path / "out", "--split", "train=0.75,val=0.25")

    assert said.lines(tmp_path) == [
        "DIR/out/train: 6 samples in 1 shard, 0.0 MB",
        "DIR/out/val: 2 samples in 1 shard, 0.0 MB",
    ]


def test_the_report_as_json(tmp_path: Path):
    options = ["--shard-samples", "2", "--shuffle", "--seed", "5", "--prefix", "--only", "cat"]

    report = run("reshard", shard_set([8]), "-o", tmp_path / "out", "--json", *options).json()

    [made] = report["sets"]
    assert (made["samples"], made["shards"], report["classes"]) == (3, 2, ["cat"])
    assert report["ignored"] == {"of other classes": 5}


def test_wrong_options_of_reshard_are_refused(tmp_path: Path):
    assert run("reshard", shard_set([1])).code == 2
    assert "'train' is not a part of a split" in run("reshard", shard_set([1]), "-o", "x", "--split", "train").stderr


def test_broken_and_empty_sets(tmp_path: Path):
    folder = copied([2], tmp_path / "set")
    flip(folder / "s-000000.tar", 1700)

    assert refused("reshard", folder, "-o", tmp_path / "out").endswith("see mps-shards verify and repair")
    assert refused("reshard", shard_set([]), "-o", tmp_path / "out").endswith("is left to pack")
    assert not (tmp_path / "out").exists()


_STOPPED_HALF_WAY = """
import os, signal, sys
from mps_shards.packing.sources import shard_set_source
number_of_signal = int(sys.argv.pop(1))
original = shard_set_source.ShardSetSource.read
def read(self, entry):
    if entry.place == 5:
        os.kill(os.getpid(), number_of_signal)
    return original(self, entry)
shard_set_source.ShardSetSource.read = read
from mps_shards.cli import main
main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_killed_reshard_leaves_no_set_and_can_be_continued(tmp_path: Path, number: signal.Signals, status: int):
    arguments = ["reshard", str(shard_set([8])), "-o", str(tmp_path / "out"), "--shard-samples", "2", "--workers", "1"]

    done = subprocess.run([sys.executable, "-c", _STOPPED_HALF_WAY, str(int(number)), *arguments], capture_output=True)

    assert done.returncode == status, done.stderr
    assert run("verify", tmp_path / "out").code == 1
    said = run(*arguments)
    assert said.code == 0
    assert re.fullmatch("Kept [2-4] shards that an earlier run had finished", said.lines(tmp_path)[-1])
    assert verify(tmp_path / "out").problems == ()
    assert os.listdir(tmp_path) == ["out"]


def test_samples_are_dropped_by_key_or_by_a_list_of_keys(tmp_path: Path):
    said = run("reshard", shard_set([4]), "-o", tmp_path / "out", "--drop", "s00001,s00002")

    assert said.lines(tmp_path)[1] == "Left out: 2 samples with dropped keys"


def test_files_that_reshard_did_not_write_are_kept(tmp_path: Path):
    write(tmp_path, {"out/x": b"x"})

    assert refused("reshard", shard_set([1]), "-o", tmp_path / "out").endswith("remove it or name another place")
    assert contents(tmp_path) == {"out/x": b"x"}
