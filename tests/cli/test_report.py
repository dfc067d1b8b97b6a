"""``report`` writes one self-contained HTML page, which names the problems of a set."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mps_shards import pack
from mps_shards.cli import report
from mps_shards.errors import StorageError
from mps_shards.inspect.gallery import set_title
from mps_shards.shardset import opening
from mps_shards.storage.folder import Folder
from mps_shards.storage.store_folder import StoreFolder
from tests.support.commands import damage, refused, run
from tests.support.images import tiny_jpeg, write
from tests.support.sets import shard_set
from tests.support.things import segmentation_set
from tests.support.web import web

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def photo_set(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("report") / "photos-shards").out


class Page(HTMLParser):
    """Collects open tags, URLs and text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in ("meta", "img", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def photographed(page: Path, folder: Path, *flags: str) -> np.ndarray:
    """Return a screenshot of a page in a browser: uint8 [1600, 1200, 3]."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    place = folder / "shot.png"
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder / 'browser'}", "--window-size=1200,1600"]
    subprocess.run([*command, f"--screenshot={place}", page.as_uri()], check=True, capture_output=True, timeout=100)
    with Image.open(place) as image:
        return np.asarray(image.convert("RGB"))


def test_the_page_has_the_figures_of_stats_and_verify(photo_set: Path, tmp_path: Path):
    done = run("report", photo_set, "-o", tmp_path / "report.html")

    page = Page(tmp_path / "report.html")
    assert done.code == 0, done
    assert done.stdout.startswith(f"{tmp_path / 'report.html'}: ") and done.stdout.endswith("KB, all is well\n")
    assert done.stderr == f"Next: open {tmp_path / 'report.html'} in a browser\n"
    line = run("stats", photo_set).stdout.splitlines()[-1]
    for said in (line, "All is well.", "60 samples in 1 shard", "60 images decoded", "JPEG 60", "cat", "25.0%"):
        assert said in page.text


def test_shares_of_many_classes_refer_to_all_images_and_not_to_those_of_the_classes_shown(tmp_path: Path):
    write(tmp_path / "imgs", {f"class{n % 50:02d}/{n}.jpg": tiny_jpeg(n) for n in range(150)})
    pack(tmp_path / "imgs", tmp_path / "set")

    assert run("report", tmp_path / "set", "-o", tmp_path / "report.html").code == 0

    text = Page(tmp_path / "report.html").text
    assert "10 classes in between are left out." in text and text.count("2.0%") == 40 and "2.5%" not in text


def test_widths_and_heights_are_labelled_with_whole_numbers(tmp_path: Path):
    pytest.importorskip("matplotlib")
    for width, height in ((8, 9), (9, 8), (10, 8)):
        (tmp_path / "imgs").mkdir(exist_ok=True)
        Image.new("RGB", (width, height)).save(tmp_path / "imgs" / f"{width}.png")
    pack(tmp_path / "imgs", tmp_path / "set", yes=True)

    assert run("report", tmp_path / "set", "-o", tmp_path / "report.html").code == 0

    [sizes] = [svg for svg in (tmp_path / "report.html").read_text().split("<svg") if "height in pixels" in svg]
    ticks = re.findall(r">\s*([\d.]+)\s*</text>", sizes)
    assert len(ticks) >= 3 and all(tick.isdecimal() for tick in ticks)


def test_a_page_draws_the_density_of_sizes_where_dots_would_cover_each_other(tmp_path: Path):
    pytest.importorskip("matplotlib")
    for number in range(301):
        file = tmp_path / "imgs" / f"{number:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("L", (4 + number % 20, 4 + number // 20)).save(file)
    pack(tmp_path / "imgs", tmp_path / "set")

    assert run("report", tmp_path / "set", "-o", tmp_path / "report.html").code == 0

    text = Page(tmp_path / "report.html").text
    assert "Image sizes (301 different)" in text and "darker: more images" in text


@pytest.mark.parametrize("kind", ["labels", "masks"])
def test_the_page_loads_no_other_resource(photo_set: Path, tmp_path: Path, kind: str):
    run("report", photo_set if kind == "labels" else segmentation_set(), "-o", tmp_path / "report.html", "--count", 3)

    page, text = Page(tmp_path / "report.html"), (tmp_path / "report.html").read_text("utf-8")
    assert len(page.addresses) == (3 if kind == "labels" else 6)
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not re.search(r"https?:|@import|url\((?!#)|<script", text)
    assert "default-src 'none'" in text


def test_equal_sets_give_equal_pages(photo_set: Path, tmp_path: Path):
    for name in ("one", "other"):
        run("report", photo_set, "-o", tmp_path / f"{name}.html", "--no-verify", "--samples", 20)

    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()
    assert "20 images decoded, drawn by seed 0" in Page(tmp_path / "one.html").text


def test_a_browser_shows_the_page_in_light_and_dark_mode(tmp_path: Path):
    run("report", segmentation_set(), "-o", tmp_path / "report.html", "--count", 9)

    light = photographed(tmp_path / "report.html", tmp_path)
    dark = photographed(tmp_path / "report.html", tmp_path, "--force-dark-mode")

    assert light[0, 0].tolist() == [250, 250, 247]
    assert dark[0, 0].tolist() == [23, 24, 27]
    for shot in (light, dark):
        photographs = shot[500:900, 80:1100].reshape(-1, 3)
        assert len(np.unique(photographs, axis=0)) > 5000  # the images were drawn
        assert len(np.unique(shot[:, :40].reshape(-1, 3), axis=0)) == 1  # the margin is empty


def test_problems_are_named_on_the_page(photo_set: Path, tmp_path: Path):
    hurt = shutil.copytree(photo_set, tmp_path / "hurt")
    (shard,) = (path.name for path in hurt.glob("*.tar"))
    content = (hurt / shard).read_bytes()
    start = content.index(b"\xff\xd8\xff", len(content) // 2)
    damage(hurt, shard, content[start : start + 200], b"\xff\xd8\xff" + bytes(197))

    done = run("report", hurt, "-o", tmp_path / "report.html")

    page = Page(tmp_path / "report.html")
    assert done.code == 1
    assert done.stdout.endswith("problems\n")
    assert done.stderr == f"Next: mps-shards repair {hurt} --dry-run\n"
    assert "All is well" not in page.text
    assert "does not decode" in page.text and shard in page.text


def test_names_cannot_break_the_page(tmp_path: Path):
    name = "<script>alert('&')</script>"
    write(tmp_path / "imgs", {f"{name.replace('/', '-')}/x.jpg": tiny_jpeg(), "b/y.jpg": tiny_jpeg(1)})
    shards = pack(tmp_path / "imgs").out

    assert run("report", shards, "-o", tmp_path / "report.html").code == 0

    assert "<script" not in (tmp_path / "report.html").read_text("utf-8")
    assert "<script>alert('&')<-script>" in Page(tmp_path / "report.html").text


def test_a_set_behind_a_url_is_shown_and_verified(tmp_path: Path):
    out = tmp_path / "report.html"
    with web(segmentation_set()) as server:
        unverified = run("report", server.url, "-o", out, "--count", 3, "--no-verify")
        verified = run("report", server.url, "-o", tmp_path / "other.html", "--count", 3)

    assert verified.code == 0, verified
    assert "compared with manifest and index; 20 images decoded" in Page(tmp_path / "other.html").text
    assert unverified.code == 0, unverified
    assert "Its bytes were not verified; 20 images decoded" in Page(out).text


def test_the_splits_of_a_data_set_are_compared(photos: Path, tmp_path: Path):
    assert run("pack", photos, tmp_path / "splits", "--split", "train=0.8,val=0.2").code == 0

    done = run("report", tmp_path / "splits", "-o", tmp_path / "report.html")

    text = Page(tmp_path / "report.html").text
    assert done.code == 0, done
    assert "report on 2 sets" in done.stdout
    assert "Comparison of the sets" in text and "Share of each class" in text
    assert "splits / train" in text and "splits / val" in text


def test_a_class_that_a_split_lacks_is_named(photos: Path, tmp_path: Path):
    shutil.copytree(photos, tmp_path / "imgs" / "train")
    shutil.copytree(photos, tmp_path / "imgs" / "val", ignore=shutil.ignore_patterns("brick-*"))
    (tmp_path / "imgs/val/brick").mkdir(exist_ok=True)
    for file in (tmp_path / "imgs/val/brick").iterdir():
        file.unlink()
    assert run("pack", tmp_path / "imgs", tmp_path / "splits").code == 0

    run("report", tmp_path / "splits", "-o", tmp_path / "report.html", "--no-verify")

    assert "splits / val has no sample of brick." in Page(tmp_path / "report.html").text


def test_an_empty_set_has_a_page_too(tmp_path: Path):
    done = run("report", shard_set([0]), "-o", tmp_path / "report.html")

    assert done.code == 0, done
    assert "0 images decoded" in Page(tmp_path / "report.html").text


def test_a_folder_that_is_not_a_set_gives_one_line_and_writes_no_file(tmp_path: Path):
    out = tmp_path / "report.html"

    assert refused("report", tmp_path / "gone", "-o", out) == f"{tmp_path / 'gone'}: no such file or directory"
    assert refused("report", tmp_path, "-o", out).endswith("it is not a finished shard set")
    assert not out.exists()


def test_the_sets_of_a_folder_are_read_by_the_address_that_was_given_and_titled_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked = []

    def listed(folder: StoreFolder) -> list[Folder]:
        return [folder.folder("train")]

    def survey(shards: str, **_: object) -> None:
        asked.append(shards)
        raise StorageError("enough")

    monkeypatch.setattr(opening, "set_folders", listed)
    monkeypatch.setattr(report, "surveyed", survey)

    refused("report", "https://me:secret@store.example/splits?sig=abc", "-o", tmp_path / "page.html")

    assert asked == ["https://me:secret@store.example/splits/train?sig=abc"]
    assert set_title(asked[0]) == "train"
