"""Checks of the arguments of `ShardDataset`, and their form in messages."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.reading.collate import Collate
from mps_shards.reading.read_options import ReadOptions
from mps_shards.reading.read_position import ReadPosition
from mps_shards.sampling.order import Shuffle
from mps_shards.sampling.rank_sharding import Remainder
from mps_shards.sampling.subset import Subset
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.storage.urls import without_secrets

__all__ = ["Path", "Shards", "check_arguments", "chosen_fields", "plain_integer", "shown", "warn_of_no_batches"]

Path: TypeAlias = str | os.PathLike[str]
Shards: TypeAlias = Path | Sequence[Path] | Mapping[Path, float]


def check_arguments(
    batch_size: int | None,
    shuffle: bool | Shuffle,
    remainder: Remainder,
    collate: Collate,
    subset: Subset | None,
    read_options: ReadOptions,
    **switches: bool,
) -> None:
    """Raise ConfigError if an argument has an invalid value; the message names the accepted values.

    Args:
        batch_size, shuffle, remainder, collate, subset, read_options: arguments of `ShardDataset`.
        switches: further arguments, which must be True or False.
    """
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ConfigError(f"batch_size must be a whole number from 1, or None for single samples, not {batch_size!r}")
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be True or False, not {value!r}")
    if not isinstance(collate, Collate):
        raise ConfigError(
            f"collate must be Collate(…), such as Collate(pad=32), not {collate!r}; map() applies a function to batches"
        )
    if not isinstance(read_options, ReadOptions):
        raise ConfigError(f"read_options must be ReadOptions(…) from mps_shards, not {read_options!r}")
    if not isinstance(shuffle, bool | Shuffle):
        raise ConfigError(
            f"shuffle must be True, False or Shuffle(window=…) from mps_shards, not {shuffle!r}; samples are mixed "
            f"within a window of {Shuffle().window:,} by default"
        )
    if remainder not in ("pad", "drop", "keep"):
        raise ConfigError(f"remainder must be 'pad', 'drop' or 'keep', not {remainder!r}")
    if batch_size is None and (collate.mix is not None or collate.pad is not None):
        raise ConfigError("mix and pad are for batches: give a batch_size")
    if subset is not None and not isinstance(subset, Subset):
        raise ConfigError(f"subset must be Subset(…), such as Subset(fraction=0.1), not {subset!r}")


def plain_integer(value: Any) -> Any:
    """Return a NumPy integer as an int, and any other value unchanged."""
    return int(value) if isinstance(value, np.integer) else value


def chosen_fields(
    image: str | None, target: str | None, fields: Mapping[str, str] | None, collate: Collate
) -> FieldChoice | None:
    """Return the choice of the fields that are read; None if nothing is chosen.

    Args:
        image, target, fields, collate: arguments of `ShardDataset`. With `fields`, samples keep all of their fields.

    Raises:
        ConfigError: the arguments exclude each other, or do not name fields.
    """
    for name, value in (("image", image), ("target", target)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(
                f'{name} must name a field, such as {name}="{"jpg" if name == "image" else "json:label"}", not '
                f"{value!r}; to change samples, use transform= or map()"
            )
    if fields is not None and (image is not None or target is not None):
        raise ConfigError("fields names the image and all targets: leave out image= and target=")
    if fields is not None and (collate.mix is not None or collate.pad is not None):
        raise ConfigError("mix and pad are for (image, target): leave out fields")
    return FieldChoice.parsed(image, target) if fields is None else FieldChoice(keeps_all=True)


def warn_of_no_batches(position: ReadPosition) -> None:
    """Warn if an epoch has samples, but `drop_last` leaves no batch."""
    sequence = position.sequence
    if not sequence.drop_last or not sequence.samples or len(position):
        return
    world_size = position.share()[0].world_size
    ranks = f" on each of {world_size} ranks" if world_size > 1 else ""
    warnings.warn(
        f"drop_last leaves no batch: {sequence.samples} samples are less than a batch of {sequence.batch_size}{ranks}; "
        "use a smaller batch_size, or drop_last=False",
        stacklevel=3,
    )


def shown(shards: Shards) -> str:
    """Return the argument `shards` as a short text, about as long as one path, without secrets."""
    if isinstance(shards, str | os.PathLike):
        return repr(without_secrets(str(shards)))
    names = [repr(without_secrets(str(each))) for each in shards]
    return names[0] if len(names) == 1 else f"{len(names)} sets or shards from {names[0]}"
