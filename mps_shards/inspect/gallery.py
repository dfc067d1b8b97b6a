"""Samples of a shard set as cells of a contact sheet."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mps_shards.errors import ConfigError, DataError
from mps_shards.storage.urls import without_secrets
from mps_shards.wording import counted

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mps_shards.dataset import ShardDataset
    from mps_shards.inspect.contact_sheet import Sheet
    from mps_shards.inspect.palette_colours import Colour
    from mps_shards.shards.manifest import Manifest
    from mps_shards.shards.raw_sample import RawSample
    from mps_shards.shardset.shard_set import ShardSet

__all__ = ["Gallery", "preview_of", "set_title"]

_SPLITS = ("train", "val", "test", "dev", "eval")  # beginnings of split names

_KEPT = 2  # multiple of the cell size that photographs are shrunk to: saves memory, and keeps outlines visible


def preview_of(data: "ShardDataset", *, count: int, times: int) -> "Sheet":
    """Draw random samples of a data set as they are stored, and `times` times after its transform.

    Raises:
        ConfigError: the tars have no index.
    """
    from mps_shards.reading.indexed_source import IndexedSource

    if not isinstance(data.source, IndexedSource):
        raise ConfigError("a preview needs an index: make one with 'mps-shards index', or pack the images")
    opened = data.source.sets[0]
    times = 0 if data.transform is None else times
    gallery = Gallery(opened, size=160, transform=data.transform, times=times, seed=data.seed)
    gallery.fill(count)
    how = f", as stored and {times} times transformed" if times else ""
    return gallery.draw(
        set_title(str(opened.folder)), f"{len(gallery.tiles):,} of {counted(len(opened), 'sample')}{how}"
    )


def set_title(shards: str) -> str:
    """Return the name of a shard set, with the name of its folder if the set is one of several splits."""
    if "://" in shards:
        return without_secrets(shards).rstrip("/").rpartition("/")[2]
    folder = Path(shards).absolute()
    split = folder.name.lower().startswith(_SPLITS)
    return f"{folder.parent.name} / {folder.name}" if split else folder.name


class Gallery:
    """Collects cells for some samples of a shard set.

    Args:
        opened: the open shard set.
        transform: if given, each sample is also shown `times` times after this transform.

    Attributes:
        tiles: cells that were collected so far.
        broken: one line for each sample that cannot be shown.
    """

    def __init__(self, opened: "ShardSet", *, size: int, transform: Any = None, times: int = 0, seed: int = 0):
        self._set, self._size, self._transform, self._times, self._seed = opened, size, transform, times, seed
        self._values: set[int] = set()  # label ids that occur in the label maps
        self.tiles: list[Any] = []
        self.broken: list[str] = []

    def fill(
        self,
        count: int,
        wanted: str | None = None,
        *,
        on_start: Callable[[int], None] = lambda samples: None,
        on_sample: Callable[[int], None] = lambda samples: None,
    ) -> None:
        """Add `count` random samples, or all if there are fewer; `wanted` restricts them to one class.

        Args:
            on_start: called with the number of samples to read; with `wanted`, this is the number of all samples.
            on_sample: called with the number of samples read since the last call.

        Raises:
            ConfigError: the set does not have the class `wanted`.
        """
        import numpy as np

        from mps_shards.shardset.conditions import class_number

        chosen = None if wanted is None else class_number(self._set.manifest, wanted)
        on_start(len(self._set) if chosen is not None else min(count, len(self._set)))
        for number in np.random.default_rng(self._seed).permutation(len(self._set)).tolist():
            if len(self.tiles) == count:
                break
            key, where = f"sample {number}", ""
            try:
                raw = self._set.read(number)
                key, where = raw.key, f" ({raw.shard})"
                if chosen is None or chosen in _classes_of(raw, self._set.manifest):
                    self.tiles.append(self._tile(raw, number))
            except DataError as error:
                self.broken.append(f"{key}{where}: {error}")
                if chosen is None:
                    self.tiles.append(self._unreadable(key))
            on_sample(1)

    def draw(self, title: str, subtitle: str) -> "Sheet":
        """Draw the contact sheet.

        Raises:
            ConfigError: no sample was collected.
        """
        from mps_shards.inspect.contact_sheet import contact_sheet

        if not self.tiles:
            raise ConfigError("no sample matches, so there is nothing to show")
        columns = max(1, 8 // len(self.tiles[0].pictures))
        return contact_sheet(
            self.tiles, title=title, subtitle=subtitle, columns=columns, size=self._size, legend=self.legend()
        )

    def legend(self) -> "dict[str, Colour]":
        """Return the colours of the label-map classes that occur, by name; empty without label maps."""
        from mps_shards.inspect.overlay import class_names
        from mps_shards.inspect.palette_colours import IGNORED, class_colour

        manifest = self._set.manifest
        names = class_names(sorted(self._values), manifest.classes, manifest.ignore_index)
        given = dict(enumerate(manifest.palette))
        if manifest.ignore_index is not None:
            given[manifest.ignore_index] = IGNORED
        return {
            name: given.get(value) or class_colour(value)
            for value, name in names.items()
            if name.lower() != "background"
        }

    def _tile(self, raw: "RawSample", number: int) -> Any:
        from mps_shards.inspect.contact_sheet import Tile, shrunk, shrunk_mask
        from mps_shards.inspect.palette_colours import class_colour
        from mps_shards.vision.decoding import decode_image
        from mps_shards.vision.label_maps import label_map_of

        manifest = self._set.manifest
        image = decode_image(raw.image()[1])
        if manifest.task != "segmentation":
            label = raw.label()
            pictures = [shrunk(image, _KEPT * self._size), *self._augmented(image, label, number)]
            return Tile(pictures, _caption(raw, manifest), class_colour(label) if label >= 0 else None)
        mask = label_map_of(raw, size=image.shape[:2])
        small = shrunk(image, _KEPT * self._size)
        overlaid = self._overlaid(small, shrunk_mask(mask, small.shape[:2]))
        pictures = [small, overlaid, *self._augmented(image, mask, number)]
        return Tile(pictures, raw.key.rpartition("/")[2])

    def _augmented(self, image: "np.ndarray[Any, Any]", target: Any, number: int) -> Iterator[Any]:
        """Return the sample as training would see it in the first epochs, with its number as its position."""
        if not self._times:
            return
        import torch

        from mps_shards.vision.transforms.sample_transform import ThreadTransform, recognise

        manifest, has_label_map = self._set.manifest, not isinstance(target, int)
        transform = recognise(
            self._transform, task=manifest.task, classes=len(manifest.classes), ignore_index=manifest.ignore_index
        )
        apply = ThreadTransform(transform, seed=self._seed)
        picture = torch.from_numpy(image).permute(2, 0, 1)
        given = torch.from_numpy(target) if has_label_map else target
        for epoch in range(self._times):
            images, targets = apply(picture, given, epoch, number)
            first = isinstance(images, tuple)  # of several views, the first is shown
            pixels = shown(images[0] if first else images)
            label_map = targets[0] if first and has_label_map else targets
            yield self._overlaid(pixels, label_map.numpy()) if has_label_map else pixels

    def _overlaid(self, image: "np.ndarray[Any, Any]", mask: "np.ndarray[Any, Any]") -> Any:
        import numpy as np

        from mps_shards.inspect.overlay import overlaid

        self._values.update(np.unique(mask).tolist())
        manifest = self._set.manifest
        return overlaid(image, mask, manifest.classes, manifest.ignore_index, manifest.palette)

    def _unreadable(self, key: str) -> Any:
        from mps_shards.inspect.contact_sheet import Tile

        pictures = (2 if self._set.manifest.task == "segmentation" else 1) + self._times
        return Tile([None] * pictures, key)


def shown(image: "torch.Tensor") -> "np.ndarray[Any, Any]":
    """Return a training image as uint8 [height, width, 3]; normalized floats are scaled to 0..255."""
    image = image.permute(1, 2, 0).expand(-1, -1, 3).contiguous()
    if image.is_floating_point():
        low, high = image.min(), image.max()
        if low < 0 or high > 1:
            image = (image - low) / (high - low)
        image = (image * 255).round().byte()
    pixels: np.ndarray[Any, Any] = image.numpy()
    return pixels


def _caption(raw: "RawSample", manifest: "Manifest") -> str:
    """Return the target of a sample in words, or its key if it has none."""
    from mps_shards.shards.target_values import caption, class_ids, numbers

    if manifest.task == "captions":
        return caption(raw)
    if manifest.task == "regression":
        values = numbers(raw, manifest.column_names)
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(manifest.column_names, values, strict=True))
    labels = class_ids(raw) if manifest.task == "multilabel" else [label] if (label := raw.label()) >= 0 else []
    names = [manifest.classes[one] if one < len(manifest.classes) else f"class {one}" for one in labels]
    return ", ".join(names) or ("no label" if manifest.task == "multilabel" else raw.key)


def _classes_of(raw: "RawSample", manifest: "Manifest") -> set[int]:
    if manifest.task == "multilabel":
        from mps_shards.shards.target_values import class_ids

        return set(class_ids(raw))
    if manifest.task != "segmentation":
        return {raw.label()}
    import numpy as np

    from mps_shards.vision.decoding import decode_mask
    from mps_shards.vision.label_maps import label_map_field

    return set(np.unique(decode_mask(label_map_field(raw))).tolist())
