"""SPDL: a pipeline of threads that decodes with FFmpeg, as SPDL does, or with simplejpeg; torchvision transforms."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import simplejpeg
import torch

from tools.bench.rivals.of_torchvision import on_uint8, one_torch_thread
from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task

io, pipeline = import_module("spdl.io"), import_module("spdl.pipeline")  # not installed where types are checked


class Epochs:
    """Iterates over the batches of an epoch, with a new pipeline for each epoch."""

    def __init__(self, task: Task, decode: Callable[[Path], torch.Tensor]):
        self._task, self._decode = task, decode
        self._classes = task.classes()
        self._transform = on_uint8(task)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        threads = self._task.workers
        builder = pipeline.PipelineBuilder().add_source(self._task.files())
        builder = builder.pipe(self._one, concurrency=threads)
        builder = builder.aggregate(self._task.batch).pipe(collated).add_sink(2)
        built = builder.build(num_threads=threads)
        with built.auto_stop():
            yield from built.get_iterator(timeout=60)

    def _one(self, path: Path) -> tuple[torch.Tensor, int]:
        one_torch_thread()
        return self._transform(self._decode(path).permute(2, 0, 1)), self._classes[path.parent.name]


def collated(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return samples as one batch of images and labels."""
    return torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples])


def by_ffmpeg(task: Task) -> Epochs:
    """Return a loader with SPDL's decoder.

    Raises:
        RuntimeError: FFmpeg's libraries are not installed; SPDL's wheel does not contain them.
    """
    ffmpeg_decoded(task.files()[0])
    return Epochs(task, ffmpeg_decoded)


def by_simplejpeg(task: Task) -> Epochs:
    """Return a loader with simplejpeg, which is faster than FFmpeg for JPEGs."""
    return Epochs(task, simplejpeg_decoded)


def ffmpeg_decoded(path: Path) -> torch.Tensor:
    """Decode a file with FFmpeg to uint8 [height, width, 3]."""
    pixels: torch.Tensor = io.to_torch(io.load_image(str(path)))
    return pixels


def simplejpeg_decoded(path: Path) -> torch.Tensor:
    """Decode a file with simplejpeg to uint8 [height, width, 3]."""
    return torch.from_numpy(simplejpeg.decode_jpeg(path.read_bytes(), "RGB"))


if __name__ == "__main__":
    contestants = {"ffmpeg": by_ffmpeg, "simplejpeg": by_simplejpeg}
    main(contestants, packages=("spdl", "torch", "torchvision"), tolerances={"ffmpeg": 6.0})
