"""litdata: JPEG bytes in litdata's format, worker processes, torchvision's decoder and v2 transforms on uint8."""

import warnings
from importlib import import_module
from typing import Any

import torch
from torchvision import io

from tools.bench.rivals.of_torchvision import on_uint8
from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task

litdata = import_module("litdata")


def sample(entry: tuple[str, int]) -> dict[str, Any]:
    """Return what litdata stores of a file: the unchanged bytes and the label."""
    path, label = entry
    with open(path, "rb") as file:
        return {"jpeg": file.read(), "label": label}


class Stored(litdata.StreamingDataset):  # type: ignore[misc,name-defined,unused-ignore]  # not installed where checked
    """Data set that turns stored samples into images and labels."""

    def __init__(self, task: Task):
        super().__init__(str(task.own), shuffle=False)
        self._transform = on_uint8(task)

    def __getitem__(self, index: Any) -> tuple[torch.Tensor, int]:
        stored = super().__getitem__(index)
        encoded = torch.frombuffer(bytearray(stored["jpeg"]), dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated since 0.29, but still torchvision's fastest decoder
            return self._transform(io.decode_jpeg(encoded, mode=io.ImageReadMode.RGB)), stored["label"]


def open_loader(task: Task) -> Any:
    """Return a loader of the converted data set, which is written at the first call."""
    if not (task.own / "index.json").exists():
        classes = task.classes()
        entries = [(str(path), classes[path.parent.name]) for path in task.files()]
        litdata.optimize(sample, entries, output_dir=str(task.own), chunk_bytes="16MB", num_workers=1, verbose=False)
    return litdata.StreamingDataLoader(
        Stored(task), batch_size=task.batch, num_workers=task.workers, persistent_workers=True
    )


if __name__ == "__main__":
    main({"processes": open_loader}, packages=("litdata", "torch", "torchvision"))
