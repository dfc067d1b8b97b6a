"""Photographs of each workload: they are made and packed once, and read once before timing, to warm the page cache."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mps_shards import native, pack
from tools.bench.rivals.workloads import WORKLOADS, Task, Workload
from tools.scripts.photos import make_imagenet_like, make_photos

__all__ = ["prepared", "warmed"]

_SHARDS = 10  # more than any rival has workers


def prepared(name: str, folder: Path, *, workers: int, images: int | None = None) -> Task:
    """Return the task of a workload, after making its photographs if they do not exist.

    Args:
        folder: folder in which photographs are kept.
        images: number of images; by default the workload's own number.
    """
    work = WORKLOADS[name]
    count = images or work.images
    home = folder / f"{work.photos}-{count}"
    if not (home / ".ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        _make(work, count, home / "photos")
        shards = home / "shards"
        per_shard = -(-count // _SHARDS)
        if work.kind == "segment":
            pack_masked(home / "photos", shards, shard_samples=per_shard)
        else:
            pack(home / "photos", shards, shard_samples=per_shard, layout="classes")
            if native.is_available():
                pack(home / "photos", shards.with_name("tiles"), shard_samples=per_shard, layout="classes", tiles=True)
        (home / ".ready").touch()
    return Task(
        workload=name,
        photos=home / "photos",
        shards=home / "shards",
        own=home / "own",
        images=count,
        batch=min(work.batch, count),
        workers=workers,
    )


def warmed(task: Task) -> None:
    """Read every file, so that no contestant waits for the disk."""
    for path in (*task.photos.rglob("*.*"), *task.shards.iterdir(), *task.tiles.glob("*")):
        if path.is_file():
            path.read_bytes()


def _make(work: Workload, count: int, photos: Path) -> None:
    if work.photos == "imagenet":
        make_imagenet_like(photos, count=count)
    elif work.photos == "small":
        make_photos(photos, count=count, size=(224, 224))
    elif work.photos == "large":
        for path in make_photos(photos, count=count, size=(4000, 3000)):
            _add_sensor_noise(path)
    else:
        made = make_imagenet_like(photos / "made", count=count)
        for folder in ("images", "masks"):
            (photos / folder).mkdir()
        for path in made:
            with Image.open(path) as image:
                label_map(image).save(photos / "masks" / f"{path.stem}.png")
            path.rename(photos / "images" / path.name)
        shutil.rmtree(photos / "made")


def _add_sensor_noise(path: Path) -> None:
    """Add the noise of a small sensor to a smooth enlarged crop; the median file then has 3.4 MB, as on phones."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    field = np.random.default_rng(0).normal(0, 4.0, (pixels.shape[0], 500, 1)).round().astype(np.int16)
    pixels += np.tile(field, (1, -(-pixels.shape[1] // 500), 1))[:, : pixels.shape[1]]
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=93)


def label_map(image: Image.Image) -> Image.Image:
    """Return a mask with outlines like those of the photograph: its smoothed lightness in six steps, ids 0 to 5."""
    small = image.convert("L").resize((32, 32), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(small) // 43).astype(np.uint8))


def pack_masked(photos: Path, shards: Path, *, shard_samples: int) -> None:
    """Pack images and masks with the same names into a segmentation set."""
    import hashlib
    import zlib

    from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, Packed, ShardRecord, manifest_bytes
    from mps_shards.shards.sample_index import INDEX_NAME, index_bytes, rows
    from mps_shards.shards.tar import END, header, padding

    shards.mkdir(parents=True)
    images = sorted((photos / "images").glob("*.jpg"))
    records, indexes = [], []
    for number, first in enumerate(range(0, len(images), shard_samples)):
        content, entries = bytearray(), []
        for image in images[first : first + shard_samples]:
            start = len(content)
            for field, path in (("jpg", image), ("mask.png", photos / "masks" / f"{image.stem}.png")):
                data = path.read_bytes()
                content += header(f"{image.stem}.{field}", len(data)) + data + padding(len(data))
            entries.append((start, len(content) - start, zlib.crc32(content[start:])))
        content += END
        name = f"shard-{number:06d}.tar"
        (shards / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        records.append(ShardRecord(name=name, samples=len(entries), bytes=len(content), sha256=digest))
        indexes.append(rows(entries))
    index = index_bytes(indexes)
    (shards / INDEX_NAME).write_bytes(index)
    manifest = Manifest(
        task="segmentation",
        classes=tuple(f"step {number}" for number in range(6)),
        ignore_index=255,
        samples=len(images),
        bytes=sum(record.bytes for record in records),
        shards=tuple(records),
        index_sha256=hashlib.sha256(index).hexdigest(),
        packed=Packed(version="0", layout="images and masks, by tools/bench/rivals/pictures.py", seed=None),
    )
    (shards / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
