"""Output of ``index``: the guessed fields and task of tars from other tools."""

from pathlib import Path

import pytest

from tests.support.commands import refused, run
from tests.support.damage import copied, cut
from tests.support.foreign import by_tarfile
from tests.support.images import tiny_jpeg, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tars").mkdir()
    for number in range(2):
        held = {f"{n}": {"cls": str(n).encode(), "jpg": tiny_jpeg(n)} for n in range(3)}
        by_tarfile(tmp_path / "tars" / f"{number}.tar", held)
    return tmp_path / "tars"


def test_the_guessed_fields_and_task_are_printed(tmp_path: Path, folder: Path):
    said = run("index", folder)

    assert (said.code, said.stderr) == (0, f"Next: mps-shards preview {folder} -o sheet.png\n")
    assert said.lines(tmp_path) == [
        "DIR/tars: 6 samples in 2 shards, 0.0 MB",
        "Read as classification, target cls; the samples have the fields cls (6), jpg (6)",
        "Labels go up to 2 and have no names; --classes FILE names them",
        "Some keys occur in several shards, such as '0'; reading is not affected",
    ]
    assert run("verify", folder).code == 0


def test_the_next_step_names_an_index_that_lies_elsewhere(tmp_path: Path, folder: Path):
    said = run("index", folder, "--out", tmp_path / "elsewhere")

    step = f"mps-shards preview {folder} -o sheet.png --index {tmp_path / 'elsewhere'}"
    assert said.stderr == f"Next: {step}\n"
    assert run("preview", folder, "-o", tmp_path / "sheet.png", "--index", tmp_path / "elsewhere").code == 0


def test_class_names_come_from_a_file(tmp_path: Path, folder: Path):
    write(tmp_path, {"names.txt": "Katze\nHund\nFüchse\n".encode(), "few.txt": b"one\n"})

    assert refused("index", folder, "--classes", tmp_path / "few.txt").endswith("but only 1 classes are named")
    assert refused("index", folder, "--classes", tmp_path / "no.txt").startswith("cannot read class names from")
    report = run("index", folder, "--classes", tmp_path / "names.txt", "--json").json()

    assert (report["task"], report["classes"], report["fields"]) == ("classification", 3, {"cls": 6, "jpg": 6})
    assert run("info", folder).lines(tmp_path)[2] == "classes      3 (Katze, Hund, Füchse)"


def test_damaged_tars_and_folders_without_tars_are_refused(tmp_path: Path, folder: Path):
    cut(folder / "1.tar", 3000)
    (tmp_path / "none").mkdir()

    said = run("index", folder)

    assert said.code == 1 and f"Error: {folder / '1.tar'}: " in said.stderr and "nothing was written" in said.stderr
    assert refused("index", tmp_path / "none").endswith("holds no *.tar; for a folder of images see mps-shards pack")


def test_labels_are_added_to_a_set_without_labels(tmp_path: Path):
    folder = copied([2, 1], tmp_path / "set")

    said = run("index", folder)

    assert said.lines(tmp_path) == ["DIR/set is a shard set already; labels.npy was added (3 labels)"]
    assert run("verify", folder).code == 0
    assert "has a manifest.json already" in refused("index", folder)
