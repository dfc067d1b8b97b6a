"""Every way to read an image gives ``to_tensor(Image.open(f).convert("RGB"))``, bit for bit."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import DeviceLoader, ShardDataset, pack
from tests.support.images import PACKED_AS_IT_IS, encoded, expected, picture, turbo, write


def one_by_one(folder: Path, batch: int) -> Iterator[tuple[str, torch.Tensor]]:
    data = ShardDataset(folder, batch_size=None, keys=True)
    for image, _, key in data:
        yield key, image
    data.close()


def in_batches(folder: Path, batch: int) -> Iterator[tuple[str, torch.Tensor]]:
    data = ShardDataset(folder, batch_size=batch, keys=True)
    for images, _, keys in data:
        yield from zip(keys, images, strict=True)
    data.close()


def by_loader(transfer: str) -> Callable[[Path, int], Iterator[tuple[str, torch.Tensor]]]:
    def delivered(folder: Path, batch: int) -> Iterator[tuple[str, torch.Tensor]]:
        data = ShardDataset(folder, batch_size=batch, keys=True)
        with DeviceLoader(data, device="cpu", transfer=transfer, num_threads=2) as loader:
            for images, _, keys in loader:
                yield from zip(keys, images, strict=True)

    return delivered


WAYS: dict[str, Any] = {
    "one by one": one_by_one,
    "in batches": in_batches,
    "cpu engine": by_loader("cpu"),
    "inline engine": by_loader("inline"),
}


def assert_exact(delivered: torch.Tensor, content: bytes) -> None:
    reference = expected(content)
    assert delivered.dtype == torch.float32
    assert delivered.shape == reference.shape
    # compared as bits, because -0.0 equals 0.0 as a number
    assert torch.equal(delivered.contiguous().view(torch.int32), reference.view(torch.int32))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: make() for name, make in PACKED_AS_IT_IS.items()}


@pytest.fixture(scope="module")
def shards(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write(tmp_path_factory.mktemp("exact") / "imgs", files)
    pack(source, keys="name", layout="flat", drop_alpha=True)
    return source.with_name("imgs-shards")


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_image_file_is_delivered_exactly(shards: Path, files: dict[str, bytes], way: str):
    delivered = dict(WAYS[way](shards, 1))

    assert {key.replace("%2E", ".") for key in delivered} == files.keys()
    for key, image in delivered.items():
        assert_exact(image, files[key.replace("%2E", ".")])


@pytest.mark.parametrize("way", WAYS)
def test_photographs_are_delivered_exactly(photos: Path, tmp_path: Path, way: str):
    pack(photos, tmp_path / "shards")

    delivered = list(WAYS[way](tmp_path / "shards", 7))

    assert len(delivered) == 60
    for key, image in delivered:
        assert_exact(image, (photos / f"{key}.jpg").read_bytes())


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))
by_turbo = st.builds(
    lambda size, look, quality: turbo(*look, height=size[0], width=size[1], quality=quality),
    sizes,
    st.sampled_from(
        [("RGB", kind) for kind in ("444", "422", "420", "440", "411", "Gray")]
        + [("GRAY", "Gray"), ("CMYK", "444"), ("CMYK", "420")]
    ),
    st.integers(1, 100),
)
by_pillow = st.builds(
    lambda mode, size, seed, options: encoded(picture(mode, *size, seed=seed), "JPEG", **options),
    st.sampled_from(["RGB", "L", "CMYK"]),
    sizes,
    st.integers(0, 99),
    st.fixed_dictionaries(
        {"quality": st.integers(1, 100), "progressive": st.booleans(), "restart_marker_blocks": st.integers(0, 5)},
        optional={"subsampling": st.integers(0, 2), "keep_rgb": st.just(True)},
    ).filter(lambda options: not ("keep_rgb" in options and "subsampling" in options)),
)
lossless = st.builds(
    lambda mode, kind, size, seed: encoded(picture(mode, *size, seed=seed), kind),
    st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "1"]),
    st.sampled_from(["PNG", "WEBP", "TIFF"]),
    sizes,
    st.integers(0, 99),
)


@settings(max_examples=40)
@given(content=st.one_of(by_turbo, by_pillow, lossless), way=st.sampled_from(sorted(WAYS)))
def test_any_image_of_any_size_is_delivered_exactly(content: bytes, way: str):
    with tempfile.TemporaryDirectory() as folder:
        pack(write(Path(folder, "imgs"), {"cat/x.jpg": content}), drop_alpha=True)

        [(key, image)] = WAYS[way](Path(folder, "imgs-shards"), 1)

    assert key == "cat/x"
    assert_exact(image, content)


@settings(max_examples=20)
@given(size=sizes, count=st.integers(1, 9), batch=st.integers(1, 4), way=st.sampled_from(sorted(WAYS)))
def test_rows_of_a_batch_are_as_exact_as_single_images(size: tuple[int, int], count: int, batch: int, way: str):
    files = {
        f"{n}.jpg": encoded(picture("RGB" if n % 3 else "L", *size, seed=n), "JPEG" if n % 2 else "PNG")
        for n in range(count)
    }
    with tempfile.TemporaryDirectory() as folder:
        pack(write(Path(folder, "imgs"), files))

        delivered = dict(WAYS[way](Path(folder, "imgs-shards"), batch))

    assert {f"{key}.jpg" for key in delivered} == files.keys()
    for key, image in delivered.items():
        assert_exact(image, files[f"{key}.jpg"])


def test_every_grey_level_is_divided_exactly(tmp_path: Path):
    levels = picture("L", 16, 16)
    levels.putdata(list(range(256)))
    pack(write(tmp_path / "imgs", {"levels.png": encoded(levels, "PNG")}))

    for way in WAYS.values():
        [(_, image)] = way(tmp_path / "imgs-shards", 1)
        assert torch.equal(image[0].flatten(), torch.arange(256) / 255)
