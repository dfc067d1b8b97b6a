"""Figures of a survey as plain values, for JSON, tables and pages."""

import statistics
from typing import Any

from mps_shards.inspect.class_weights import class_weights
from mps_shards.inspect.survey import Survey

__all__ = ["by_class", "figures", "normalize_line"]


def figures(found: Survey) -> dict[str, Any]:
    """Return the survey as plain values. Sizes are [width, height, samples], most frequent first."""
    tally = found.tally
    masks = {
        found.class_name(value): {"pixels": pixels, "samples": tally.mask_samples[value]}
        for value, pixels in sorted(tally.mask_pixels.items())
    }
    return {
        "task": found.manifest.task,
        "samples": found.manifest.samples,
        "decoded": tally.samples,
        "seed": found.seed,
        "broken": list(found.broken),
        "classes": by_class(found),
        "mean": tally.mean(),
        "std": tally.std(),
        "pixels": tally.pixels,
        "width": spread([width for width, _ in tally.sizes.elements()]),
        "height": spread([height for _, height in tally.sizes.elements()]),
        "aspect": spread([width / height for width, height in tally.sizes.elements()]),
        "bytes": spread(tally.bytes),
        "sizes": [[*size, count] for size, count in tally.sizes.most_common(20)],
        "formats": dict(tally.formats.most_common()),
        "modes": dict(tally.modes.most_common()),
        "orientations": {str(value): count for value, count in sorted(tally.orientations.items())},
        "masks": masks,
        "numbers": numbers_by_column(found),
        "caption_words": spread(tally.caption_words),
        "class_weights": class_weights(found),
    }


def by_class(found: Survey) -> dict[str, int]:
    """Count samples by class name in label order, including classes without samples; empty for sets without labels."""
    if found.manifest.task not in ("classification", "multilabel"):
        return {}
    numbers = range(max((len(found.manifest.classes), *(label + 1 for label in found.tally.labels))))
    return {found.class_name(number): found.tally.labels[number] for number in numbers}


def numbers_by_column(found: Survey) -> dict[str, dict[str, float] | None]:
    """Return minimum, median, mean and maximum of each regression target; empty for other tasks."""
    columns = zip(*found.tally.numbers, strict=True)
    return {name: spread(list(values)) for name, values in zip(found.manifest.column_names, columns, strict=False)}


def spread(values: list[int] | list[float]) -> dict[str, float] | None:
    """Return minimum, median, mean and maximum; None for no values."""
    if not values:
        return None
    return {
        "min": min(values),
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "max": max(values),
    }


def normalize_line(found: Survey) -> str:
    """Return mean and std as source code, ready to paste into ``ShardDataset(normalize=…)``."""
    mean, std = ([round(value, 4) for value in values] for values in found.normalize())
    return f"normalize=({mean}, {std})"
