"""``index.npy``, which has a row for each sample: its byte range in its shard, and the CRC-32 of those bytes.

Rows are in the order of the shards in the manifest, and within a shard in the order of its bytes. A row takes 16 bytes.
The file has NumPy's own format, so that it can be memory-mapped, or read in ranges from an object store.
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
    """Return the index rows of a shard, from the (offset, size, crc32) of each of its samples."""
    return np.array(entries, dtype=ROW)


def index_bytes(shards: list[Rows]) -> bytes:
    """Return the content of ``index.npy``, from the rows of each shard in the manifest's order."""
    stream = io.BytesIO()
    # version 1.0 of the format is fixed here, so that equal rows always give equal bytes
    np.lib.format.write_array(stream, np.concatenate([np.empty(0, ROW), *shards]), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def check_rows(shard: str, found: Rows, *, shard_bytes: int) -> None:
    """Check that the byte ranges of one shard's rows are ascending, within the shard and on block boundaries.

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
            f"index row {row} of shard {shard} states bytes {int(start[row])} to {int(stop[row])}, which cannot be "
            f"correct for a shard of {shard_bytes} bytes: run 'mps-shards repair'"
        )
