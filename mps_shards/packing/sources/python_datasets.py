"""Data set objects of NumPy, torchvision and Hugging Face, and the classes and labels that they state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.python_items import item_of, target_of

__all__ = ["ArrayPairs", "ImageFiles", "classes_of", "is_arrays", "known_labels", "prepare_samples", "without_images"]


class ArrayPairs(Sequence[tuple[Any, Any]]):
    """Arrays ``(X, y)`` as a sequence of images and targets."""

    def __init__(self, images: Any, targets: Any):
        self._images, self.targets = np.asarray(images), np.asarray(targets)
        if self._images.ndim == 4 and self._images.shape[1] in (1, 3) and self._images.shape[3] not in (1, 3, 4):
            self._images = self._images.transpose(0, 2, 3, 1)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        target = self.targets[index]
        return self._images[index], target.item() if target.ndim == 0 else target


class ImageFiles(Sequence[tuple[str, int]]):
    """The files of torchvision's ImageFolder, which are packed unchanged instead of as decoded pixels."""

    def __init__(self, dataset: Any):
        self.samples: list[tuple[str, int]] = list(dataset.samples)
        self.classes = list(dataset.classes)
        self.targets = [label for _, label in self.samples]
        self.root = str(dataset.root)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]


def classes_of(*all_samples: Any) -> tuple[str, ...]:
    """Return the class names that the objects state in ``classes`` or in the features of a Hugging Face data set."""
    for samples in all_samples:
        inner = samples
        while inner is not None:
            stated = getattr(inner, "classes", None)
            if isinstance(stated, list | tuple) and stated:
                return tuple(" ".join(each) if isinstance(each, tuple | list) else str(each) for each in stated)
            features = getattr(inner, "features", None)
            for feature in (features or {}).values() if isinstance(features, Mapping) else ():
                feature = getattr(feature, "feature", feature)  # the feature of list elements
                if names := getattr(feature, "names", None):
                    return tuple(map(str, names))
            inner = getattr(inner, "dataset", None)  # torch.utils.data.Subset has this attribute
    return ()


def prepare_samples(samples: Any) -> Any:
    """Return the object to take items from. Its images are files instead of pixels if no transform changes them."""
    is_folder = all(hasattr(samples, name) for name in ("samples", "imgs", "loader", "root", "classes"))
    untransformed = not any(getattr(samples, name, None) for name in ("transform", "target_transform", "transforms"))
    if is_folder and untransformed:
        return ImageFiles(samples)
    features = getattr(samples, "features", None)
    if isinstance(features, Mapping) and hasattr(samples, "cast_column"):  # a Hugging Face data set
        for name, feature in features.items():
            if type(feature).__name__ == "Image" and getattr(feature, "decode", False):
                samples = samples.cast_column(name, type(feature)(decode=False))
    return samples


def is_arrays(given: Any) -> bool:
    """Whether an object is a pair of arrays ``(X, y)`` of equal length, with images first.

    Raises:
        ConfigError: the numbers of images and targets differ.
    """
    if not (isinstance(given, tuple) and len(given) == 2 and hasattr(given[0], "shape")):
        return False
    if len(given[0].shape) < 3 or not hasattr(given[1], "__len__"):
        return False
    if len(given[0]) != len(given[1]) and len(getattr(given[1], "shape", ())) == 1:
        raise ConfigError(f"X holds {len(given[0]):,} images, but y {len(given[1]):,} targets; give one for each image")
    return len(given[0]) == len(given[1])


def without_images(samples: Any) -> Any:
    """Return a Hugging Face data set without its columns of images; None for samples of another kind."""
    if not hasattr(samples, "remove_columns"):
        return None
    images = [name for name, feature in samples.features.items() if type(feature).__name__ == "Image"]
    return samples.remove_columns(images) if len(images) == 1 else None


def known_labels(samples: Any) -> Any:
    """Return the labels of all items if an attribute states them and the first item agrees; else None."""
    for name in ("targets", "labels", "_labels"):
        labels = getattr(samples, name, None)
        if labels is None or isinstance(labels, str) or not hasattr(labels, "__len__") or len(labels) != len(samples):
            continue
        labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        if not labels or not all(isinstance(label, int | str) for label in labels):
            continue
        target = target_of(item_of(samples[0], "sample 0"), "sample 0")
        if target.label == labels[0] and not (target.mask or target.others or target.caption):
            return labels
    return None
