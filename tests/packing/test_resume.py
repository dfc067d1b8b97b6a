"""The same command checks and continues an unfinished pack; a destination with anything else is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing import commit
from mps_shards.packing.sources import files
from tests.support.commands import run
from tests.support.failing import Failure, failing
from tests.support.files import contents
from tests.support.images import class_folders, encoded, tiny_jpeg, write


@pytest.fixture(autouse=True)
def sure_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat new files as old, so that their times prove that they have not changed."""
    monkeypatch.setattr(files, "_FINE_NS", 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=3, each=10)
    return tmp_path / "imgs"


@pytest.fixture
def unfinished(source: Path, tmp_path: Path) -> Path:
    """Make an unfinished pack with two of four shards finished."""
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
def test_shards_that_were_damaged_meanwhile_are_made_again(
    source: Path, unfinished: Path, whole: dict[str, bytes], harm: Callable[[Path], object]
):
    harm(unfinished)

    report = pack(source, unfinished, shard_samples=8)

    assert report.kept <= 2
    assert contents(unfinished) == whole


@pytest.mark.parametrize("options", [{"seed": 1}, {"shard_samples": 9}, {"keys": "name"}, {"drop_duplicates": True}])
def test_another_plan_is_refused_and_changes_nothing(source: Path, unfinished: Path, options: dict):
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


def test_the_plan_does_not_depend_on_the_executor_or_the_place_of_the_source(
    source: Path, unfinished: Path, whole: dict[str, bytes]
):
    moved = source.rename(source.with_name("elsewhere"))

    assert pack(moved, unfinished, shard_samples=8, workers=3, on_bad_sample="skip").kept == 2

    assert contents(unfinished) == whole


@pytest.mark.parametrize("finished", [True, False])
def test_overwriting_replaces_an_earlier_pack(source: Path, unfinished: Path, tmp_path: Path, finished: bool):
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
def test_files_that_no_pack_wrote_are_never_overwritten(source: Path, tmp_path: Path, strange: dict[str, bytes]):
    out = pack(source, tmp_path / "out").out
    before = contents(write(out, strange))

    with pytest.raises(ConfigError, match=r"was not written by a pack, so it is not overwritten"):
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


def test_records_of_a_pack_that_was_killed_after_its_end_are_removed(source: Path, tmp_path: Path):
    out = pack(source, tmp_path / "out").out
    before = contents(out)
    write(out, {".pack/finished/shard-000000.tar.json": b"{}", ".pack/lock": b""})

    assert pack(source, out).already_packed
    assert contents(out) == before


@pytest.mark.parametrize("plan", [json.dumps({"plan": 2}).encode(), b'{"plan": "\xff"}', b""])
def test_a_plan_of_another_version_is_refused(source: Path, unfinished: Path, plan: bytes):
    (unfinished / ".pack" / "begun" / "plan.json").write_bytes(plan)

    with pytest.raises(DataError, match=r"plan\.json cannot be read \(.*\); pack over it with --overwrite"):
        pack(source, unfinished, shard_samples=8)

    assert pack(source, unfinished, shard_samples=8, overwrite=True).finished


def test_a_dry_run_writes_nothing_and_reports_the_sets(source: Path, tmp_path: Path):
    report = pack(source, tmp_path / "out", shard_samples=8, dry_run=True)

    assert not (tmp_path / "out").exists() and not report.finished
    [planned], [made] = report.sets, pack(source, tmp_path / "out", shard_samples=8).sets
    assert (planned.samples, planned.shards, planned.bytes) == (made.samples, made.shards, made.bytes)
    assert planned.classes == made.classes == {"class-0": 10, "class-1": 10, "class-2": 10}


def test_an_incomplete_pack_cannot_be_committed(unfinished: Path):
    before = contents(unfinished)

    with pytest.raises(StorageError, match=r"out lacks 2 of 4 shards: shard-000001\.tar, shard-000003\.tar; run"):
        commit(unfinished)

    assert contents(unfinished).keys() == before.keys()
    with pytest.raises(StorageError, match="holds an unfinished pack"):
        ShardDataset(unfinished, batch_size=1)


def test_a_folder_without_a_pack_cannot_be_committed(source: Path, tmp_path: Path):
    for folder in (tmp_path / "gone", source):
        with pytest.raises(ConfigError, match="holds no unfinished pack; there is nothing to commit"):
            commit(folder)


def test_a_commit_that_is_repeated_finds_the_finished_sets(source: Path, tmp_path: Path):
    made = pack(source, tmp_path / "out", split="train=0.8,val=0.2")
    before = contents(tmp_path / "out")

    again = commit(tmp_path / "out")

    assert (again.already_packed, again.finished, again.samples) == (True, True, made.samples)
    assert [(each.split, each.folder, each.fingerprint) for each in again.sets] == [
        (each.split, each.folder, each.fingerprint) for each in made.sets
    ]
    assert contents(tmp_path / "out") == before


def test_a_resumed_pack_takes_images_that_were_replaced_by_others_of_the_same_size(source: Path, unfinished: Path):
    replaced = source / "class-1" / "03.jpg"
    content, other = replaced.read_bytes(), (source / "class-2" / "04.jpg").read_bytes()
    about = replaced.stat()
    replaced.write_bytes((other + bytes(len(content)))[: len(content)] if len(other) <= len(content) else other)
    assert len(other) <= len(content)
    os.utime(replaced, ns=(about.st_atime_ns, about.st_mtime_ns))  # as a copy that preserves times does

    report = pack(source, unfinished, shard_samples=8)

    assert contents(unfinished) == contents(pack(source, source.parent / "fresh", shard_samples=8).out)
    assert report.kept < 2


def test_content_is_compared_if_times_cannot_show_a_change(
    source: Path, unfinished: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    for path in source.rglob("*.jpg"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)  # gives the file another inode and other times

    report = pack(source, unfinished, shard_samples=8)

    assert (report.kept, contents(unfinished)) == (2, whole)


def test_masks_that_were_exported_again_are_packed(tmp_path: Path):
    images = {f"images/{n}.jpg": tiny_jpeg(n) for n in range(8)}
    masks = {f"masks/{n}.png": encoded(Image.new("L", (8, 8), n % 2), "PNG") for n in range(8)}
    source = write(tmp_path / "data", {**images, **masks})
    task = {"executor": "array", "num_tasks": 2, "shard_samples": 4}
    pack(source, tmp_path / "out", task_index=0, **task)
    write(source, {path: encoded(Image.new("L", (8, 8), 1 - n % 2), "PNG") for n, path in enumerate(masks)})

    pack(source, tmp_path / "out", shard_samples=4)

    assert contents(tmp_path / "out") == contents(pack(source, tmp_path / "fresh", shard_samples=4).out)


def test_a_file_that_changes_while_it_is_packed_is_named_and_packed_by_the_next_run(source: Path, tmp_path: Path):
    changed = source / "class-0" / "00.jpg"

    def change(samples: int, size: int) -> None:
        content = bytearray(changed.read_bytes())
        content[-1] ^= 1
        changed.write_bytes(content)

    options = {"shard_samples": 40, "check": False, "shuffle": False}
    with pytest.raises(StorageError, match=r"class-0/00\.jpg, or its mask, changed while it was packed; pack again"):
        pack(source, tmp_path / "out", on_progress=change, **options)

    assert not (tmp_path / "out" / "manifest.json").exists()
    pack(source, tmp_path / "out", **options)
    assert contents(tmp_path / "out") == contents(pack(source, tmp_path / "fresh", **options).out)


def test_the_same_pack_again_finds_it_packed_and_writes_nothing(source: Path, tmp_path: Path):
    first = pack(source, tmp_path / "out", shard_samples=8)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}

    again = pack(source, tmp_path / "out", shard_samples=8, workers=1)

    assert (again.already_packed, again.finished, again.kept) == (True, True, first.sets[0].shards)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times
    said = run("pack", source, tmp_path / "out", "--shard-samples", 8)
    assert (said.code, f"Already packed: {tmp_path / 'out'} holds these images" in said.stdout) == (0, True)


@pytest.mark.parametrize("change", ["content", "option"])
def test_a_finished_pack_of_other_content_or_options_does_not_count(source: Path, tmp_path: Path, change: str):
    pack(source, tmp_path / "out", check=False)
    if change == "content":
        path = source / "class-0" / "00.jpg"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    with pytest.raises(ConfigError, match="holds a finished pack; replace it with --overwrite"):
        pack(source, tmp_path / "out", check=False, **({"seed": 1} if change == "option" else {}))


def test_every_image_that_cannot_be_packed_is_counted(source: Path, tmp_path: Path):
    write(source, {f"class-{n}/bad.jpg": b"<html>gone" for n in range(3)})
    write(source, {"class-0/pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"})

    with pytest.raises(DataError, match=r"4 images cannot be packed: .*bad\.jpg.*--on-bad-sample skip"):
        pack(source, tmp_path / "out")
    report = pack(source, tmp_path / "out", on_bad_sample="skip")

    reasons = {skip.path: skip.reason for skip in report.skipped}
    assert "is an HTML page, not an image" in reasons["class-1/bad.jpg"]
    assert "is a Git LFS pointer" in reasons["class-0/pointer.jpg"]


@pytest.mark.parametrize("how", ["pack", "commit"])
def test_a_finished_set_is_kept_when_the_last_call_of_the_disk_fails(source: Path, tmp_path: Path, how: str):
    def packed(out: Path, at: int | None) -> Failure:
        if how == "commit":
            pack(source, out, workers=1, executor="array", task_index=0, num_tasks=1)
        with failing(Failure(at, out)) as failure:
            commit(out) if how == "commit" else pack(source, out, workers=1)
        return failure

    calls = packed(tmp_path / "right", None).calls
    last = max(number for number, call in enumerate(calls) if call.name == "fsync")

    with pytest.raises(StorageError):
        packed(tmp_path / "out", last)

    assert contents(tmp_path / "out") == contents(tmp_path / "right")
