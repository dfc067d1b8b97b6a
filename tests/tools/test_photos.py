"""tools/scripts/photos.py makes the same real photographs everywhere, of the shape asked for."""

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.scripts.photos import CLASSES, make_imagenet_like, make_photos

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.jpg")}


def test_equal_arguments_give_equal_bytes_with_any_number_of_threads(tmp_path):
    make_photos(tmp_path / "one", count=20, threads=1)
    make_photos(tmp_path / "four", count=20, threads=4)

    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_another_seed_gives_other_photographs(tmp_path):
    make_photos(tmp_path / "a", count=15, seed=1)
    make_photos(tmp_path / "b", count=15, seed=2)

    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a.keys() == b.keys()
    assert all(a[name] != b[name] for name in a)


def test_every_class_has_its_folder_and_its_share(tmp_path):
    made = make_photos(tmp_path, count=2 * len(CLASSES), size=(40, 30))

    expected = [tmp_path / label / f"{label}-000{n}.jpg" for label in sorted(CLASSES) for n in (1, 2)]
    assert made == expected == sorted(tmp_path.rglob("*.jpg"))


def test_photographs_decode_at_the_size_asked_and_are_no_flat_patches(tmp_path):
    for path in make_photos(tmp_path, count=30, size=(80, 60)):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (80, 60))
            assert np.asarray(image.convert("L")).std() > 5, path


def test_classes_can_be_chosen_grey_ones_too(tmp_path):
    made = make_photos(tmp_path, count=4, classes=["cat", "brick"])

    modes = {}
    for path in made:
        with Image.open(path) as image:
            modes[path.parent.name] = image.mode
    assert modes == {"cat": "RGB", "brick": "L"}


def test_a_split_keeps_a_fifth_for_val_from_another_part_of_the_photograph(tmp_path, monkeypatch):
    # A source whose pixels say how far to the right they lie.
    ramp = np.tile(np.linspace(0, 250, 400, dtype=np.uint8), (300, 1))
    monkeypatch.setattr("tools.scripts.photos._photograph", lambda label: ramp)

    made = make_photos(tmp_path, count=50, size=(64, 64), classes=["coffee"], quality=100, split=True)

    brightness = {"train": [], "val": []}
    for path in made:
        part, label, _ = path.relative_to(tmp_path).parts
        assert label == "coffee"
        with Image.open(path) as image:
            brightness[part].append(image.getextrema())
    assert {part: len(crops) for part, crops in brightness.items()} == {"train": 40, "val": 10}
    assert max(high for _, high in brightness["train"]) <= 126  # half of 250, and what JPEG rounds
    assert min(low for low, _ in brightness["val"]) >= 124


@pytest.mark.parametrize("seed", [0, 1])
def test_imagenet_like_files_have_the_sizes_of_imagenet_s(tmp_path, seed):
    made = make_imagenet_like(tmp_path, count=90, seed=seed)

    assert 100 <= statistics.median(path.stat().st_size / 1000 for path in made) <= 120
    sizes = set()
    for path in made:
        with Image.open(path) as image:
            sizes.add(image.size)
    assert 485 <= statistics.median(max(size) for size in sizes) <= 515
    assert any(height > width for width, height in sizes)
    assert len(sizes) > 80


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()

    with pytest.raises(FileExistsError, match="is not empty"):
        make_photos(tmp_path, count=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_script_says_what_it_made(tmp_path):
    command = [sys.executable, "-m", "tools.scripts.photos", str(tmp_path / "out"), "--count", "6", "--size", "32"]

    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.startswith("6 photographs, ")
    assert len(contents(tmp_path / "out")) == 6
