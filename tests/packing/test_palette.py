"""A palette gives the label id of each colour, and comes from a known name or from a file of any common kind."""

from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, StorageError
from mps_shards.packing.palette import PALETTES, find_palette

ROWS = ((0, 0, 0, 0), (128, 0, 0, 1), (0, 128, 0, 2))
NAMES = ("sky", "old wall", "tree")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "# ours\n0 0 0 sky\n\n128 0 0\told wall\n0,128,0,tree\n"),
        ("p.csv", "id,name,r,g,b\n0,sky,0,0,0\n1,old wall,128,0,0\n2,tree,0,128,0\n"),
        ("camvid.csv", "name, r, g, b\nsky, 0, 0, 0\nold wall, 128, 0, 0\ntree, 0, 128, 0\n"),
        ("excel.csv", "\ufeffR,G,B,Name\r\n0,0,0,sky\r\n128,0,0,old wall\r\n0,128,0,tree\r\n"),
        ("p.json", '{"sky": [0, 0, 0], "old wall": [128, 0, 0], "tree": [0, 128, 0]}'),
        (
            "p.json",
            '[{"color": [0, 128, 0], "id": 2, "name": "tree"}, {"color": [0, 0, 0], "id": 0, "name": "sky"},'
            ' {"color": [128, 0, 0], "id": 1, "name": "old wall"}]',
        ),
    ],
)
def test_every_kind_of_palette_file_gives_colours_and_names(name: str, content: str, tmp_path: Path):
    path = tmp_path / name
    path.write_text(content, "utf-8", newline="")

    palette = find_palette(str(path))

    assert sorted(palette.colours, key=lambda row: row[3]) == list(ROWS)
    assert palette.names == NAMES


@pytest.mark.parametrize(("name", "content"), [("p.txt", "0 0 0\n9 9 9"), ("p.json", "[[0, 0, 0], [9, 9, 9]]")])
def test_a_palette_may_have_no_names(name: str, content: str, tmp_path: Path):
    (tmp_path / name).write_text(content)

    palette = find_palette(str(tmp_path / name))

    assert palette.colours == ((0, 0, 0, 0), (9, 9, 9, 1))
    assert palette.names == ()


def test_several_colours_may_have_one_label_id():
    colours = PALETTES["cityscapes"].colours

    assert len({colour[:3] for colour in colours}) == len(colours) == 29
    assert {number for *_, number in colours} == {*range(19), 255}


def test_the_palette_of_pascal_voc_equals_that_of_its_files():
    voc = PALETTES["voc"]

    assert voc.names[:2] == ("background", "aeroplane") and voc.names[20] == "tvmonitor" and len(voc.names) == 21
    assert {(0, 0, 0, 0), (128, 0, 0, 1), (192, 128, 128, 15), (0, 64, 128, 20), (224, 224, 192, 255)} <= set(
        voc.colours
    )


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("p.txt", "0 0 0\nred 0 0\n", "line 2 is 'red 0 0'; write red, green, blue"),
        ("p.txt", "0 0 256", r"colour \(0, 0, 256\), id 0: colours go from 0 to 255"),
        ("p.txt", "1 2 3 a\n1 2 3 b", r"colour \(1, 2, 3\) has two label ids, 0 and 1"),
        ("p.txt", "# nothing\n", "the palette holds no colours"),
        ("p.csv", "red,green,blue\n0,0,0", "the columns must be r, g, b .*, not red, green, blue"),
        ("p.csv", "r,g,b\n0,0,x", r"Expected `int`, got `str` - at `\$\[0\].color"),
        ("p.csv", "r,g,b\n0,0", "Expected `int`"),
        ("p.csv", "", "the columns must be .*, not an empty line"),
        ("p.json", '{"sky": [0, 0]}', "length 3"),
        ("p.json", '[{"colour": [0, 0, 0]}]', "unknown field `colour`"),
        ("p.json", "7", "Expected `array`"),
        ("p.json", "{", "truncated"),
        ("p.json", '[{"color": [0, 0, 0], "id": 65536}]', "ids from 0 to 65535"),
    ],
)
def test_a_malformed_palette_file_is_named_with_its_fault(name: str, content: str, complaint: str, tmp_path: Path):
    (tmp_path / name).write_text(content)

    with pytest.raises(ConfigError, match=f"{name}: .*{complaint}"):
        find_palette(str(tmp_path / name))


def test_a_palette_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "p.txt").write_bytes(b"\x89PNG\xff")

    with pytest.raises(ConfigError, match=r"p\.txt is not UTF-8 text"):
        find_palette(str(tmp_path / "p.txt"))


def test_an_unknown_palette_is_refused_with_the_known_names(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"ade20k is neither a file nor a known palette \(voc and cityscapes\)"):
        find_palette("ade20k")
    with pytest.raises(StorageError, match=r"cannot read .*: Is a directory"):
        find_palette(str(tmp_path))
