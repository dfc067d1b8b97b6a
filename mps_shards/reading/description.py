"""Short description of a data set, for `repr` and for a table in notebooks."""

from typing import TYPE_CHECKING

from mps_shards.wording import counted

if TYPE_CHECKING:
    from mps_shards.dataset import ShardDataset

__all__ = ["described", "facts"]

_ALONE = ("shards", "task", "classes", "samples")  # facts that are shown without their names


def facts(data: "ShardDataset", shards: str) -> list[tuple[str, str]]:
    """Return the names and values that describe a data set; `shards` is the text that names its shards."""
    share, _ = data.position.share()
    skipped = data.skipped.count
    return [
        ("shards", shards),
        *([("task", str(data.task))] if data.task else []),
        *([("classes", counted(data.num_classes, "class"))] if data.classes else []),
        ("samples", "? samples" if data.num_samples is None else counted(data.num_samples, "sample")),
        ("batch_size", str(data.batch_size)),
        *([("transform", repr(data.transform))] if data.transform is not None else []),
        ("shuffle", str(data.position.sequence.fingerprint["shuffle"] is not None)),
        ("seed", str(data.seed)),
        ("epoch", str(data.position.epoch)),
        ("rank", str(share.rank)),
        ("world_size", str(share.world_size)),
        *([("skipped", str(skipped))] if skipped else []),
    ]


def described(facts: list[tuple[str, str]]) -> str:
    """Return the result of `facts` on one line, such as ``ShardDataset('imgs-shards', classification, seed=0)``."""
    return f"ShardDataset({', '.join(value if name in _ALONE else f'{name}={value}' for name, value in facts)})"
