"""``preview`` draws samples, names samples that it cannot draw, and leaves no partial file."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mps_shards import pack
from mps_shards.inspect.palette_colours import class_colour
from tests.support.commands import refused, run
from tests.support.sets import shard_set
from tests.support.things import segmentation_set


@pytest.fixture(scope="module")
def photo_set(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("preview") / "photos-shards").out


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def dots(sheet: np.ndarray, label: int) -> bool:
    return bool((sheet == class_colour(label)).all(axis=2).any())


def test_samples_of_every_class_are_drawn_with_their_names(photo_set: Path, tmp_path: Path):
    done = run("preview", photo_set, "-o", tmp_path / "sheet.png")

    assert done.code == 0, done
    assert done.stdout == f"{tmp_path / 'sheet.png'}: 32 of 60 samples, 1478 x 1158 pixels\n"
    assert all(dots(drawn(tmp_path / "sheet.png"), label) for label in range(4))


def test_a_seed_gives_the_same_sheet_and_another_seed_another(photo_set: Path, tmp_path: Path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        run("preview", photo_set, "-o", tmp_path / f"{name}.png", "--seed", seed, "--count", 6)

    one, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "same", "other"))
    assert one == same != other


@pytest.mark.parametrize("named", ["cat", "1"])  # as `ls --class` takes them
def test_samples_of_one_class_can_be_selected(photo_set: Path, tmp_path: Path, named: str):
    done = run("preview", photo_set, "-o", tmp_path / "cats.png", "--class", named, "--count", 40, "--size", 64)

    assert done.stdout == f"{tmp_path / 'cats.png'}: 15 of 60 samples, 710 x 472 pixels\n"
    assert [dots(drawn(tmp_path / "cats.png"), label) for label in range(4)] == [False, True, False, False]


def test_augment_shows_a_sample_as_training_sees_it(photo_set: Path, tmp_path: Path):
    done = run("preview", photo_set, "-o", tmp_path / "seen.png", "--augment", "--times", 3, "--count", 2)

    assert done.code == 0, done
    with Image.open(tmp_path / "seen.png") as sheet:
        row = np.asarray(sheet)[130:270]
    crops = [row[:, 36 + 166 * place :][:, 10:150] for place in range(4)]
    assert all(crop.std() > 1 for crop in crops)
    assert all((one != other).any() for one, other in pairwise(crops))


def test_masks_are_drawn_over_their_images_in_the_colours_of_the_legend(tmp_path: Path):
    done = run("preview", segmentation_set(), "-o", tmp_path / "masks.png", "--count", 20)

    assert done.code == 0, done
    sheet = drawn(tmp_path / "masks.png")
    assert all(dots(sheet[:170], value) for value in (1, 2, 3, 4))
    assert not dots(sheet, 0)  # the background


def test_augment_shows_masks_as_training_sees_them_with_striped_padding(tmp_path: Path):
    out = tmp_path / "seen.png"

    done = run("preview", segmentation_set(), "-o", out, "--augment", "--transform", "train:128", "--times", 2)

    assert done.code == 0, done
    assert drawn(out).shape[1] == 36 * 2 + 2 * (4 * 166 - 6) + 18
    assert dots(drawn(out), 0) is False


def test_samples_whose_masks_hold_a_class_can_be_selected(tmp_path: Path):
    done = run("preview", segmentation_set(), "-o", tmp_path / "coins.png", "--class", "coin")

    assert "coins.png: 4 of 20 samples" in done.stdout


def test_a_sample_that_cannot_be_decoded_leaves_its_place_empty_and_is_named(tmp_path: Path):
    done = run("preview", shard_set([3, 3], broken=[4]), "-o", tmp_path / "sheet.png")

    assert done.code == 1
    assert done.stdout == f"{tmp_path / 'sheet.png'}: 6 of 6 samples, 1122 x 563 pixels\n"
    assert done.stderr.startswith("broken: s00004 (s-000001.tar): cannot decode the image: ")
    assert done.stderr.endswith(f"Next: mps-shards verify {shard_set([3, 3], broken=[4])} --decode\n")
    assert (drawn(tmp_path / "sheet.png") == (233, 232, 227)).all(axis=2).sum() > 20_000


def test_an_error_gives_one_line_and_writes_no_file(photo_set: Path, tmp_path: Path):
    out = tmp_path / "sheet.png"

    assert refused("preview", shard_set([0]), "-o", out) == "no sample matches, so there is nothing to show"
    assert refused("preview", tmp_path / "gone", "-o", out) == f"{tmp_path / 'gone'}: no such file or directory"
    assert refused("preview", photo_set, "-o", out, "--class", "dog").endswith("it has brick, cat, coffee, flower")
    assert refused("preview", photo_set, "-o", tmp_path / "no" / "sheet.png").endswith("No such file or directory")
    unfit = refused("preview", photo_set, "-o", out, "--augment", "--transform", "segment.train")
    assert unfit == "segment.train is not for classification; use classify.train for this set"
    assert list(tmp_path.iterdir()) == []


def test_label_maps_are_drawn_in_the_colours_of_the_palette_that_packing_was_given(tmp_path: Path):
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/masks").mkdir()
    pixels = np.full((48, 64, 3), 90, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "data/images/0.png")
    pixels[:, :32], pixels[:, 32:] = (200, 30, 40), (10, 20, 220)
    Image.fromarray(pixels).save(tmp_path / "data/masks/0.png")
    (tmp_path / "colours.txt").write_text("200 30 40 road\n10 20 220 water\n")

    packed = run("pack", tmp_path / "data", tmp_path / "set", "--palette", tmp_path / "colours.txt", "--yes")
    run("preview", tmp_path / "set", "-o", tmp_path / "sheet.png")

    assert packed.code == 0, packed
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    legend = sheet[:200]  # the legend shows the plain colours, which the overlay mixes with the image
    assert (legend == (200, 30, 40)).all(axis=2).sum() > 50
    assert (legend == (10, 20, 220)).all(axis=2).sum() > 50
