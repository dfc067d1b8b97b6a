"""``labels.npy``, which holds the class id of each sample, so that subsets and class balance do not read the tars.

It has one int32 for each sample in the order of the index, -1 for a sample without a class. Only sets for
classification have this file; the manifest holds its SHA-256.
"""

import io
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LABELS_NAME", "LABEL_TYPE", "Labels", "labels_bytes"]

LABELS_NAME: Final = "labels.npy"
LABEL_TYPE: Final = np.dtype("<i4")
Labels: TypeAlias = npt.NDArray[np.int32]


def labels_bytes(shards: Sequence[npt.NDArray[Any]]) -> bytes | None:
    """Return the content of ``labels.npy``, from the labels of each shard in the manifest's order.

    Returns:
        The content; None if a number exceeds int32, because it is then not a class id, and the set gets no such file.
    """
    labels = np.concatenate([np.empty(0, np.int64), *shards])
    if labels.max(initial=-1) > np.iinfo(np.int32).max:
        return None
    stream = io.BytesIO()
    # version 1.0 of the format is fixed here, so that equal labels always give equal bytes
    np.lib.format.write_array(stream, labels.astype(LABEL_TYPE), version=(1, 0), allow_pickle=False)
    return stream.getvalue()
