"""What is measured: workloads, and the task that a contestant is given. Knows no loader."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

__all__ = ["WORKLOADS", "Task", "Workload"]

Kind = Literal["evaluate", "train", "plain", "segment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Photographs, and what is to be done with them.

    Attributes:
        kind: "evaluate" resizes the shorter side and crops the centre; "train" crops at random, resizes, flips;
            "plain" delivers them as they are; "segment" scales image and mask to fit a square, and pads.
        photos: which ones, see `pictures`.
        batch: samples of a batch.
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
        """Whether pixels can be compared: they are the same each time."""
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
    """What a contestant is told.

    Attributes:
        photos: class folders of JPEG files; for segmentation a folder ``images`` and one ``masks``.
        shards: the same, packed: ten tars or more.
        own: a folder for what a rival must convert first; kept between trials.
        workers: threads or processes.
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
        """The workload in words and numbers."""
        return WORKLOADS[self.workload]

    def encoded(self) -> str:
        """As a command line argument."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decoded(cls, text: str) -> "Task":
        """The task of such an argument."""
        values = json.loads(text)
        return cls(**{**values, **{name: Path(values[name]) for name in ("photos", "shards", "own")}})

    @property
    def tiles(self) -> Path:
        """The same shards, packed with --tiles; only where the native kernel is built."""
        return self.shards.with_name("tiles")

    def files(self) -> list[Path]:
        """The JPEG files, sorted."""
        folder = self.photos / "images" if self.work.kind == "segment" else self.photos
        return sorted(folder.rglob("*.jpg"))

    def classes(self) -> dict[str, int]:
        """Label of each class folder: its place in the sorted names, as everybody has it."""
        names = sorted(path.name for path in self.photos.iterdir() if path.is_dir())
        return {name: label for label, name in enumerate(names)}

    def tars(self) -> list[str]:
        """The shards, sorted."""
        return [str(path) for path in sorted(self.shards.glob("*.tar"))]
