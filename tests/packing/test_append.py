"""Appending adds new images to a finished set as new shards; the old or the new set is valid at every moment."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.resharding import reshard
from mps_shards.shardset.opening import open_set
from mps_shards.shardset.verification import verify
from tests.support.commands import run
from tests.support.damage import manifest_of
from tests.support.files import contents
from tests.support.foreign import by_webdataset_s_reader
from tests.support.images import tiny_jpeg, write

FIRST = {f"{c}/{n}.jpg": tiny_jpeg(n) for c in ("cat", "dog") for n in range(4)}
SECOND = {f"{c}/{n}.jpg": tiny_jpeg(10 + n) for c in ("cat", "dog") for n in range(4, 7)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return Path(pack(write(tmp_path / "imgs", FIRST), tmp_path / "out", shard_samples=3).out)


def labelled(folder: Path) -> dict[str, str]:
    """Verify a set and return the class name of each key."""
    assert verify(folder, decode=True).problems == ()
    classes = manifest_of(folder).classes
    samples = by_webdataset_s_reader([folder / shard.name for shard in manifest_of(folder).shards])
    return {key: classes[int(fields["cls"])] for key, fields in samples}


def expected(files: dict[str, bytes]) -> dict[str, str]:
    return {path.removesuffix(".jpg"): path.partition("/")[0] for path in files}


def test_new_images_become_new_shards_and_old_shards_do_not_change(tmp_path: Path, out: Path):
    before = contents(out)
    write(tmp_path / "imgs", SECOND)

    report = pack(tmp_path / "imgs", out, append=True, shard_samples=4)

    assert [(each.folder, each.samples, each.shards) for each in report.sets] == [(out, 6, 2)]
    assert labelled(out) == expected({**FIRST, **SECOND})
    after = contents(out)
    assert {name: after[name] for name in before if name.endswith(".tar")} == {
        name: content for name, content in before.items() if name.endswith(".tar")
    }
    assert sorted(set(after) - set(before)) == ["shard-000003.tar", "shard-000004.tar"]
    assert len(ShardDataset(out, batch_size=1)) == 14
    assert open_set(out).labels_fault is None


def test_a_folder_of_new_images_alone_is_appended_too(tmp_path: Path, out: Path):
    new = write(tmp_path / "day2", {"dog/9.jpg": tiny_jpeg(9)})

    pack(new, out, append=True, yes=True)

    assert labelled(out) == expected({**FIRST, "dog/9.jpg": b""})


def test_nothing_new_changes_nothing(tmp_path: Path, out: Path):
    before = contents(out)

    report = pack(tmp_path / "imgs", out, append=True)

    assert (report.sets, report.layout) == ((), "nothing new: the set holds all 8 images already")
    assert contents(out) == before


def test_appending_can_be_repeated(tmp_path: Path, out: Path):
    for number in range(3):
        write(tmp_path / "imgs", {f"cat/more-{number}.jpg": tiny_jpeg(30 + number)})
        pack(tmp_path / "imgs", out, append=True)

    more = {f"cat/more-{number}.jpg": b"" for number in range(3)}
    assert labelled(out) == expected({**FIRST, **more})
    assert [shard.name for shard in manifest_of(out).shards] == [f"shard-{n:06d}.tar" for n in range(6)]


def test_splits_are_appended_to(tmp_path: Path):
    first = {f"{split}/{path}": content for split in ("train", "val") for path, content in FIRST.items()}
    out = Path(pack(write(tmp_path / "imgs", first), tmp_path / "out").out)
    write(tmp_path / "imgs", {"train/dog/new.jpg": tiny_jpeg(50)})

    pack(tmp_path / "imgs", out, append=True)

    assert len(labelled(out / "train")) == 9
    assert len(labelled(out / "val")) == 8


def test_a_set_without_labels_file_is_appended_to(tmp_path: Path, out: Path):
    reshard([out], tmp_path / "again")
    write(tmp_path / "imgs", SECOND)

    pack(tmp_path / "imgs", tmp_path / "again", append=True, shuffle=False)

    assert labelled(tmp_path / "again") == expected({**FIRST, **SECOND})


@pytest.mark.parametrize(
    ("files", "options", "complaint"),
    [
        (
            {"fox/1.jpg": tiny_jpeg(1), "cat/9.jpg": tiny_jpeg(9)},
            {},
            "has the class 'fox', but the set has only cat, dog",
        ),
        ({"train/cat/9.jpg": tiny_jpeg(9)}, {}, "has a split 'train', but the finished pack has"),
        ({"x.jpg": tiny_jpeg(1)}, {}, "has the task unlabeled, but .* classification"),
        (
            {"cat/9.jpg": tiny_jpeg(9), "dog/9.jpg": tiny_jpeg(8)},
            {"resize": 4},
            "packed with resize = None, but .* with 4",
        ),
        ({"cat/9.jpg": tiny_jpeg(9), "dog/9.jpg": tiny_jpeg(8)}, {"keys": "name"}, "packed with keys = 'stem'"),
        ({"cat/9.jpg": tiny_jpeg(9)}, {"overwrite": True}, "append cannot be combined with overwrite"),
    ],
)
def test_images_that_do_not_fit_the_set_are_refused(
    files: dict, options: dict, complaint: str, tmp_path: Path, out: Path
):
    before = contents(out)

    with pytest.raises(ConfigError, match=complaint):
        pack(write(tmp_path / "new", files), out, append=True, yes=True, **options)

    assert contents(out) == before


def test_another_image_of_the_same_name_is_refused(tmp_path: Path, out: Path):
    new = write(tmp_path / "day2", {"cat/1.jpg": tiny_jpeg(77, side=16), "dog/8.jpg": tiny_jpeg(3)})

    with pytest.raises(DataError, match=r"day2/cat/1\.jpg has \d+ bytes, but the sample with this .*different"):
        pack(new, out, append=True)

    assert labelled(out) == expected(FIRST)


def test_appending_needs_a_finished_set(tmp_path: Path):
    with pytest.raises(ConfigError, match="holds no finished set to append to"):
        pack(write(tmp_path / "imgs", FIRST), tmp_path / "none", append=True)


def assert_valid(out: Path) -> None:
    assert labelled(out) in (expected(FIRST), expected({**FIRST, **SECOND}))
    assert len(ShardDataset(out, batch_size=1)) in (8, 14)


def finish(tmp_path: Path, out: Path) -> None:
    """Assert that the same command completes an interrupted append."""
    pack(tmp_path / "imgs", out, append=True, shard_samples=4)
    assert labelled(out) == expected({**FIRST, **SECOND})
    assert not (out / ".append").exists() and not (out / ".pack").exists()


STEPS: list[tuple[object, str]] = [(os, "replace"), (os, "rename"), (os, "fsync"), (shutil, "rmtree"), (Path, "unlink")]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_a_failure_at_any_step_leaves_the_old_or_the_new_set_valid(
    step: tuple[object, str], tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "imgs", SECOND)
    shutil.copytree(out, tmp_path / "before")
    holder, name = step
    original: Callable = getattr(holder, name)
    failed = 0
    for number in range(100):
        calls = 0

        def failing(*args: object, number: int = number, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number + 1:
                raise OSError(5, "step failed")
            return original(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(holder, name, failing)
            try:
                pack(tmp_path / "imgs", out, append=True, shard_samples=4, workers=1)
            except OSError:
                failed += 1
        assert_valid(out)
        finish(tmp_path, out)
        if calls <= number:
            break
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "before", out)
    assert failed or name in ("rmtree", "unlink")  # removing files at the end may fail silently


_KILLED = """
import os, signal, sys, shutil
step = int(sys.argv.pop(1))
calls = 0
def killing(original):
    def call(*args, **options):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)
    return call
for holder, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (shutil, "rmtree")):
    setattr(holder, name, killing(getattr(holder, name)))
from mps_shards.packing import pack
pack(sys.argv[1], sys.argv[2], append=True, shard_samples=4, workers=1)
"""


def test_a_kill_at_any_step_leaves_the_old_or_the_new_set_valid(tmp_path: Path, out: Path):
    write(tmp_path / "imgs", SECOND)
    shutil.copytree(out, tmp_path / "before")
    for step in range(1, 100, 2):
        command = [sys.executable, "-c", _KILLED, str(step), str(tmp_path / "imgs"), str(out)]
        status = subprocess.run(command, capture_output=True).returncode
        assert status in (0, -signal.SIGKILL)

        assert_valid(out)
        finish(tmp_path, out)
        if status == 0:
            break
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "before", out)
    assert step > 10


def test_the_command_appends(tmp_path: Path, out: Path):
    write(tmp_path / "imgs", SECOND)

    said = run("pack", tmp_path / "imgs", out, "--append")

    assert said.code == 0
    assert said.lines(tmp_path)[0].startswith("DIR/out: 6 samples in 1 shard")
    assert run("pack", tmp_path / "imgs", out, "--append").code == 0


def test_appending_to_a_set_in_a_store_is_refused(tmp_path: Path):
    source = write(tmp_path / "imgs", {"cat/0.jpg": tiny_jpeg()})

    with pytest.raises(ConfigError, match=r"memory://bucket/imgs: images can be appended only to sets on this machine"):
        pack(source, "memory://bucket/imgs", append=True)
