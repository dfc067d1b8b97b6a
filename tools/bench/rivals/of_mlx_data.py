"""mlx-data, Apple's data loader: a graph of C++ operations on threads, and conversion to floats in NumPy."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task

data = import_module("mlx.data")  # not installed where types are checked


class Epochs:
    """Iterates over the batches of an epoch, with a new stream for each epoch."""

    def __init__(self, task: Task):
        self._task = task
        classes = task.classes()
        self._files = data.buffer_from_vector(
            [{"image": str(path).encode(), "label": classes[path.parent.name]} for path in task.files()]
        )

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        work = self._task.work
        stream = self._files.to_stream().load_image("image")
        if work.kind == "evaluate":
            stream = stream.image_resize_smallest_side("image", work.resize)
            stream = stream.image_center_crop("image", work.size, work.size)
        elif work.kind == "train":
            stream = stream.image_random_area_crop("image", (0.08, 1.0), (3 / 4, 4 / 3))
            stream = stream.image_resize("image", work.size, work.size).image_random_h_flip("image", 0.5)
        stream = stream.batch(self._task.batch).key_transform("image", floats)
        for batch in stream.prefetch(2 * self._task.workers, self._task.workers):
            yield batch["image"], batch["label"]


def floats(pixels: Any) -> Any:
    """Convert a batch from uint8 [batch, height, width, 3] to float32 [batch, 3, height, width], 0..1."""
    batch, height, width, channels = pixels.shape
    out = np.empty((batch, channels, height, width), np.float32)
    return np.divide(pixels.transpose(0, 3, 1, 2), np.float32(255), out=out)


if __name__ == "__main__":
    # mlx-data resizes without antialiasing
    main({"threads": Epochs}, packages=("mlx-data", "numpy"), tolerances={"threads": 6.0})
