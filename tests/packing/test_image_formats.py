"""Newer formats, images of more than 8 bits and transparent images are packed if an option says how, else refused."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError
from mps_shards.shardset.verification import verify
from tests.support.commands import run
from tests.support.damage import manifest_of
from tests.support.files import contents
from tests.support.images import encoded, picture, write


def heic(seed: int = 0) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture("RGB", 48, 64, seed=seed)).save(file)
    return file.getvalue()


def jxl() -> bytes:
    pytest.importorskip("pillow_jxl")
    return encoded(picture("RGB", 48, 64), "JXL")


def avif() -> bytes:
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    return encoded(picture("RGB", 48, 64), "AVIF")


def jfif() -> bytes:
    return encoded(picture("RGB", 48, 64), "JPEG")


FORMATS = {"heic": heic, "heif": heic, "HEIC": heic, "jxl": jxl, "avif": avif, "jfif": jfif}


@pytest.mark.parametrize("extension", FORMATS)
def test_newer_image_formats_are_packed_and_read(extension: str, tmp_path: Path):
    content = FORMATS[extension]()
    source = write(tmp_path / "imgs", {f"cat/x.{extension}": content, "dog/y.jpg": jfif()})

    report = pack(source)

    assert (report.sets[0].samples, report.ignored) == (2, {})
    assert verify(report.out, decode=True).problems == ()
    assert [image.shape for image, _ in ShardDataset(report.out, batch_size=None)] == [(3, 48, 64)] * 2
    assert content in b"".join(contents(report.out).values())  # the file is stored unchanged


@pytest.mark.parametrize("extension", FORMATS)
def test_newer_image_formats_can_be_converted(extension: str, tmp_path: Path):
    source = write(tmp_path / "imgs", {f"cat/x.{extension}": FORMATS[extension]()})

    report = pack(source, format="jpeg", resize=24)

    tar = next(content for name, content in contents(report.out).items() if name.endswith(".tar"))
    assert b"cat/x.jpg\0" in tar and b"\xff\xd8\xff" in tar


def test_heic_without_its_package_stops_packing_even_if_bad_samples_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = write(tmp_path / "imgs", {"cat/x.heic": heic(), "cat/y.jpg": jfif()})
    monkeypatch.setitem(sys.modules, "pillow_heif", None)

    with pytest.raises(ConfigError, match=r"pip install 'mps-shards\[heif\]'"):
        pack(source, on_bad_sample="skip")


def deep(kind: str) -> bytes:
    values = np.arange(48 * 64).reshape(48, 64) * 20
    if kind == "float.tif":
        return encoded(Image.fromarray((values / 60000).astype(np.float32)), "TIFF")
    return encoded(Image.fromarray(values.astype(np.uint16)), "PNG" if kind.endswith("png") else "TIFF")


@pytest.mark.parametrize("kind", ["sixteen.png", "sixteen.tif", "float.tif"])
@pytest.mark.parametrize("check", [True, False])
def test_deep_images_are_refused_or_converted(kind: str, check: bool, tmp_path: Path):
    source = write(tmp_path / "imgs", {f"cat/{kind}": deep(kind)})

    with pytest.raises(ConfigError, match=rf"cat/{kind}: the image has .*--to-8bit"):
        pack(source, check=check)
    report = pack(source, check=check, to_8bit="scale")

    [(image, _)] = ShardDataset(report.out, batch_size=None)
    assert (image.min(), image.max()) == (0, 1)
    assert image.unique().numel() == 256
    assert manifest_of(Path(report.out)).packed.options["to_8bit"] == "scale"


def test_deep_images_can_be_skipped(tmp_path: Path):
    source = write(tmp_path / "imgs", {"cat/deep.png": deep("sixteen.png"), "cat/y.jpg": jfif()})

    report = pack(source, on_bad_sample="skip")

    assert [(skip.path, report.sets[0].samples) for skip in report.skipped] == [("cat/deep.png", 1)]


def test_the_command_says_how_to_pack_transparent_images(tmp_path: Path):
    source = write(tmp_path / "imgs", {"cat/x.png": encoded(picture("RGBA"), "PNG")})

    assert "--background COLOUR" in run("pack", source).stderr
    assert run("pack", source, tmp_path / "white", "--background", "white").code == 0
    assert run("pack", source, tmp_path / "dropped", "--drop-alpha").code == 0

    [(white, _)] = ShardDataset(tmp_path / "white", batch_size=None)
    [(dropped, _)] = ShardDataset(tmp_path / "dropped", batch_size=None)
    assert white.mean() > dropped.mean()
    assert manifest_of(tmp_path / "white").packed.options["background"] == "white"
    assert "background" not in manifest_of(tmp_path / "dropped").packed.options


def test_converted_images_have_the_same_bytes_from_any_number_of_workers(tmp_path: Path):
    files = {f"{n % 2}/{n}.{kind}": deep(kind) for n, kind in enumerate(["a.png", "b.tif", "float.tif"] * 3)}
    files |= {f"0/{n}.png": encoded(picture("RGBA", seed=n), "PNG") for n in range(4)}
    source = write(tmp_path / "imgs", files)

    for workers in (1, 3):
        pack(source, tmp_path / str(workers), workers=workers, to_8bit="window=0,40000", background="black")

    assert contents(tmp_path / "1") == contents(tmp_path / "3")
