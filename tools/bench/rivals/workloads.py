"""Workloads of benchmarks, and the task that describes a workload to a contestant."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

__all__ = ["WORKLOADS", "Task", "Workload"]

Kind = Literal["evaluate", "train", "plain", "segment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Photographs and the transform to apply to them.

    Attributes:
        kind: "evaluate" resizes the shorter side and crops the centre; "train" crops at random, resizes and flips;
            "plain" applies no transform; "segment" scales image and mask to fit a square, and pads them.
        photos: kind of photographs, which `pictures` makes.
        batch: number of samples per batch.
    """

    title: str
    kind: Kind
    photos: Literal["imagenet", "small", "large", "masks"]
    images: int
    batch: int = 64
    size: int = 224
    resize: int = 256

    @property
    def checked(self) -> bool:
        """Whether pixels can be compared with a reference, because the transform is not random."""
        return self.kind != "train"


WORKLOADS = {
    "W1": Workload(title="resize 256, centre crop 224", kind="evaluate", photos="imagenet", images=1000),
    "W2": Workload(title="random resized crop 224, flip", kind="train", photos="imagenet", images=1000),
    "W3": Workload(title="files already 224x224", kind="plain", photos="small", images=1000),
    "W4": Workload(
        title="4000x3000, resize 256, centre crop 224", kind="evaluate", photos="large", images=48, batch=16
    ),
    "W6": Workload(title="4000x3000, random resized crop 224, flip", kind="train", photos="large", images=48, batch=16),
    "W5": Workload(
        title="image and PNG mask to 320x320", kind="segment", photos="masks", images=500, batch=32, size=320
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Parameters of one trial, as a contestant gets them.

    Attributes:
        photos: class folders of JPEG files; for segmentation, a folder with the folders ``images`` and ``masks``.
        shards: folder of the same photographs packed into at least ten tars.
        own: folder for data that a rival converts to its own format; kept between trials.
        workers: number of threads or processes.
        start: how a rival starts its processes.
    """

    workload: str
    photos: Path
    shards: Path
    own: Path
    images: int
    batch: int
    workers: int
    start: Literal["fork", "spawn"] = "fork"

    @property
    def work(self) -> Workload:
        """Description of the workload."""
        return WORKLOADS[self.workload]

    def encoded(self) -> str:
        """Return the task as an argument of a command line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decoded(cls, text: str) -> "Task":
        """Return the task that `encoded` returned as text."""
        values = json.loads(text)
        return cls(**{**values, **{name: Path(values[name]) for name in ("photos", "shards", "own")}})

    @property
    def tiles(self) -> Path:
        """Folder of the shards packed with --tiles; it exists only if the native kernel is built."""
        return self.shards.with_name("tiles")

    def files(self) -> list[Path]:
        """Return the JPEG files, sorted."""
        folder = self.photos / "images" if self.work.kind == "segment" else self.photos
        return sorted(folder.rglob("*.jpg"))

    def classes(self) -> dict[str, int]:
        """Return the class index of each class folder: its position in the sorted names."""
        names = sorted(path.name for path in self.photos.iterdir() if path.is_dir())
        return {name: label for label, name in enumerate(names)}

    def tars(self) -> list[str]:
        """Return the paths of the shards, sorted."""
        return [str(path) for path in sorted(self.shards.glob("*.tar"))]
