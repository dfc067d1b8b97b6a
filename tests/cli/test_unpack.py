"""Output of ``unpack``: the files that it wrote, or why it refused."""

from pathlib import Path

from mps_shards import pack
from tests.support.commands import refused, run
from tests.support.damage import copied, flip
from tests.support.files import contents
from tests.support.images import class_folders, tiny_jpeg, write
from tests.support.sets import shard_set


def test_a_set_is_unpacked_and_a_second_run_finds_its_files(tmp_path: Path):
    class_folders(tmp_path / "imgs")
    out = pack(tmp_path / "imgs").out

    first, second = run("unpack", out, tmp_path / "again"), run("unpack", out, tmp_path / "again")

    assert contents(tmp_path / "again") == contents(tmp_path / "imgs")
    assert first.lines(tmp_path) == ["DIR/again: 12 samples in 12 files, 0.0 MB"]
    assert second.lines(tmp_path) == ["DIR/again: 12 samples in 12 files, 0.0 MB, 12 of which existed already"]
    step = f"Next: mps-shards pack {tmp_path / 'again'}\n"
    assert (first.code, first.stderr) == (second.code, second.stderr) == (0, step)


def test_a_folder_of_sets_is_unpacked_into_one_folder(tmp_path: Path):
    files = {f"{split}/a/x.jpg": tiny_jpeg(seed) for seed, split in enumerate(("train", "val"))}
    out = pack(write(tmp_path / "imgs", files)).out

    said = run("unpack", out, tmp_path / "again")

    assert contents(tmp_path / "again") == files
    assert said.lines(tmp_path) == ["DIR/again: 2 samples of 2 sets in 2 files, 0.0 MB"]


def test_the_report_as_json(tmp_path: Path):
    report = run("unpack", shard_set([3]), tmp_path / "out", "--json").json()

    assert (report["out"], report["files"], report["already"], report["clashes"]) == (str(tmp_path / "out"), 3, 0, 0)


def test_names_that_differ_only_in_case_are_counted(tmp_path: Path):
    out = pack(write(tmp_path / "imgs", {"a/x.jpg": tiny_jpeg(), "A/x.jpg": tiny_jpeg(1)}), yes=True).out

    assert run("unpack", out, tmp_path / "again").stderr.startswith("2 paths differing from others only in case")


def test_files_with_other_content_are_kept_without_overwrite(tmp_path: Path):
    write(tmp_path / "out", {"cat/s00000.jpg": b"mine"})

    assert refused("unpack", shard_set([1]), tmp_path / "out").endswith("remove it, or unpack with --overwrite")
    assert run("unpack", shard_set([1]), tmp_path / "out", "--overwrite").code == 0


def test_broken_and_empty_sets(tmp_path: Path):
    folder = copied([2], tmp_path / "set")
    flip(folder / "s-000000.tar", 1700)

    assert refused("unpack", folder, tmp_path / "out").endswith("see mps-shards verify and repair")
    assert run("unpack", shard_set([]), tmp_path / "none").lines(tmp_path) == ["DIR/none: 0 samples in 0 files, 0.0 MB"]
