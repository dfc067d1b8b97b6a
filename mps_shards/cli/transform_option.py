"""Transforms by name: ``classify.train:224`` on the command line is ``classify.train(224)`` in Python."""

import re
from typing import TYPE_CHECKING, Any

from mps_shards.errors import ConfigError

if TYPE_CHECKING:
    from mps_shards.shards.manifest import Task

__all__ = ["transform_named"]

_DEFAULTS = {"classification": "224", "unlabeled": "224", "segmentation": "512"}


def transform_named(name: str, *, task: "Task", ignore_index: int | None = None) -> Any:
    """Return the transform with a name such as ``train``, ``evaluate:256``, ``classify.train:224`` or ``none``.

    Raises:
        ConfigError: no such transform, or it does not serve the set's task.
    """
    if name == "none":
        return None
    match = re.fullmatch(r"(?:(classify|segment)\.)?(train|evaluate)(?::([1-9][0-9]{0,4}))?", name)
    if match is None:
        raise ConfigError(f"{name!r} is not a transform; write one such as train:224, segment.evaluate:512 or none")
    from mps_shards.vision.transforms import classify, segment

    room, kind, size = match.groups()
    side = int(size or _DEFAULTS[task])
    masks = task == "segmentation"
    if room and (room == "segment") != masks:
        raise ConfigError(f"{name} does not serve a set for {task}; {'segment' if masks else 'classify'}.{kind} does")
    if masks:
        return getattr(segment, kind)(side, ignore_index=255 if ignore_index is None else ignore_index)
    return getattr(classify, kind)(side)
