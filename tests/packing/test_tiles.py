"""`pack --tiles` and `reshard --tiles` keep the pixels for every reader; tiles are counted and checked."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError
from mps_shards.native import is_tiled
from mps_shards.shardset.verification import verify
from tests.support.commands import run
from tests.support.foreign import by_webdataset_s_reader
from tests.support.images import encoded, picture, turbo, write
from tests.support.native import needs_kernel

pytestmark = needs_kernel()

FILES = {
    "cat/baseline.jpg": turbo("RGB", "420", height=70, width=90),
    "cat/progressive.jpg": encoded(picture("RGB", 50, 60), "JPEG", progressive=True),
    "cat/cmyk.jpg": encoded(picture("CMYK"), "JPEG"),
    "dog/gray.jpeg": encoded(picture("L", 50, 60), "JPEG", comment=b"a dog"),
    "dog/png.png": encoded(picture("RGB"), "PNG"),
}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write(tmp_path / "images", FILES)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "manifest.json"}


def images_of(folder: Path) -> dict[str, torch.Tensor]:
    return {key: image for image, _, key in ShardDataset(folder, batch_size=None, keys=True)}


def test_pixels_do_not_change_and_rewritten_images_are_counted(sources: Path, tmp_path: Path):
    plain, tiles = pack(sources, tmp_path / "plain"), pack(sources, tmp_path / "tiles", tiles=True)

    assert (plain.sets[0].tiled, tiles.sets[0].tiled) == (0, 3)
    one, other = images_of(tmp_path / "plain"), images_of(tmp_path / "tiles")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_equal_sources_give_equal_bytes_on_any_number_of_workers(sources: Path, tmp_path: Path):
    for number, workers in enumerate((1, 2, 4)):
        pack(sources, tmp_path / str(number), tiles=True, workers=workers)

    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")


def test_other_readers_can_read_tiles(sources: Path, tmp_path: Path):
    pack(sources, tmp_path / "tiles", tiles=True)

    found = 0
    for key, fields in by_webdataset_s_reader(sorted((tmp_path / "tiles").glob("*.tar"))):
        name = next(name for name in FILES if name.startswith(f"{key}."))
        content = fields[name.rpartition(".")[2]]
        found += is_tiled(content)
        with Image.open(io.BytesIO(content)) as image, Image.open(io.BytesIO(FILES[name])) as original:
            assert np.array_equal(np.asarray(image), np.asarray(original))
            assert image.info.get("comment") == original.info.get("comment")
    assert found == 3


def test_resharding_rewrites_images_as_tiles_only_once(sources: Path, tmp_path: Path):
    pack(sources, tmp_path / "plain")
    for source, out in (("plain", "once"), ("once", "twice")):
        said = run("reshard", tmp_path / source, "-o", tmp_path / out, "--tiles")
        assert "3 JPEGs are tiles now" in said.stdout

    assert contents(tmp_path / "once") == contents(tmp_path / "twice")
    one, other = images_of(tmp_path / "plain"), images_of(tmp_path / "once")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_unpacking_tiles_gives_the_same_pixels_and_reports_changed_bytes(sources: Path, tmp_path: Path):
    pack(sources, tmp_path / "tiles", tiles=True)

    said = run("unpack", tmp_path / "tiles", tmp_path / "again")

    assert "3 images had been rewritten as tiles by pack --tiles" in said.stdout
    for name, content in FILES.items():
        with Image.open(tmp_path / "again" / name) as image, Image.open(io.BytesIO(content)) as original:
            assert np.array_equal(np.asarray(image), np.asarray(original))


def test_verify_reports_tiles_that_cannot_be_decoded_alone(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pack(sources, tmp_path / "tiles", tiles=True)
    assert not verify(tmp_path / "tiles", decode=True).problems

    monkeypatch.setattr("mps_shards.native.tile_fault", lambda content, pixels: "its tiles are bad")

    faults = verify(tmp_path / "tiles", decode=True).problems
    assert len(faults) == 3 and "its tiles are bad" in faults[0].detail


def test_without_the_kernel_tiles_are_refused_before_anything_is_written(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")

    with pytest.raises(ConfigError, match="native kernel"):
        pack(sources, tmp_path / "tiles", tiles=True)

    assert not (tmp_path / "tiles").exists()
