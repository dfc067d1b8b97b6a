"""Sets with several classes, numbers or captions: they are indexed, verified, listed by condition and unpacked."""

import json
from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, DataError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.raw_sample import RawSample
from mps_shards.shards.target_values import class_ids, numbers
from mps_shards.shardset.indexing import adopt
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.shardset.unpacking import unpack
from mps_shards.shardset.verification import verify
from mps_shards.storage.location import Location, open_folder
from tests.support.commands import refused, run
from tests.support.damage import manifest_of
from tests.support.files import contents
from tests.support.foreign import by_tarfile
from tests.support.images import tiny_jpeg, write

TAGS = [["cat"], ["dog", "cat"], [], ["fox"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tars as img2dataset makes them: jpg, txt, and json with several fields."""
    (tmp_path / "tars").mkdir()
    held = {
        f"d/{n:05d}": {
            "jpg": tiny_jpeg(n),
            "json": json.dumps({"tags": TAGS[n], "age": 20 + n / 2, "size": {"w": n}, "license": "CC"}).encode(),
            "txt": f"A picture of {n} füchse".encode(),
        }
        for n in range(4)
    }
    by_tarfile(tmp_path / "tars" / "x.tar", held)
    return tmp_path / "tars"


def samples(folder: Path) -> list[RawSample]:
    found = ShardSet(Location(open_folder(folder)))
    return [found.read(number) for number in range(len(found))]


def listed(folder: Path, *conditions: str) -> list[str]:
    options = [option for condition in conditions for option in ("--where", condition)]
    return run("ls", folder, "--keys", *options).stdout.split()


def test_caption_sets_are_indexed_verified_and_listed(folder: Path, tmp_path: Path):
    said = run("index", folder, "--target", "txt")

    assert said.code == 0 and "Read as captions, target txt" in said.stdout
    assert manifest_of(folder).task == "captions"
    assert verify(folder, decode=True).problems == ()
    assert [bytes(raw.fields["txt"]).decode() for raw in samples(folder)][3] == "A picture of 3 füchse"
    assert run("ls", folder).stdout.splitlines()[1] == "A picture of 1 füchse\td/00001"
    assert listed(folder, "txt~PICTURE OF 2") == ["d/00002"]
    unpack(folder, tmp_path / "out")
    assert contents(tmp_path / "out")["d/00001.txt"].decode() == "A picture of 1 füchse"


def test_sets_of_numbers_are_indexed_verified_and_listed(folder: Path):
    run("index", folder, "--columns", "age, size.w")

    manifest = manifest_of(folder)
    assert (manifest.task, manifest.column_names) == ("regression", ("age", "size.w"))
    assert verify(folder).problems == ()
    assert [numbers(raw, manifest.column_names) for raw in samples(folder)] == [(20 + n / 2, n) for n in range(4)]
    assert run("ls", folder).stdout.splitlines()[1] == "age=20.5,size.w=1\td/00001"
    assert listed(folder, "age>=20.5", "age<21.5") == ["d/00001", "d/00002"]


def test_multi_label_sets_are_indexed_verified_and_listed(folder: Path, tmp_path: Path):
    write(tmp_path, {"names.txt": b"cat\ndog\nfox\n"})
    with pytest.raises(ConfigError, match="a multi-label set needs the names of its classes"):
        adopt(folder, choice=FieldChoice.parsed(None, "json:tags", task="multilabel"))

    options = ("--task", "multilabel", "--target", "json:tags", "--classes", tmp_path / "names.txt")
    assert run("index", folder, *options).code == 0

    manifest = manifest_of(folder)
    assert (manifest.task, manifest.classes) == ("multilabel", ("cat", "dog", "fox"))
    assert verify(folder).problems == ()
    assert not (folder / "labels.npy").exists()
    assert [class_ids(raw, classes=3) for raw in samples(folder)] == [(0,), (0, 1), (), (2,)]
    assert [line.split("\t")[0] for line in run("ls", folder).stdout.splitlines()] == ["cat", "cat|dog", "-", "fox"]
    assert listed(folder, "class=cat") == ["d/00000", "d/00001"]
    assert listed(folder, "class!=cat") == ["d/00002", "d/00003"]
    assert run("ls", folder, "--class", "dog", "--keys").stdout.split() == ["d/00001"]


def test_a_tag_that_is_not_a_class_is_an_error_that_names_the_tag(folder: Path):
    choice = FieldChoice.parsed(None, "json:tags", task="multilabel")

    with pytest.raises(DataError, match=r"json:tags holds 'fox', which is not a class \(the set has 2 classes\)"):
        adopt(folder, choice=choice, classes=["cat", "dog"])


def test_a_missing_target_is_an_error(folder: Path):
    by_tarfile(folder / "y.tar", {"e": {"jpg": tiny_jpeg(0)}})

    with pytest.raises(DataError, match=r"only 4 of the 5 samples in .* have a target for regression"):
        adopt(folder, choice=FieldChoice.parsed(None, None, columns=["age"]))


def test_verify_finds_missing_targets(folder: Path):
    adopt(folder, choice=FieldChoice.parsed(None, None, columns=["age"]))
    tar = (folder / "x.tar").read_bytes()
    (folder / "x.tar").write_bytes(tar.replace(b'"age": 20.5', b'"age": null'))

    found = {problem.kind: problem.detail for problem in verify(folder).problems}

    assert "age is 'None' in its .json, which is not a finite number" in found["bad label"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("json:license=CC", [0, 1, 2, 3]),
        ("json:license!=CC", []),
        ("json:size.w>1", [2, 3]),
        ("json:size.w=2", [2]),
        ("json:tags=cat", [0, 1]),
        ("json:tags!=cat", [2, 3]),
        ("json:tags~O", [1, 3]),
        ("json:none=1", []),
        ("key=d/*[12]", [1, 2]),
        ("key~00003", [3]),
        ("shard=x.tar", [0, 1, 2, 3]),
        ("bytes>0", [0, 1, 2, 3]),
        ("bytes<10", []),
        ("txt", [0, 1, 2, 3]),
        ("!txt", []),
        ("mask.png", []),
    ],
)
def test_samples_are_listed_by_condition(folder: Path, condition: str, expected: list[int]):
    adopt(folder)

    assert listed(folder, condition) == [f"d/{n:05d}" for n in expected]


@pytest.mark.parametrize("condition", ["", "=", "age>", "age>old", "!age=3"])
def test_malformed_conditions_are_a_usage_error(folder: Path, condition: str):
    assert run("ls", folder, "--where", condition).code == 2


def test_a_condition_on_a_class_that_the_set_lacks_is_refused(folder: Path):
    adopt(folder, choice=FieldChoice.parsed(None, "none"))

    assert refused("ls", folder, "--where", "class=bird").startswith("'bird' is not a class of this set")
