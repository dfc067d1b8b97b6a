"""A small segmentation set of real photographs, which is made once for all tests and must only be read."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from mps_shards import pack
from tools.scripts.masks import IGNORED, make_masks


@functools.cache
def segmentation_set() -> Path:
    """Return a set of twenty photographs of about 96 x 72 pixels in two shards, with masks of four classes."""
    root = Path(tempfile.mkdtemp(prefix="mps-shards-things-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    make_masks(root / "pairs", count=20, size=(96, 72))
    return pack(root / "pairs", root / "things-shards", shard_samples=10, ignore_index=IGNORED).out
