"""Class weights for loss functions, from how often each class occurs.

    inverse     N / (K * n_c): classes contribute equally to cross_entropy's weighted mean.
    effective   (1 - b) / (1 - b ** n_c) with b = 1 - 1 / N, scaled to mean 1: Cui et al., "Class-Balanced Loss Based on
                Effective Number of Samples", CVPR 2019.
    median      median frequency balancing for label maps, where the frequency of a class is its share of the pixels of
                those images that contain it: Eigen and Fergus, ICCV 2015.
    positive    (N - n_c) / n_c: `pos_weight` of BCEWithLogitsLoss for multi-label targets.

`sample_weights` gives a weight for each sample instead, for ``Balance(samples=…)``.

A class without any sample gets the weight 0, because no sample can teach it.
"""

import statistics
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError
from mps_shards.inspect.survey import Survey

__all__ = [
    "class_weights",
    "effective_weights",
    "inverse_weights",
    "median_frequency_weights",
    "positive_weights",
    "sample_weights",
    "weight_lines",
]


def class_weights(found: Survey) -> dict[str, list[float]]:
    """Return the weights that suit the task of a survey, by method: one number per class, in the order of the classes.

    The result is empty for sets without classes. Pixels with the set's ignore_index do not count.
    """
    classes = range(len(found.manifest.classes))
    tally = found.tally
    if found.manifest.task == "segmentation":
        pixels = [tally.mask_pixels[number] for number in classes]
        image_pixels = [tally.mask_image_pixels[number] for number in classes]
        return {
            "median": median_frequency_weights(pixels, image_pixels),
            "inverse": inverse_weights(pixels),
        }
    counts = [tally.labels[number] for number in classes]
    if found.manifest.task == "multilabel":
        return {"positive": positive_weights(counts, tally.samples)}
    if found.manifest.task == "classification":
        return {"inverse": inverse_weights(counts), "effective": effective_weights(counts)}
    return {}


def inverse_weights(counts: Sequence[int]) -> list[float]:
    """Return N / (K * n_c) for each class, where K is the number of classes that occur."""
    total, occurring = sum(counts), sum(count > 0 for count in counts)
    return [total / (occurring * count) if count else 0.0 for count in counts]


def effective_weights(counts: Sequence[int]) -> list[float]:
    """Return the inverse effective number of samples of each class, scaled so that classes that occur have mean 1."""
    total = sum(counts)
    if total < 2:
        return [float(count > 0) for count in counts]
    keep = 1 - 1 / total
    raw = [(1 - keep) / (1 - keep**count) if count else 0.0 for count in counts]
    mean = statistics.fmean(weight for weight in raw if weight)
    return [weight / mean for weight in raw]


def median_frequency_weights(pixels: Sequence[int], image_pixels: Sequence[int]) -> list[float]:
    """Return median(frequency) / frequency for each class.

    Args:
        pixels: number of pixels of each class.
        image_pixels: number of pixels of all images that contain the class.
    """
    frequency = [count / whole if count else 0.0 for count, whole in zip(pixels, image_pixels, strict=True)]
    occurring = [value for value in frequency if value]
    middle = statistics.median(occurring) if occurring else 0.0
    return [middle / value if value else 0.0 for value in frequency]


def positive_weights(counts: Sequence[int], samples: int) -> list[float]:
    """Return negatives / positives for each label; 0 for a label that no sample has."""
    return [(samples - count) / count if count else 0.0 for count in counts]


def sample_weights(found: Survey) -> npt.NDArray[np.float64]:
    """Return how often to use each sample, so that images that hold a rare class are seen more often.

    The weight is sqrt(N / n_c) of the rarest class c that the sample holds, where n_c of N samples hold it: the repeat
    factor of Gupta et al., "LVIS", CVPR 2019, with a threshold of 1. A sample without any class has the weight 1, one
    that could not be decoded 0.

    Raises:
        ConfigError: the set has no classes, or only a part of it was surveyed.
    """
    if found.seed is not None:
        raise ConfigError("weights of samples need a survey of the whole set, without samples=")
    counts = Counter(number for classes in found.held for number in classes or ())
    if not counts:
        raise ConfigError(f"a set for {found.manifest.task} without classes has no weights of samples")
    samples = len(found.held)
    weights = [
        0.0 if classes is None else max(((samples / counts[number]) ** 0.5 for number in classes), default=1.0)
        for classes in found.held
    ]
    return np.array(weights)


_USES = {
    "inverse": ("weight", "cross_entropy, inverse frequency"),
    "effective": ("weight", "cross_entropy, effective number of samples"),
    "median": ("weight", "cross_entropy, median frequency"),
    "positive": ("pos_weight", "BCEWithLogitsLoss"),
}


def weight_lines(weights: dict[str, list[float]]) -> list[str]:
    """Return each kind of weights as an argument of its loss function, ready to paste."""
    return [
        f"{argument}=torch.tensor([{', '.join(f'{value:.4g}' for value in weights[method])}])  # {use}"
        for method, (argument, use) in _USES.items()
        if method in weights
    ]
