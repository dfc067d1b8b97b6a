"""Small real inputs for seeds: images of every kind, a packed set, and tars of other tools. Made once per process."""

import atexit
import functools
import io
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from mps_shards.packing import pack

__all__ = ["encoded", "folder", "packed_set", "picture", "tars"]


@functools.cache
def folder() -> Path:
    """Return a temporary folder for files that checks need; it is removed when the process ends."""
    found = Path(tempfile.mkdtemp(prefix="mps-shards-fuzz-"))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


@functools.cache
def packed_set() -> Path:
    """Return a set of two shards with three JPEGs each, in two classes. It must only be read."""
    source = folder() / "images"
    for number in range(6):
        path = source / f"class {number % 2}" / f"v1.{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(np.asarray(picture("RGB", seed=number)), 60, "RGB", "420"))
    pack(source, folder() / "set", shard_samples=3, workers=1)
    return folder() / "set"


def picture(mode: str, *, seed: int = 0) -> Image.Image:
    """Return an image of 11 x 17 pixels of noise in a Pillow mode."""
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (17, 11, 3), dtype=np.uint8))
    return Image.new("I;16", image.size, 300) if mode == "I;16" else image.convert(mode)


def encoded(mode: str, kind: str, **options: object) -> bytes:
    """Return the bytes of a file of such an image, as Pillow writes it."""
    stream = io.BytesIO()
    picture(mode).save(stream, kind, **options)
    return stream.getvalue()


def tars() -> list[bytes]:
    """Return a shard of ours, and tars of the standard library in three formats, with long names, folders and links."""
    found = [sorted(packed_set().glob("*.tar"))[0].read_bytes()]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
            for name in ("cat/a.jpg", "cat/a.cls", "x" * 90 + "/" + "y" * 60 + ".jpg"):
                info = tarfile.TarInfo(name)
                info.size = 5
                tar.addfile(info, io.BytesIO(b"12345"))
            for kind, name in ((tarfile.DIRTYPE, "cat"), (tarfile.SYMTYPE, "b.jpg"), (tarfile.LNKTYPE, "c.jpg")):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "cat/a.jpg"
                tar.addfile(info)
        found.append(stream.getvalue()[: 512 * 24])
    return found
