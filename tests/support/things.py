"""A small segmentation set of real photographs, made once for all tests; for reading only."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from mps_shards import pack
from tools.scripts.masks import IGNORED, make_masks


@functools.cache
def segmentation_set() -> Path:
    """Twenty photographs of about 96 x 72 with masks of coins, flowers, retinas and sky, in two shards."""
    root = Path(tempfile.mkdtemp(prefix="mps-shards-things-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    make_masks(root / "pairs", count=20, size=(96, 72))
    return pack(root / "pairs", root / "things-shards", shard_samples=10, ignore_index=IGNORED).out
