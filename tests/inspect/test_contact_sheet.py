"""Layout of contact sheets, overlays of label maps, and colours of classes."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mps_shards.errors import ConfigError
from mps_shards.inspect.contact_sheet import Tile, contact_sheet, file_bytes, sheet_format, shrunk, shrunk_mask
from mps_shards.inspect.overlay import class_names, overlaid
from mps_shards.inspect.palette_colours import class_colour


def flat(value: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def middle_of(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    rows, columns = np.nonzero((sheet == colour).all(axis=2))
    assert len(rows), f"nothing is drawn in {colour}"
    return round(rows.mean()), round(columns.mean())


def test_each_picture_is_shown_once_in_its_place():
    shades = [20 * number + 30 for number in range(10)]

    sheet = np.asarray(contact_sheet([Tile([flat(shade)], "cat") for shade in shades], title="ten", columns=4))

    areas = [int((sheet == shade).all(axis=2).sum()) for shade in shades]
    assert min(areas) > 0.9 * 160 * 160
    centres = [middle_of(sheet, (shade,) * 3) for shade in shades]
    assert centres == sorted(centres)
    assert len({row for row, _ in centres}) == 3


def test_a_picture_keeps_its_shape_and_no_part_of_it_is_cut():
    tiles = [Tile([flat(40, 30, 90), flat(80, 90, 40)], "two"), Tile([flat(120, 50, 50), flat(200, 50, 50)], "squares")]

    sheet = np.asarray(contact_sheet(tiles, title="wide and tall"))

    heights = {}
    for shade, ratio in ((40, 3), (80, 4 / 9), (120, 1), (200, 1)):
        rows, columns = np.nonzero((sheet == shade).all(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert width / height == pytest.approx(ratio, abs=0.05)
        heights[shade] = int(height)
    assert heights[40] == heights[80] and heights[120] == heights[200]  # pictures of a cell stand side by side


def test_full_rows_end_at_the_same_edge_whatever_the_shapes():
    shapes = [(30, 90), (90, 30), (60, 80), (50, 50), (40, 120), (80, 60)] * 5

    sheet = np.asarray(contact_sheet([Tile([flat(90, *shape)], "x") for shape in shapes], title="rows"))

    filled = (sheet == 90).all(axis=2)
    ends = [int(np.nonzero(row)[0].max()) for row in filled if row.any()]
    full = [end for end in ends if end > sheet.shape[1] * 0.9]
    assert max(full) - min(full[len(full) // 10 : -len(full) // 10]) <= 12  # rounded corners apart


def test_an_unreadable_image_keeps_its_cell_and_long_captions_are_shortened():
    name = "an endless name " * 40

    sheet = contact_sheet([Tile([None], name)] * 3, title="broken", subtitle=name, legend={name: (200, 40, 90)})

    pixels = np.asarray(sheet)
    assert (pixels[:, -30:] == pixels[0, 0]).all()  # the margin is paper
    assert (pixels == (200, 40, 90)).all(axis=2).any()


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".JPG", "JPEG"), (".webp", "WEBP")])
def test_the_extension_chooses_the_format_of_a_sheet(suffix, kind):
    sheet = contact_sheet([Tile([flat(90)], "cat")], title="one")

    with Image.open(io.BytesIO(file_bytes(sheet, sheet_format(Path(f"sheet{suffix}"))))) as image:
        assert (image.format, image.size) == (kind, sheet.size)


def test_a_file_with_another_extension_is_refused():
    with pytest.raises(ConfigError, match=r"written as .png, .jpg, .jpeg, .webp, not as .gif"):
        sheet_format(Path("sheet.gif"))


def test_large_pictures_are_shrunk_and_small_ones_left_alone():
    assert shrunk(flat(7, 400, 1000), 100).shape == (40, 100, 3)
    assert shrunk(flat(7, 40, 100), 100).shape == (40, 100, 3)


def test_a_mask_is_shrunk_by_nearest_neighbour():
    mask = np.repeat(np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4), 5, axis=0), 3, axis=1)

    assert (shrunk_mask(mask, (3, 4)) == np.arange(12).reshape(3, 4)).all()
    assert (shrunk_mask(mask, mask.shape) == mask).all()


def test_classes_have_different_colours_and_the_first_colours_are_far_apart():
    colours = [class_colour(number) for number in range(256)]

    assert len(set(colours)) == 256
    assert class_colour(256) == colours[0]
    apart = [np.abs(np.subtract(one, other)).max() for one, other in combinations(colours[:20], 2)]
    assert min(apart) > 30


def test_an_overlay_colours_classes_stripes_ignored_pixels_and_leaves_the_background():
    image, mask = flat(100, 40, 60), np.zeros((40, 60), dtype=np.uint8)
    mask[:, 20:40], mask[:, 40:] = 1, 255

    shown = overlaid(image, mask, ("background", "cat"), 255)

    assert (shown[:, :19] == 100).all()
    assert (shown[:, 21:39] == np.rint(45 + 0.55 * np.array(class_colour(1)))).all()
    ignored = {tuple(pixel) for pixel in shown[:, 41:].reshape(-1, 3).tolist()}
    assert ignored == {(100, 100, 100), (115, 115, 115)}
    assert (shown[:, [19, 39]] == 255).all()  # outlines
    assert (image == 100).all()


def test_class_names_are_sorted_with_background_and_ignored_pixels_last():
    names = class_names([0, 1, 2, 7, 255], ("background", "cat", "dog"), 255)

    assert list(names.values()) == ["cat", "dog", "class 7", "background", "ignored"]
