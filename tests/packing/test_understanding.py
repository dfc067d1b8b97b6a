"""Every common tree is understood and reported, or refused with the option that settles the doubt."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mps_shards import pack
from mps_shards.errors import ConfigError, StorageError
from tests.support.brought_trees import CASES, CATS, PETS, Case, images, jpeg
from tests.support.commands import run
from tests.support.doubtful_trees import DOUBTFUL, LISTS
from tests.support.files import contents
from tests.support.images import tiny_jpeg, write
from tests.support.silent_trees import SILENT


def packed(folder: Path, case: Case, options: tuple[str, ...], out: str) -> tuple[int, str, dict[str, Any]]:
    said = run("pack", folder / case.source if case.source else folder, folder.parent / out, *options)
    found = {}
    for path in (folder.parent / out).rglob("manifest.json"):
        manifest = json.loads(path.read_bytes())
        found[path.parent.name if path.parent.name != out else ""] = manifest
    return said.code, said.stdout + said.stderr, found


def check(found: dict[str, Any], wanted: Mapping[str, tuple[str, tuple[str, ...], int]], said: str) -> None:
    assert found.keys() == wanted.keys(), said
    for split, (task, classes, samples) in wanted.items():
        assert (found[split]["task"], found[split]["samples"]) == (task, samples), said
        assert len(found[split]["classes"]) == len(classes)
        assert all(name == given for name, given in zip(classes, found[split]["classes"], strict=True) if name)


@pytest.mark.parametrize("name", [*CASES, *DOUBTFUL, *LISTS, *SILENT])
def test_a_tree_is_understood_or_refused_with_the_option_that_settles_the_doubt(tmp_path: Path, name: str):
    case = (CASES | DOUBTFUL | LISTS | SILENT)[name]
    folder = write(tmp_path / "data", case.files)

    code, said, found = packed(folder, case, case.options, "out")

    assert code == (0 if case.sets else 1), said
    assert [word for word in case.words if word not in said] == [], said
    check(found, case.sets, said)
    if not case.sets:
        assert not (tmp_path / "out").exists()
    if case.settled:
        options, wanted = case.settled
        code, said, found = packed(folder, case, options, "settled")
        assert code == 0, said
        check(found, wanted, said)


def test_a_dry_run_prints_the_understanding_as_json_and_fails_if_doubts_remain(tmp_path: Path):
    clean = write(tmp_path / "clean", images(*PETS))
    unclear = write(tmp_path / "unclear", CASES["0 and 255"].files)

    said = run("pack", clean, "--dry-run", "--json")
    doubtful = run("pack", unclear, "--dry-run", "--json")

    assert said.code == 0
    assert said.json()["understanding"]["classes"] == ["cat", "dog"]
    assert said.json()["understanding"]["formats"] == {"JPEG RGB": 4}
    assert doubtful.code == 1
    [[question, *_]] = json.loads(doubtful.stdout)["understanding"]["doubts"]
    assert question == "masks hold the label ids 0 and 255"
    assert not list(tmp_path.glob("*-shards"))


def test_the_python_function_refuses_and_reports_as_the_command_does(tmp_path: Path):
    source = write(tmp_path / "imgs", CASES["split beside a class"].files)

    with pytest.raises(ConfigError, match=r"looks like a split.*--yes accepts the first guess; nothing was written"):
        pack(source)
    report = pack(source, yes=True)

    assert report.understanding is not None and len(report.understanding.doubts) == 1
    assert report.classes == ("lorry", "train", "van")


def test_targets_of_lists_are_in_the_fields_that_readers_use(tmp_path: Path):
    several = write(tmp_path / "several", CASES["several labels by bars"].files)
    numbers = write(tmp_path / "numbers", CASES["floats"].files)

    pack(several / "labels.csv", tmp_path / "multi", separator="|", shuffle=False)
    pack(numbers / "labels.csv", tmp_path / "ages", label_column="age", targets="number", shuffle=False)

    tar = (tmp_path / "multi" / "shard-000000.tar").read_bytes()
    assert b'{"labels":[0,1]}' in tar and b'{"labels":[2]}' in tar
    assert b'{"age":0.0025}' in (tmp_path / "ages" / "shard-000000.tar").read_bytes()
    assert json.loads((tmp_path / "ages" / "manifest.json").read_bytes())["columns"] == ["age"]


def test_classes_of_another_set_determine_the_label_numbers(tmp_path: Path):
    train = write(tmp_path / "train", images(*(f"{name}/{n}.jpg" for name in ("ant", "bee", "cow") for n in range(2))))
    val = write(tmp_path / "val", images("cow/0.jpg", "cow/1.jpg"))
    write(val, {"list.txt": b"x"})
    pack(train, tmp_path / "train-set")

    report = pack(val, classes=str(tmp_path / "train-set"))
    write(val, {"dodo/0.jpg": jpeg(9)})

    assert report.sets[0].classes == {"ant": 0, "bee": 0, "cow": 2}
    assert (
        run("pack", val, tmp_path / "other", "--classes", tmp_path / "train-set")
        .stderr.splitlines()[-1]
        .startswith("Error: 'dodo' is not one of the 3 classes")
    )


def test_label_ids_are_mapped_in_the_masks_themselves(tmp_path: Path):
    source = write(tmp_path / "data", CASES["0 and 255"].files)

    pack(source, tmp_path / "out", map_ids="binary")

    import tarfile

    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        content = tar.extractfile("images/0.mask.png").read()  # type: ignore[union-attr]
    assert np.unique(np.asarray(Image.open(io.BytesIO(content)))).tolist() == [0, 1]
    assert json.loads((tmp_path / "out" / "manifest.json").read_bytes())["packed"]["options"]["map_ids"] == "binary"


def test_a_subset_has_its_share_of_every_class(tmp_path: Path):
    source = write(tmp_path / "imgs", images(*(f"{name}/{n}.jpg" for name in CATS for n in range(10))))

    assert pack(source, tmp_path / "few", subset=0.2).sets[0].classes == {"cat": 2, "dog": 2}
    split = pack(source, tmp_path / "split", split="train=0.4,val=0.2")
    assert {each.split: each.samples for each in split.sets} == {"train": 8, "val": 4}
    halves = pack(source, tmp_path / "halves", split="80/20")
    assert {each.split: each.samples for each in halves.sets} == {"train": 16, "val": 4}


@pytest.mark.parametrize("named", ["data", "data/train.csv"])
def test_a_list_that_is_used_is_not_reported_as_left_out_and_others_are_counted_once(tmp_path: Path, named: str):
    for split in ("train", "test"):
        for number in range(4):
            write(tmp_path, {f"data/{split}/{number}.jpg": tiny_jpeg(seed=number * 20 + len(split))})
    write(tmp_path, {"data/train.csv": b"id,label\n0,a\n1,b\n2,a\n3,b\n", "data/notes.md": b"hello"})

    done = run("pack", tmp_path / named, tmp_path / "out", "--yes")

    assert done.code == 0, done
    assert "Not used" not in done.stderr + done.stdout
    assert "1 .md" in done.stderr + done.stdout
    assert ".csv)" not in done.stderr + done.stdout


def test_a_subset_has_its_share_of_every_set_of_labels(tmp_path: Path):
    names = [f"{number}.jpg" for number in range(40)]
    table = "path,labels\n" + "".join(f"{name},{'cat|dog' if n < 36 else 'owl'}\n" for n, name in enumerate(names))
    write(tmp_path, {**dict.fromkeys(names, tiny_jpeg()), "labels.csv": table.encode()})

    pack(tmp_path / "labels.csv", tmp_path / "out", separator="|", subset=0.5)

    tar = (tmp_path / "out" / "shard-000000.tar").read_bytes()
    assert (tar.count(b'{"labels":[0,1]}'), tar.count(b'{"labels":[2]}')) == (18, 2)


def test_a_shard_set_inside_the_source_is_reported_once_and_not_searched(tmp_path: Path):
    source = write(tmp_path / "imgs", images(*PETS))
    flat = write(tmp_path / "flat", images("0.jpg", "1.jpg"))
    for folder in (source, flat):
        pack(folder, folder / "train-shards")

    said = run("pack", source, tmp_path / "out")
    unlabelled = run("pack", flat, tmp_path / "flat-out")
    again = run("pack", tmp_path / "out", tmp_path / "more")

    assert said.code == unlabelled.code == 0, unlabelled.stderr
    assert said.stderr.count("train-shards") == 1
    assert "Note: train-shards is a shard set and is left out" in said.stderr
    assert "Left out" not in said.stderr
    assert again.stderr.endswith("out is packed already: reshard changes its shards\n")


@pytest.mark.parametrize("named", ["data/labels.csv", "data"])
def test_a_list_that_changes_while_it_is_packed_is_named(tmp_path: Path, named: str):
    folder = write(tmp_path / "data", CASES["breed"].files)
    table = folder / "labels.csv"

    def change(samples: int, size: int) -> None:
        table.write_bytes(table.read_bytes().replace(b"dog", b"cat"))

    with pytest.raises(
        StorageError,
        match=r"labels\.csv changed while the images that it names were packed; pack again with --overwrite",
    ):
        pack(tmp_path / named, tmp_path / "out", on_progress=change)

    assert not (tmp_path / "out" / "manifest.json").exists()
    assert pack(tmp_path / named, tmp_path / "out", overwrite=True).classes == ("cat",)


def test_a_file_that_is_not_used_may_change_while_the_images_are_packed(tmp_path: Path):
    folder = write(tmp_path / "data", {**images(*PETS), "log.txt": b"begun"})

    report = pack(folder, tmp_path / "out", on_progress=lambda samples, size: write(folder, {"log.txt": b"going on"}))

    assert report.finished


@pytest.mark.parametrize("other", [" cat", "cat ", "c\u0327at"])
def test_class_names_that_look_equal_are_a_doubt(tmp_path: Path, other: str):
    name = "\u00e7at" if "\u0327" in other else "cat"
    source = write(tmp_path / "imgs", images(*(f"{folder}/{n}.jpg" for folder in (other, name) for n in range(3))))

    with pytest.raises(ConfigError, match="differ only in spaces or in Unicode normal form"):
        pack(source, tmp_path / "out")

    assert set(pack(source, tmp_path / "out", yes=True).classes) == {other, name}


@pytest.mark.parametrize("out", ["out", "cat/out"])
def test_a_pack_into_the_source_itself_can_be_repeated_and_resumed(tmp_path: Path, out: str):
    source = write(tmp_path / "imgs", images(*(f"{name}/{n}.jpg" for name in ("cat", "dog") for n in range(6))))
    options = {"shard_samples": 4, "workers": 1}
    expected = contents(pack(source, tmp_path / "outside", **options).out)
    count = 0

    def stop(samples: int, size: int) -> None:
        nonlocal count
        count += samples
        if count > 6:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pack(source, source / out, on_progress=stop, **options)
    resumed = pack(source, source / out, **options)
    again = pack(source, source / out, **options)

    for report in (resumed, again):
        assert report.understanding is not None
        assert report.understanding.notes == (f"{out} is a shard set and is left out",)
        assert (report.ignored, report.empty) == ({}, ())
    assert (resumed.kept, again.already_packed) == (1, True)
    assert contents(source / out) == expected
