"""Packing on a local Ray cluster gives the bytes of a pack without Ray, also if a node is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from mps_shards import pack
from tests.support.files import contents
from tests.support.images import class_folders, write

pytest.importorskip("ray")

# Two machines for Ray; the second machine is killed while it works.
LOSING_A_NODE = """
import sys
from ray.cluster_utils import Cluster
from mps_shards import pack

source, out = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
lost = [cluster.add_node(num_cpus=1)]
done = 0

def lose(samples, size):
    global done
    done += samples
    if done >= 300 and lost:
        cluster.remove_node(lost.pop(), allow_graceful=False)

pack(source, out, shard_samples=20, executor="ray", ray_address=cluster.address, on_progress=lose)
assert not lost
cluster.shutdown()
"""


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mps_shards", "pack", *map(str, arguments), "--executor", "ray"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_new_local_cluster_writes_the_same_bytes(tmp_path: Path):
    source = tmp_path / "imgs"
    class_folders(source, classes=3, each=10)
    write(source, {"class-1/bad.jpg": b"no image"})

    done = cli(source, tmp_path / "out", "--shard-samples", 4, "--on-bad-sample", "skip")

    assert done.returncode == 0, done.stderr
    pack(source, tmp_path / "local", shard_samples=4, on_bad_sample="skip")
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


@pytest.mark.slow
def test_errors_of_tasks_are_raised_and_finished_shards_are_kept(tmp_path: Path):
    source = tmp_path / "imgs"
    class_folders(source, classes=3, each=10)
    write(source, {"class-1/bad.jpg": b"no image"})

    failed = cli(source, tmp_path / "out", "--shard-samples", 4, "--no-shuffle")
    done = cli(source, tmp_path / "out", "--shard-samples", 4, "--no-shuffle", "--on-bad-sample", "skip")

    assert failed.returncode == 1
    assert f"Error: {source}/class-1/bad.jpg is not an image" in failed.stderr and "Traceback" not in failed.stderr
    assert done.returncode == 0, done.stderr
    assert "Kept " in done.stdout


def test_an_address_without_a_cluster_is_an_error_that_names_it(tmp_path: Path):
    class_folders(tmp_path / "imgs")

    done = cli(tmp_path / "imgs", tmp_path / "out", "--ray-address", "127.0.0.1:1")

    assert done.returncode == 1
    assert "Error: there is no Ray cluster at 127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_node_that_is_lost_during_the_pack_does_not_change_the_bytes(tmp_path: Path):
    source = tmp_path / "imgs"
    class_folders(source, classes=3, each=400)

    done = subprocess.run(
        [sys.executable, "-c", LOSING_A_NODE, source, tmp_path / "out"], capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stderr
    pack(source, tmp_path / "local", shard_samples=20)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
