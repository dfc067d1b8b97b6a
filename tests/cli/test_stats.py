"""``stats`` measures a set exactly, names samples that it cannot decode, and prints lines to paste."""

import ast
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from mps_shards import ShardDataset, pack
from tests.support.commands import refused, run
from tests.support.sets import shard_set
from tests.support.things import segmentation_set


@pytest.fixture(scope="module")
def photo_set(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("stats") / "photos-shards").out


def test_the_text_has_classes_sizes_and_the_normalize_line(photo_set: Path):
    done = run("stats", photo_set)

    assert (done.code, done.stderr) == (0, f"Next: mps-shards report {photo_set} -o report.html\n")
    lines = done.stdout.splitlines()
    assert lines[0] == "60 images decoded; classification"
    rows = dict(line.split(maxsplit=1) for line in lines[2:11])
    assert (rows["format"], rows["mode"]) == ("JPEG 60", "RGB 45, L 15")
    assert (rows["sizes"], rows["aspect"], rows["EXIF"]) == ("96 x 80 (60)", "1.20", "all images are upright")
    assert f"cat{' ' * 5}15      25.0%  {'█' * 30}" in lines
    pasted = ast.parse(lines[-1].replace("…, ", ""), mode="eval").body.keywords[0].value
    mean, std = ast.literal_eval(pasted)
    assert (len(mean), len(std)) == (3, 3)


def test_json_has_the_mean_and_std_of_the_delivered_images(photo_set: Path):
    found = run("stats", photo_set, "--json").json()

    pixels = np.concatenate(
        [image.numpy().reshape(3, -1) for image, _ in ShardDataset(photo_set, batch_size=None)], axis=1
    ).astype(np.float64)
    assert found["mean"] == pytest.approx(pixels.mean(axis=1), abs=1e-7)
    assert found["std"] == pytest.approx(pixels.std(axis=1), abs=1e-7)
    assert found["classes"] == {"brick": 15, "cat": 15, "coffee": 15, "flower": 15}
    assert (found["samples"], found["decoded"], found["seed"], found["broken"]) == (60, 60, None, [])


def test_the_number_of_threads_does_not_change_the_result(photo_set: Path):
    assert run("stats", photo_set, "--json", "--workers", 1) == run("stats", photo_set, "--json", "--workers", 4)


def test_a_random_sample_of_the_set_depends_on_the_seed(photo_set: Path):
    one, same, other = (run("stats", photo_set, "--json", "--samples", 10, "--seed", seed).json() for seed in (1, 1, 2))

    assert one == same
    assert one["mean"] != other["mean"]
    assert (one["decoded"], one["seed"]) == (10, 1)
    assert run("stats", photo_set, "--samples", 10).stdout.startswith("10 images decoded, drawn by seed 0 from 60;")


def test_masks_are_listed_by_share_of_pixels_and_images():
    found = run("stats", segmentation_set(), "--json").json()
    text = run("stats", segmentation_set()).stdout

    assert list(found["masks"]) == ["background", "coin", "flower", "retina", "sky", "ignored"]
    assert sum(part["pixels"] for part in found["masks"].values()) == found["pixels"]
    assert found["masks"]["coin"]["samples"] == 4
    share = found["masks"]["coin"]["pixels"] / found["pixels"]
    assert f"coin{' ' * 8}{share:.2%}" in text


@pytest.fixture(scope="module")
def fonts() -> None:
    """Import matplotlib in advance, because it never closes its font files."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.text(0, 0, "x")
    figure.savefig(io.BytesIO())


@pytest.mark.usefixtures("fonts")
def test_charts_are_drawn_if_matplotlib_is_installed(photo_set: Path, tmp_path: Path):
    for name, magic in (("charts.png", b"\x89PNG"), ("charts.svg", b"<?xml"), ("masks.png", b"\x89PNG")):
        shards = segmentation_set() if name.startswith("masks") else photo_set
        assert run("stats", shards, "--plot", tmp_path / name).code == 0
        assert (tmp_path / name).read_bytes().startswith(magic)
    assert "Charts in " in run("stats", photo_set, "--plot", tmp_path / "again.png").stdout


def test_a_broken_sample_is_named_and_the_rest_is_measured():
    done = run("stats", shard_set([3, 3], broken=[4]))

    assert done.code == 1
    assert done.stdout.startswith("5 images decoded; classification")
    assert done.stderr.startswith("broken: s00004 (s-000001.tar): cannot decode the image: ")


def test_an_empty_set_has_no_figures():
    done = run("stats", shard_set([0]))

    assert (done.code, done.stdout) == (0, "0 images decoded; classification\n\n")
    found = run("stats", shard_set([0]), "--json").json()
    assert (found["mean"], found["bytes"], found["classes"]) == ([], None, {"cat": 0, "dog": 0, "fox": 0})


def test_a_folder_that_is_not_a_set_gives_one_line(tmp_path: Path):
    assert refused("stats", tmp_path / "gone") == f"{tmp_path / 'gone'}: no such file or directory"
    assert refused("stats", tmp_path).endswith("has no manifest.json; it is not a finished shard set")


@pytest.mark.parametrize(
    ("column", "rows", "options", "expected"),
    [
        ("tags", ["cat|dog", "dog", "cat|bird"], ["--separator", "|", "--targets", "multi-label"], "pos_weight="),
        ("age", ["23.5", "40", "31"], ["--targets", "number"], "age     23.5  31"),
        (
            "caption",
            ["a cat", "a dog on grass", "a bird"],
            ["--targets", "caption"],
            "2 to 4, median 2 words",
        ),
    ],
)
def test_targets_of_every_kind_are_described_and_drawn(
    photos: Path, tmp_path: Path, column: str, rows: list[str], options: list[str], expected: str
):
    images = sorted(photos.rglob("*.jpg"))[: len(rows)]
    lines = [f"{number}.jpg,{row}" for number, row in enumerate(rows)]
    for number, image in enumerate(images):
        shutil.copy(image, tmp_path / f"{number}.jpg")
    (tmp_path / "list.csv").write_text(f"image,{column}\n" + "\n".join(lines) + "\n")
    packed = run("pack", tmp_path / "list.csv", tmp_path / "set", "--label-column", column, *options, "--yes")

    described = run("stats", tmp_path / "set", "--plot", tmp_path / "charts.png")
    drawn = run("preview", tmp_path / "set", "-o", tmp_path / "sheet.png")
    report = run("report", tmp_path / "set", "-o", tmp_path / "report.html")

    assert packed.code == 0, packed
    assert (described.code, drawn.code, report.code) == (0, 0, 0), (described, drawn, report)
    assert expected in described.stdout
    assert rows[0].split("|")[0] in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("stats", "{file} is neither a tar nor the folder of a shard set"),
        ("info", "{file} is a file; name the folder of a shard set"),
        ("verify", "{file} is a file; name the folder of a shard set"),
        ("ls", "{file} is a file; name the folder of a shard set"),
    ],
)
def test_a_file_that_is_not_a_shard_is_named(command: str, complaint: str, tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("no tar")

    assert refused(command, file) == complaint.format(file=file)
