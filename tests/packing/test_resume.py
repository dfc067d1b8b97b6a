"""The same command goes on with an unfinished pack, after checking what is there; anything else is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing import commit
from tests.support.files import contents
from tests.support.images import class_folders, tiny_jpeg, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=3, each=10)
    return tmp_path / "imgs"


@pytest.fixture
def unfinished(source: Path, tmp_path: Path) -> Path:
    """A pack of which two of four shards are finished."""
    pack(source, tmp_path / "out", shard_samples=8, executor="array", task_index=0, num_tasks=2)
    return tmp_path / "out"


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> dict[str, bytes]:
    return contents(pack(source, tmp_path / "whole", shard_samples=8).out)


def test_finished_shards_are_kept_and_progress_counts_them(source: Path, unfinished: Path, whole: dict[str, bytes]):
    told: list[int] = []

    report = pack(source, unfinished, shard_samples=8, on_progress=lambda samples, _: told.append(samples))

    assert (report.kept, report.finished) == (2, True)
    assert sum(told) == 30 and 8 in told
    assert contents(unfinished) == whole


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda out: flip(out / "shard-000002.tar"),
        lambda out: (out / "shard-000002.tar").unlink(),
        lambda out: (out / "shard-000002.tar").write_bytes(b""),
        lambda out: (out / ".pack" / "finished" / "shard-000002.tar.json").unlink(),
        lambda out: (out / ".pack" / "finished" / "shard-000002.tar.json").write_bytes(b'{"samples": 8'),
        lambda out: (out / ".pack" / "finished" / "shard-000002.tar.json").write_bytes(b'{"x": "\xff"}'),
        lambda out: (out / "manifest.json.part").unlink(),
        lambda out: shutil.rmtree(out / ".pack" / "finished"),
        lambda out: (out / ".pack" / "shard-000001.tar.0123abcd.part").write_bytes(b"half"),
        lambda out: (out / ".pack" / "lock").unlink(),
    ],
    ids=range(10),
)
def test_what_was_harmed_meanwhile_is_made_again(
    source: Path, unfinished: Path, whole: dict[str, bytes], harm: Callable[[Path], object]
):
    harm(unfinished)

    report = pack(source, unfinished, shard_samples=8)

    assert report.kept <= 2
    assert contents(unfinished) == whole


@pytest.mark.parametrize("options", [{"seed": 1}, {"shard_samples": 9}, {"keys": "name"}, {"drop_duplicates": True}])
def test_another_plan_is_refused_and_nothing_touched(source: Path, unfinished: Path, options: dict):
    before = contents(unfinished)

    with pytest.raises(
        ConfigError, match=r"unfinished pack by another plan \(30 images in 4 shards, plan .*--overwrit"
    ):
        pack(source, unfinished, **{"shard_samples": 8, **options})

    assert contents(unfinished) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda source: write(source, {"class-0/new.jpg": tiny_jpeg()}),
        lambda source: (source / "class-0" / "00.jpg").unlink(),
        lambda source: (source / "class-0").rename(source / "class-9"),
        lambda source: write(source, {"class-1/03.jpg": tiny_jpeg(side=32)}),
    ],
    ids=["more", "fewer", "renamed", "larger"],
)
def test_another_listing_is_another_plan(source: Path, unfinished: Path, change: Callable[[Path], object]):
    change(source)

    with pytest.raises(ConfigError, match="another plan"):
        pack(source, unfinished, shard_samples=8)


def test_who_does_the_work_and_where_the_source_lies_are_no_part_of_the_plan(
    source: Path, unfinished: Path, whole: dict[str, bytes]
):
    moved = source.rename(source.with_name("elsewhere"))

    assert pack(moved, unfinished, shard_samples=8, workers=3, on_bad_sample="skip").kept == 2

    assert contents(unfinished) == whole


@pytest.mark.parametrize("finished", [True, False])
def test_overwriting_replaces_what_a_pack_left(source: Path, unfinished: Path, tmp_path: Path, finished: bool):
    if finished:
        pack(source, unfinished, shard_samples=8)

    report = pack(source, unfinished, shard_samples=20, overwrite=True)

    assert report.kept == 0
    assert contents(unfinished) == contents(pack(source, tmp_path / "fresh", shard_samples=20).out)


def test_overwriting_replaces_splits(tmp_path: Path):
    source = write(tmp_path / "imgs", {f"{name}/cat/x.jpg": tiny_jpeg() for name in ("train", "val")})
    out = pack(source).out
    shutil.rmtree(source / "val")

    pack(source, out, overwrite=True)

    assert {name.partition("/")[0] for name in contents(out)} == {"train"}
    assert not (out / "val").exists()


@pytest.mark.parametrize(
    "strange",
    [{"mine.txt": b"x"}, {"train/mine.jpg": b"x"}, {"other/o-000000.tar": b"x"}, {"train/deep/shard-000000.tar": b"x"}],
    ids=lambda files: next(iter(files)),
)
def test_what_no_pack_wrote_is_never_overwritten(source: Path, tmp_path: Path, strange: dict[str, bytes]):
    out = pack(source, tmp_path / "out").out
    before = contents(write(out, strange))

    with pytest.raises(ConfigError, match=r"was written by no pack and is not overwritten"):
        pack(source, out, overwrite=True)

    assert contents(out) == before


def test_overwriting_fails_before_anything_is_removed(source: Path, tmp_path: Path):
    out = pack(source, tmp_path / "out").out
    before = contents(out)

    with pytest.raises(ConfigError, match="no images found"):
        pack(tmp_path / "out", out, overwrite=True)
    with pytest.raises(StorageError, match="cannot read"):
        pack(source, out, overwrite=True, drop_duplicates=True, on_understanding=lambda _: shutil.rmtree(source))

    assert contents(out) == before


def test_litter_of_a_pack_that_was_killed_when_all_was_done_goes(source: Path, tmp_path: Path):
    out = pack(source, tmp_path / "out").out
    before = contents(out)
    write(out, {".pack/finished/shard-000000.tar.json": b"{}", ".pack/lock": b""})

    with pytest.raises(ConfigError, match="holds a finished pack"):
        pack(source, out)

    assert contents(out) == before


@pytest.mark.parametrize("plan", [json.dumps({"plan": 2}).encode(), b'{"plan": "\xff"}', b""])
def test_a_plan_of_another_version_is_not_guessed_at(source: Path, unfinished: Path, plan: bytes):
    (unfinished / ".pack" / "begun" / "plan.json").write_bytes(plan)

    with pytest.raises(DataError, match=r"plan\.json cannot be read \(.*\); pack over it with --overwrite"):
        pack(source, unfinished, shard_samples=8)

    assert pack(source, unfinished, shard_samples=8, overwrite=True).finished


def test_a_dry_run_writes_nothing_and_foresees_all(source: Path, tmp_path: Path):
    report = pack(source, tmp_path / "out", shard_samples=8, dry_run=True)

    assert not (tmp_path / "out").exists() and not report.finished
    [planned], [made] = report.sets, pack(source, tmp_path / "out", shard_samples=8).sets
    assert (planned.samples, planned.shards, planned.bytes) == (made.samples, made.shards, made.bytes)
    assert planned.classes == made.classes == {"class-0": 10, "class-1": 10, "class-2": 10}


def test_what_is_not_complete_is_not_committed(unfinished: Path):
    before = contents(unfinished)

    with pytest.raises(StorageError, match=r"out lacks 2 of 4 shards: shard-000001\.tar, shard-000003\.tar; run"):
        commit(unfinished)

    assert contents(unfinished).keys() == before.keys()
    with pytest.raises(StorageError, match="holds an unfinished pack"):
        ShardDataset(unfinished, batch_size=1)


def test_a_folder_without_a_pack_is_not_committed(source: Path, tmp_path: Path):
    pack(source, tmp_path / "out")

    for folder in (tmp_path / "out", tmp_path / "gone", source):
        with pytest.raises(ConfigError, match="holds no unfinished pack; there is nothing to commit"):
            commit(folder)
