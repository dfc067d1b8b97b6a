"""Transforms by name: ``classify.train:224`` on the command line is ``classify.train(224)`` in Python."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mps_shards.cli.usage_errors import checked
from mps_shards.errors import ConfigError

if TYPE_CHECKING:
    from mps_shards.shards.manifest import Task

__all__ = ["transform_named", "transform_option"]


def transform_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--transform``, the name of a transform."""
    return click.option("--transform", default="train", show_default=True, callback=checked(_parts), help=help)


def transform_named(name: str, *, task: "Task") -> Any:
    """Return the transform with a name such as ``train``, ``evaluate:256``, ``classify.train:224`` or ``none``.

    Raises:
        ConfigError: there is no such transform, or it is for another task.
    """
    parts = _parts(name)
    if parts is None:
        return None
    from mps_shards.vision.transforms import classify, segment

    module, kind, size = parts
    masks = task == "segmentation"
    if module and (module == "segment") != masks:
        raise ConfigError(f"{name} is not for {task}; use {'segment' if masks else 'classify'}.{kind} for this set")
    if masks and kind == "evaluate":
        return segment.evaluate(int(size) if size else None)  # without a size, pictures keep their stored size
    return getattr(segment if masks else classify, kind)(int(size or (512 if masks else 224)))


def _parts(name: str) -> tuple[str | None, str, str | None] | None:
    """Return module, kind and size of a transform; None for "none". Raises ConfigError for any other name."""
    if name == "none":
        return None
    match = re.fullmatch(r"(?:(classify|segment)\.)?(train|evaluate)(?::([1-9][0-9]{0,4}))?", name)
    if match is None:
        raise ConfigError(f"{name!r} is not a transform; write one such as train:224, segment.evaluate:512 or none")
    return match[1], match[2], match[3]
