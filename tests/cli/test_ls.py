"""Output of ``ls``: samples as text and as JSON, selected by class, shard or condition."""

import json
import shutil
from pathlib import Path

import pytest

from mps_shards import pack
from tests.support.commands import refused, run
from tests.support.damage import copied, flip
from tests.support.images import tiny_jpeg, write
from tests.support.sets import keys, shard_set


def test_ls_prints_class_and_key_of_every_sample_in_order():
    said = run("ls", shard_set([2, 2]))

    assert (said.code, said.stderr) == (0, "")
    assert said.stdout.splitlines() == ["cat\ts00000", "dog\ts00001", "fox\ts00002", "cat\ts00003"]


def test_keys_prints_only_the_keys():
    assert run("ls", shard_set([2, 2]), "--keys").stdout.splitlines() == keys(range(4))


@pytest.mark.parametrize("named", ["dog", "1"])
def test_a_class_is_selected_by_name_or_number(named: str):
    assert run("ls", shard_set([4, 4]), "--class", named, "--keys").stdout.splitlines() == keys([1, 4, 7])


@pytest.mark.parametrize("named", ["s-000001.tar", "1"])
def test_a_shard_is_selected_by_name_or_number(named: str):
    assert run("ls", shard_set([4, 4]), "--shard", named, "--keys").stdout.splitlines() == keys([4, 5, 6, 7])


def test_long_prints_shard_number_size_fields_and_key(tmp_path: Path):
    image = tiny_jpeg()
    out = pack(write(tmp_path / "imgs", {"cat/x.JPG": image})).out

    line = run("ls", out, "-l").stdout.rstrip("\n")

    assert line.split("\t") == ["shard-000000.tar", "0", str(len(image) + 1), "cat", "cls,jpg", "cat/x"]


def test_json_prints_an_object_per_sample():
    lines = [json.loads(line) for line in run("ls", shard_set([1, 1]), "--json").stdout.splitlines()]

    size = lines[1]["fields"].pop("jpg")
    assert size > 100
    assert lines[1] == {
        "shard": "s-000001.tar",
        "sample": 0,
        "key": "s00001",
        "label": 1,
        "fields": {"cls": 1},
        "class": "dog",
    }


def test_an_unlabeled_set_has_no_classes_to_list(tmp_path: Path):
    out = pack(write(tmp_path / "imgs", {"x.jpg": tiny_jpeg()})).out

    assert run("ls", out).stdout == "-\tx\n"
    assert json.loads(run("ls", out, "--json").stdout)["class"] is None
    assert refused("ls", out, "--class", "cat") == "'cat' is not a class of this set; it has no class names"


def test_an_empty_set_lists_nothing():
    assert run("ls", shard_set([])) == ("", "", 0)
    assert refused("ls", shard_set([]), "--shard", "0") == "'0' is not a shard of this set; it has none"


def test_an_unknown_class_or_shard_is_refused():
    folder = shard_set([2, 2])

    assert refused("ls", folder, "--class", "lion") == "'lion' is not a class of this set; it has cat, dog, fox"
    assert refused("ls", folder, "--shard", "2").endswith("it has 2, from s-000000.tar to s-000001.tar")


def test_a_broken_set_is_an_error_with_what_to_do(tmp_path: Path):
    folder = copied([2, 2], tmp_path / "set")
    flip(folder / "index.npy", 140)

    assert refused("ls", folder).endswith(": run 'mps-shards repair'")


def test_control_characters_in_keys_do_not_reach_the_terminal(tmp_path: Path):
    out = pack(write(tmp_path / "imgs", {"a/ü 猫\u202e.jpg": tiny_jpeg()})).out

    assert run("ls", out, "--keys").stdout == "a/ü 猫\\u202e\n"


@pytest.mark.parametrize("command", ["ls", "unpack"])
def test_an_unreadable_index_is_not_reported_as_a_wrong_index(command: str, tmp_path: Path):
    folder = shutil.copytree(shard_set([4]), tmp_path / "set")
    (folder / "index.npy").unlink()
    (folder / "index.npy").mkdir()  # the error of a user without permission, because root may read every file

    said = refused(command, folder, *([tmp_path / "out"] if command == "unpack" else []))

    assert "index.npy: Is a directory" in said
    assert "repair" not in said
