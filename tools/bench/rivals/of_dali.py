"""NVIDIA DALI on the CPU: webdataset reader, decoder and kernels of DALI, all on C++ threads."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch

from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task

dali, fn, types = (import_module(f"nvidia.dali{name}") for name in ("", ".fn", ".types"))
plugin = import_module("nvidia.dali.plugin.pytorch")


class Epochs:
    """Iterates over the batches of an epoch; one pipeline serves all epochs."""

    def __init__(self, task: Task):
        self._task = task
        self._batches: Any = None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        self._batches = self._batches or self._opened()
        for (batch,) in self._batches:
            yield batch["image"], torch.tensor([int(bytes(label.tolist())) for label in batch["label"]])

    def _opened(self) -> Any:
        task, work = self._task, self._task.work

        @dali.pipeline_def(batch_size=task.batch, num_threads=task.workers, device_id=None)  # type: ignore[untyped-decorator,unused-ignore]  # not installed where types are checked
        def graph() -> Any:
            jpeg, label = fn.readers.webdataset(paths=task.tars(), ext=["jpg", "cls"], name="reader")
            if work.kind == "train":
                image = fn.decoders.image_random_crop(
                    jpeg, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
                )
                image = fn.resize(image, size=[work.size, work.size])
                flip = fn.random.coin_flip()
            else:
                image, flip = fn.decoders.image(jpeg, device="cpu"), 0
                if work.kind == "evaluate":
                    image = fn.resize(image, resize_shorter=work.resize)
            image = fn.crop_mirror_normalize(
                image,
                crop=(work.size, work.size),
                mirror=flip,
                mean=[0.0],
                std=[255.0],
                dtype=types.FLOAT,
                output_layout="CHW",
            )
            return image, fn.pad(label, fill_value=ord(" "))

        return plugin.DALIGenericIterator(
            [graph()],
            ["image", "label"],
            reader_name="reader",
            auto_reset=True,
            last_batch_policy=import_module("nvidia.dali.plugin.base_iterator").LastBatchPolicy.PARTIAL,
        )


if __name__ == "__main__":
    # half of DALI's centre crops are off by one pixel
    main({"threads": Epochs}, packages=("nvidia-dali-cuda120", "torch"), tolerances={"threads": 12.0})
