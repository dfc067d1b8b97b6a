"""Readers of targets, which return the only target of a sample, or several values by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.native import UNLABELED
from mps_shards.reading.sample_sources import Source
from mps_shards.shards.field_choice import FieldChoice, is_mask
from mps_shards.shards.manifest import Task
from mps_shards.shards.npy_file import array_in
from mps_shards.shards.raw_sample import MASK_FIELD, Buffer, RawSample
from mps_shards.shards.target_values import caption, json_value
from mps_shards.vision.decoding import decode_image, image_size
from mps_shards.vision.label_maps import label_map_of
from mps_shards.vision.targets import Opened, image_and_target, opened
from mps_shards.vision.transforms.sample_transform import ThreadTransform

__all__ = ["NamedFields", "SampleKey", "SetTargets", "TargetReader", "target_reader", "with_texts"]


_MOST_LABEL = 10**18 - 1  # `RawSample.label` reads up to 18 digits


class SampleKey(str):
    """A key that carries the texts of its sample through batch assembly, because tensors cannot hold texts.

    Attributes:
        texts: texts by the name of their value; the name of an only target is "".
    """

    __slots__ = ("texts",)
    texts: dict[str, str]


def with_texts(key: str, target: Any) -> tuple[str, Any]:
    """Return the key, as a `SampleKey` with the texts of the target, and the target with 0 instead of each text.

    A key and a target without texts are returned unchanged.
    """
    values = target if isinstance(target, dict) else {"": target}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    if not texts:
        return key, target
    carrying = SampleKey(key)
    carrying.texts = texts
    return carrying, {name: 0 if name in texts else value for name, value in values.items()} if "" not in texts else 0


class TargetReader(Protocol):
    """Reads the targets of samples. All methods may be called from any thread."""

    def opened(self, raw: RawSample, task: Task | None) -> Opened:
        """Return the parts of a sample that are known without decoding pixels; a target that needs them is None."""
        ...

    def most_label(self, task: Task | None) -> int | None:
        """Return the highest class number if the target is a class number, `UNLABELED` if there is none, else None."""
        ...

    def label_map(self, raw: RawSample, size: tuple[int, int]) -> torch.Tensor | None:
        """Return the label map if it is the only target, for an image of this height and width; else None."""
        ...

    def decoded(self, raw: RawSample, known: Opened) -> tuple[torch.Tensor, Any]:
        """Return the image uint8 [3, height, width] and the target."""
        ...

    def transformed(
        self, transform: ThreadTransform, image: torch.Tensor, target: Any, epoch: int, position: int
    ) -> tuple[Any, Any]:
        """Return the image and the target after the transform."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTargets:
    """Reads the target of each sample according to the task of its set.

    Attributes:
        classes: number of classes of the set; 0 if it is not known.
        ignore_index: label id that is not a class; None if there is none.
        columns: names of the numbers that are the target of a regression set.
        max_pixels: limit for the pixels of an image or a mask.
    """

    classes: int
    ignore_index: int | None
    columns: tuple[str, ...]
    max_pixels: int

    def opened(self, raw: RawSample, task: Task | None) -> Opened:
        return opened(raw, task=task, classes=self.classes, columns=self.columns)

    def most_label(self, task: Task | None) -> int | None:
        if task == "classification":
            return self.classes - 1 if self.classes else _MOST_LABEL
        return UNLABELED if task == "unlabeled" else None

    def label_map(self, raw: RawSample, size: tuple[int, int]) -> torch.Tensor:
        ids = label_map_of(
            raw, size=size, classes=self.classes, ignore_index=self.ignore_index, max_pixels=self.max_pixels
        )
        return torch.from_numpy(ids)

    def decoded(self, raw: RawSample, known: Opened) -> tuple[torch.Tensor, Any]:
        return image_and_target(
            raw, known, classes=self.classes, ignore_index=self.ignore_index, max_pixels=self.max_pixels
        )

    def transformed(
        self, transform: ThreadTransform, image: torch.Tensor, target: Any, epoch: int, position: int
    ) -> tuple[Any, Any]:
        return transform(image, target, epoch, position)


class NamedFields:
    """Reads several values of a sample by name, as the argument ``fields=`` of a data set defines them.

    Args:
        fields: name of each value, and the field that holds it. The value "image" is in a field such as "jpg", or in
            the first of several such as "jpg;png". Fields of other values are "cls" (class index), "txt" (text),
            "json:age" (a number as float32, a list of numbers, or a text), "json:id:int" (int64), "npy" (an array
            without pickle), or a label map such as "mask.png".
        classes: class names of the set, for labels that are names. Label maps are checked against these classes.
        ignore_index: label id in label maps that is not a class; None if there is none.
        max_pixels: limit for the pixels of an image or a mask.

    Attributes:
        mask: name of the value that is a label map; None if there is none.

    Raises:
        ConfigError: `fields` names no image, more than one label map, or a field of an unknown kind.
    """

    def __init__(self, fields: Any, *, classes: tuple[str, ...], ignore_index: int | None, max_pixels: int):
        if not isinstance(fields, Mapping) or not all(isinstance(value, str) for value in fields.values()):
            raise ConfigError(
                f'fields must be {{name: field}}, such as {{"image": "jpg", "age": "json:age"}}, not {fields!r}'
            )
        if "image" not in fields:
            raise ConfigError(f'fields must name the image: {{"image": "jpg", …}}, not {dict(fields)!r}')
        self._choice = FieldChoice.parsed(fields["image"], None) or FieldChoice()
        self._labels = FieldChoice().naming(classes)
        self._fields = {name: field.lstrip(".") for name, field in fields.items() if name != "image"}
        masks = [name for name, field in self._fields.items() if is_mask(field)]
        if len(masks) > 1:
            raise ConfigError(f"fields names {len(masks)} label maps ({', '.join(masks)}); at most one is possible")
        self.mask = masks[0] if masks else None
        for name, field in self._fields.items():
            known = field in ("cls", "txt", "npy") or field.endswith((".txt", ".npy")) or field.startswith("json:")
            if not known and not is_mask(field):
                raise ConfigError(
                    f'fields[{name!r}]={field!r} is not supported: give "cls", "txt", "json:key", "npy" or a label map '
                    'such as "mask.png"'
                )
        self._classes, self._ignore_index, self._max_pixels = len(classes), ignore_index, max_pixels

    def opened(self, raw: RawSample, task: Task | None) -> Opened:
        image = raw.fields[self._choice.image_field(raw)]
        return Opened(image, image_size(image), None if self.mask is not None else self._values(raw))

    def most_label(self, task: Task | None) -> None:
        """Return None, because the targets are a dict of values by name."""

    def label_map(self, raw: RawSample, size: tuple[int, int]) -> None:
        """Return None, because the target of a sample is a dict, which may hold a label map."""

    def decoded(self, raw: RawSample, known: Opened) -> tuple[torch.Tensor, Any]:
        pixels = decode_image(known.image, max_pixels=self._max_pixels, size=known.size)
        image = torch.from_numpy(pixels.transpose(2, 0, 1))
        values = self._values(raw) if known.target is None else known.target
        if self.mask is not None:
            held = RawSample(
                key=raw.key, shard=raw.shard, fields={MASK_FIELD: _field(raw, self._fields[self.mask], self.mask)}
            )
            ids = label_map_of(
                held,
                size=pixels.shape[:2],
                classes=self._classes,
                ignore_index=self._ignore_index,
                max_pixels=self._max_pixels,
            )
            values[self.mask] = torch.from_numpy(ids)
        return image, values

    def transformed(
        self, transform: ThreadTransform, image: torch.Tensor, target: Any, epoch: int, position: int
    ) -> tuple[Any, Any]:
        """Return the image and the target after the transform, which changes the image and its label map, if any."""
        if self.mask is None:
            return transform(image, target, epoch, position)
        image, mask = transform(image, target[self.mask], epoch, position)
        return image, {**target, self.mask: mask}

    def _values(self, raw: RawSample) -> dict[str, Any]:
        return {name: self._value(raw, name, field) for name, field in self._fields.items() if name != self.mask}

    def _value(self, raw: RawSample, name: str, field: str) -> Any:
        if field == "cls":
            _field(raw, field, name)
            return self._labels.label(raw, field)
        if field == "txt" or field.endswith(".txt"):
            return caption(raw, field)
        if field == "npy" or field.endswith(".npy"):
            return _array(raw, _field(raw, field, name), name)
        _, _, path = field.partition(":")
        whole = path.endswith(":int")
        return _tensor(raw, name, json_value(raw, "json", path.removesuffix(":int")), whole=whole)


def target_reader(source: Source, fields: Any, *, max_pixels: int) -> tuple[TargetReader, Task | None]:
    """Return the reader of a source's targets, and the task that decides about transforms.

    Args:
        source: the source.
        fields: argument ``fields=`` of a data set; None for the only target of each sample.
        max_pixels: limit for the pixels of an image or a mask.
    """
    if fields is None:
        targets = SetTargets(
            classes=len(source.classes),
            ignore_index=source.ignore_index,
            columns=source.columns,
            max_pixels=max_pixels,
        )
        return targets, source.task
    named = NamedFields(fields, classes=source.classes, ignore_index=source.ignore_index, max_pixels=max_pixels)
    return named, "unlabeled" if named.mask is None else "segmentation"


def _field(raw: RawSample, field: str, name: str) -> Buffer:
    if field not in raw.fields:
        raise DecodeError(f"{raw} has no {field} for {name!r} (fields: {raw.listed_fields()})")
    return raw.fields[field]


def _array(raw: RawSample, content: Buffer, name: str) -> torch.Tensor:
    try:
        array = array_in(content)
        kind = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int64
        return torch.from_numpy(array.astype(kind))
    except (ValueError, EOFError, OSError, TypeError) as error:
        raise DecodeError(f"{raw}: {name} is not an .npy array: {error}") from error


def _tensor(raw: RawSample, name: str, value: Any, *, whole: bool) -> Any:
    """Return a JSON value as a value for a batch: a number, a tensor of numbers, or a text.

    Args:
        raw: sample that holds the value, for messages.
        name: name of the value, for messages.
        value: the JSON value.
        whole: accept only whole numbers.

    Raises:
        DecodeError: the value is of another kind.
    """
    if isinstance(value, str) and not whole:
        return value
    numbers = value if isinstance(value, list) else [value]
    kinds = (int,) if whole else (int, float, bool)
    if all(type(number) in kinds for number in numbers) and all(abs(number) < 1 << 63 for number in numbers):
        tensor = torch.tensor(numbers, dtype=torch.int64 if whole else torch.float32)
        return tensor if isinstance(value, list) else tensor[0].item()
    raise DecodeError(
        f"{raw}: {name} is {str(value)[:40]!r}, which is not "
        f"{'a whole number' if whole else 'a number, a list of numbers or a text'}"
    )
