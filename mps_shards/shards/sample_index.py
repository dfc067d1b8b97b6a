"""``index.npy``: one row per sample with its byte range inside its shard and the CRC-32 of those bytes.

Rows follow the manifest's order of shards, and inside a shard the order of its bytes. A row takes 16 bytes. The file
has NumPy's own format, so it can be memory-mapped, or read in ranges from a store.
"""

import io
from typing import Final

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ManifestError
from mps_shards.shards.tar import BLOCK

__all__ = ["INDEX_NAME", "ROW", "Rows", "check_rows", "index_bytes", "rows"]

INDEX_NAME: Final = "index.npy"
ROW: Final = np.dtype([("offset", "<u8"), ("size", "<u4"), ("crc32", "<u4")])
Rows = npt.NDArray[np.void]


def rows(entries: list[tuple[int, int, int]]) -> Rows:
    """Return the rows of one shard from (offset, size, crc32) of each sample."""
    return np.array(entries, dtype=ROW)


def index_bytes(shards: list[Rows]) -> bytes:
    """Return the content of the file, from the rows of each shard in the manifest's order."""
    stream = io.BytesIO()
    # .npy version 1.0 has a fixed header, so equal rows give equal bytes
    np.lib.format.write_array(stream, np.concatenate([np.empty(0, ROW), *shards]), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def check_rows(shard: str, found: Rows, *, shard_bytes: int) -> None:
    """Check that the rows of one shard are inside the shard, ascending, on block boundaries, and do not overlap.

    Raises:
        ManifestError: a row is wrong; the message names the shard and the first such row.
    """
    start, size = found["offset"], found["size"].astype(np.uint64)
    stop = start + size
    bad = (start % BLOCK != 0) | (size % BLOCK != 0) | (size == 0) | (stop > shard_bytes) | (stop < start)
    bad[1:] |= start[1:] < stop[:-1]
    if bad.any():
        row = int(np.argmax(bad))
        raise ManifestError(
            f"index row {row} of shard {shard} names bytes {int(start[row])} to {int(stop[row])}, "
            f"which cannot be right for a shard of {shard_bytes} bytes: run 'mps-shards repair'"
        )
