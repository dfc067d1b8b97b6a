"""Output of ``info`` for a set, a folder of sets, and tars of other tools."""

import json
from pathlib import Path

from mps_shards import pack
from tests.support.commands import refused, run
from tests.support.images import tiny_jpeg, write
from tests.support.sets import foreign_tars, shard_set


def test_info_shows_an_empty_set():
    said = run("info", shard_set([]))

    assert (said.code, said.stderr) == (0, f"Next: mps-shards preview {shard_set([])} -o sheet.png\n")
    assert said.lines(Path("/")) == [
        "task         classification",
        "samples      0",
        "classes      3 (cat, dog, fox)",
        "shards       0, 0.0 MB",
        "packed       from tests, not shuffled, by mps-shards 0",
        "fingerprint  #",
    ]


def test_info_shows_how_a_set_was_packed(tmp_path: Path):
    out = pack(write(tmp_path / "imgs", {"a/x.jpg": tiny_jpeg()}), shard_samples=7).out

    assert "options      shard_size 256000000, shard_samples 7, keys stem" in run("info", out).stdout


def test_a_folder_of_sets_is_shown_as_a_table(tmp_path: Path):
    names = ("train/cat/x.jpg", "train/dog/x.jpg", "val/cat/x.jpg")
    out = pack(write(tmp_path / "imgs", {name: tiny_jpeg(seed) for seed, name in enumerate(names)})).out

    assert [line.split()[:6] for line in run("info", out).lines(tmp_path)] == [
        ["set", "task", "samples", "classes", "shards", "size"],
        ["train", "classification", "2", "2", "1", "0.0"],
        ["val", "classification", "1", "2", "1", "0.0"],
    ]
    assert run("info", out).stderr == f"Next: mps-shards report {out} -o report.html\n"
    sets = run("info", out, "--json").json()["sets"]
    assert sets == {name: json.loads((out / name / "manifest.json").read_bytes()) for name in ("train", "val")}


def test_tars_without_a_manifest_are_named_with_the_command_that_indexes_them():
    folder = foreign_tars([2, 2])

    said = run("info", folder)

    assert said.lines(folder) == [
        "DIR holds 2 tars without a manifest, 0.0 MB.",
        "They can be streamed as they are; an index lets them be shuffled, resumed and counted.",
    ]
    assert said.stderr == f"Next: mps-shards index {folder}\n"
    assert run("info", folder, "--json").json()["foreign"]["tars"] == ["s-000000.tar", "s-000001.tar"]


def test_an_unfinished_pack_is_not_shown_as_a_set(tmp_path: Path):
    write(tmp_path, {"x.tar": b"", "manifest.json.part": b""})

    assert "holds an unfinished pack (manifest.json.part)" in refused("info", tmp_path)
