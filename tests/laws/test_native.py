"""The native kernel changes neither batches nor errors, with any number of threads, and after resuming."""

import hashlib
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from mps_shards import Collate, DeviceLoader, ReadOptions, ShardDataset, SkipRules, classify, pack, segment
from mps_shards.errors import DecodeError
from mps_shards.native import is_available, tiled
from mps_shards.reading.rendering import Renderer
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.vision.views import HAS_UINT8_KERNELS
from tests.support.images import PACKED_AS_IT_IS, encoded, picture, turbo, write
from tests.support.native import needs_kernel

pytestmark = [
    needs_kernel(),
    pytest.mark.skipif(not HAS_UINT8_KERNELS, reason="torch has no uint8 kernels for this processor"),
]

TRANSFORMS: dict[str, dict[str, Any]] = {
    "train": {"transform": classify.train(20)},
    "evaluate": {"transform": classify.evaluate(20)},
    "scaled": {"transform": classify.train(4), "read_options": ReadOptions(decode="scaled")},
    "bicubic": {"transform": classify.train(20, interpolation="bicubic")},
    "normalized": {"transform": classify.train(20), "normalize": ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))},
    "channels-last": {"transform": classify.evaluate(20), "collate": Collate(channels_last=True)},
    "padded": {"transform": classify.evaluate(20), "collate": Collate(pad=8)},
    "own": {"transform": lambda image, target, rng: (image[:, :30, :30].contiguous(), target)},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of all kinds of image files; the kernel declines many of them, and some are tiled."""
    folder = tmp_path_factory.mktemp("mixed")
    names = [name for name in PACKED_AS_IT_IS if "one-" not in name]  # smaller than a crop of 30 pixels
    files = {f"one/{number:02d}-{name}": PACKED_AS_IT_IS[name]() for number, name in enumerate(names)}
    for number in range(30):
        content = turbo("RGB", ("444", "420")[number % 2], height=40 + number, width=90 - number)
        files[f"two/{number}.jpg"] = (tiled(content) or content) if number % 3 else content
    write(folder / "images", files)
    pack(folder / "images", folder / "set", shard_samples=20, drop_alpha=True)
    return folder / "set"


def digest(data: ShardDataset, threads: int | None) -> str:
    """Return the SHA-256 of all batches of an epoch; `threads` None reads the data set without a loader."""
    found = hashlib.sha256()

    def add(batches: Any) -> None:
        for images, targets, keys in batches:
            images = images[0] if isinstance(images, list) else images
            found.update(images.contiguous().numpy().tobytes())
            found.update(repr((images.shape, images.stride(), targets, keys)).encode())

    if threads is None:
        add(data)
    else:
        with DeviceLoader(data, device="cpu", num_threads=threads) as loader:
            add(loader)
    data.close()
    return found.hexdigest()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_epoch_has_the_same_bytes_with_and_without_the_kernel(
    name: str, mixed: Path, monkeypatch: pytest.MonkeyPatch
):
    def epoch(threads: int | None) -> str:
        return digest(ShardDataset(mixed, batch_size=16, keys=True, shuffle=True, **TRANSFORMS[name]), threads)

    with_kernel = {epoch(threads) for threads in (None, 1, 2, 4)}
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")
    assert not is_available()
    without = {epoch(threads) for threads in (None, 2)}

    assert with_kernel == without and len(with_kernel) == 1


def test_untransformed_images_have_the_same_bytes_with_and_without_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = {f"a/{n}.jpg": encoded(picture("RGB", seed=n), "JPEG", progressive=n % 2 == 0) for n in range(9)}
    pack(write(tmp_path / "images", files), tmp_path / "set")

    with_kernel = {digest(ShardDataset(tmp_path / "set", batch_size=4, keys=True), threads) for threads in (None, 2)}
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")

    assert with_kernel == {digest(ShardDataset(tmp_path / "set", batch_size=4, keys=True), 2)}


def test_a_resumed_epoch_continues_with_the_same_bytes(mixed: Path, monkeypatch: pytest.MonkeyPatch):
    def batches(resume_after: int) -> list[torch.Tensor]:
        data = ShardDataset(mixed, batch_size=8, shuffle=True, transform=classify.train(20))
        found = []
        with DeviceLoader(data, device="cpu", num_threads=2) as loader:
            for images, _ in loader:
                found.append(images.clone())
                if len(found) == resume_after:
                    state = loader.state_dict()
                    break
        monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")
        data.load_state_dict(state)
        with DeviceLoader(data, device="cpu", num_threads=1) as loader:
            found += [images.clone() for images, _ in loader]
        monkeypatch.delenv("MPS_SHARDS_KERNEL")
        return found

    two, three = batches(2), batches(3)

    assert len(two) == len(three) > 3
    assert all(torch.equal(one, other) for one, other in zip(two, three, strict=True))


def damaged_set(tmp_path: Path) -> Path:
    """Make 24 samples: image 5 is truncated, image 9 has noise in its data, image 14 ends after its header."""
    files = {f"a/{n:02d}.jpg": turbo("RGB", "420", height=60, width=80) for n in range(24)}
    pack(write(tmp_path / "images", files), tmp_path / "set")
    tar = next((tmp_path / "set").glob("*.tar"))
    content = bytearray(tar.read_bytes())
    rows = np.load(tmp_path / "set" / "index.npy")
    for number, start, stop in ((5, 0.5, 1.0), (9, 0.6, 0.7), (14, 0.3, 1.0)):
        image = content.index(b"\xff\xd8\xff", int(rows[number][0]))
        size = len(files[f"a/{number:02d}.jpg"])
        noise = np.random.default_rng(number).integers(0, 255, size, dtype=np.uint8).tobytes()
        part = slice(image + int(start * size), image + int(stop * size))
        content[part] = noise[: part.stop - part.start] if number == 9 else bytes(part.stop - part.start)
    tar.write_bytes(content)
    return tmp_path / "set"


def outcome(folder: Path, **options: Any) -> tuple[list[Any], str]:
    """Return the samples that an epoch delivers, and the error that ends it."""
    data = ShardDataset(folder, batch_size=6, keys=True, transform=classify.evaluate(32), **options)
    arrived: list[Any] = []
    try:
        with DeviceLoader(data, device="cpu", num_threads=2) as loader:
            for images, _, keys in loader:
                arrived.append((hashlib.sha256(images.numpy().tobytes()).hexdigest(), keys))
    except DecodeError as error:
        return arrived, f"{error} {error.__notes__}"
    finally:
        data.close()
    return arrived, ""


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_bad_samples_are_the_same_with_and_without_the_kernel(
    policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = damaged_set(tmp_path)

    with_kernel = outcome(folder, on_bad_sample=SkipRules(policy=policy, max_bad=None))
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")
    without = outcome(folder, on_bad_sample=SkipRules(policy=policy, max_bad=None))

    assert with_kernel == without
    assert bool(without[1]) == (policy == "raise")
    shutil.rmtree(folder)


SEGMENTS: dict[str, dict[str, Any]] = {
    "train": {"transform": segment.train(32)},
    "colours": {"transform": segment.train(32, scale=(1.0, 3.0), jitter=0.4, jitter_p=0.5)},
    "square": {"transform": segment.evaluate(40)},
    "stored": {"transform": segment.evaluate(), "collate": Collate(pad=16)},
    "scaled": {"transform": segment.evaluate(scale=0.5), "collate": Collate(pad=16)},
    "padding outside of uint8": {"transform": segment.train(96, ignore_index=-100)},
}


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation set of many kinds of JPEGs, and of PNGs, which the kernel declines."""
    folder = tmp_path_factory.mktemp("label-maps")
    files: dict[str, bytes] = {}
    for number in range(24):
        height, width = 40 + number, 90 - 2 * number
        content = turbo("RGB", ("444", "420", "422")[number % 3], height=height, width=width)
        is_png = number % 5 == 0
        files[f"images/{number:02d}.{'png' if is_png else 'jpg'}"] = (
            encoded(picture("RGB", height, width), "PNG") if is_png else content
        )
        ids = np.random.default_rng(number).integers(0, 4, (height, width), np.uint8)
        files[f"masks/{number:02d}.png"] = encoded(Image.fromarray(ids), "PNG")
    write(folder, files)
    pack(folder, folder / "set", images="images", masks="masks")
    return folder / "set"


@pytest.mark.parametrize("name", SEGMENTS)
def test_label_maps_and_their_images_are_the_same_with_and_without_the_kernel(
    name: str, label_maps: Path, monkeypatch: pytest.MonkeyPatch
):
    def epoch(threads: int) -> list[tuple[torch.Tensor, Any, list[str]]]:
        data = ShardDataset(label_maps, batch_size=6, keys=True, shuffle=True, **SEGMENTS[name])
        with DeviceLoader(data, device="cpu", num_threads=threads) as loader:
            return [(images.clone(), *rest) for images, *rest in loader]

    rendered = mock.Mock(wraps=Renderer.view)
    monkeypatch.setattr(Renderer, "view", lambda *arguments: rendered(*arguments))
    with_kernel = [epoch(threads) for threads in (1, 2)]
    assert rendered.call_count == 2 * 19  # called for every JPEG
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")
    without = epoch(2)

    assert rendered.call_count == 2 * 19
    for batches in with_kernel:
        torch.testing.assert_close([batch[:2] for batch in batches], [batch[:2] for batch in without], rtol=0, atol=0)
        assert [batch[-1] for batch in batches] == [batch[-1] for batch in without]


def test_mixed_sets_have_the_same_bytes_with_and_without_the_kernel(mixed: Path, monkeypatch: pytest.MonkeyPatch):
    def epoch() -> str:
        sets = {str(mixed): 2.0, str(mixed.parent / "other"): 1.0}
        return digest(ShardDataset(sets, batch_size=8, keys=True, shuffle=True, transform=classify.train(20)), 2)

    files = {f"{kind}/x{n}.jpg": turbo("RGB", "420", height=50, width=60) for n in range(20) for kind in ("one", "two")}
    pack(write(mixed.parent / "others", files), mixed.parent / "other", shard_samples=7)

    with_kernel = epoch()
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")

    assert epoch() == with_kernel


def test_the_kernel_reads_and_renders_a_sample_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {f"{kind}/{n}.jpg": turbo("RGB", "420", height=50, width=60) for n in range(16) for kind in ("a", "b")}
    pack(write(tmp_path / "images", files), tmp_path / "set")
    monkeypatch.setattr(ShardSet, "read", lambda *arguments: pytest.fail("read in Python"))

    for transform in (classify.train(20), classify.evaluate(20)):
        data = ShardDataset(tmp_path / "set", batch_size=8, shuffle=True, transform=transform)
        with DeviceLoader(data, device="cpu", num_threads=2) as loader:
            labels = torch.cat([labels for _, labels in loader])
            assert sorted(labels.tolist()) == [0] * 16 + [1] * 16
            assert loader.stats().bytes_read == sum(len(content) + 1 for content in files.values())
