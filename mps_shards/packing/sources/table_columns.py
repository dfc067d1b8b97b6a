"""Roles of the columns of Parquet and Arrow files with images, as the Hugging Face Hub stores them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mps_shards.errors import ConfigError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.listing import Column, Doubt

__all__ = ["TableColumns", "columns_of"]

_IMAGES = ("image", "img", "images", "picture", "photo", "pixel_values", "jpg", "png", "bytes", "content", "data")
_MASKS = (
    "mask",
    "label",
    "labels",
    "annotation",
    "segmentation",
    "segmentation_mask",
    "semantic",
    "label_map",
    "target",
)
_LABELS = ("label", "labels", "class", "category", "target", "class_name", "label_name", "fine_label")
_SPLITS = ("split", "subset")
_CAPTIONS = ("caption", "captions", "text", "sentence", "prompt", "description")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """The role of each column.

    Attributes:
        image, mask: columns with encoded images; "" for none.
        label: column with class numbers, class names, or lists of class numbers; "" for none.
        classes: class names that the file states for the label.
        several: whether a sample has several labels.
        is_number: whether the label is a number to predict.
        caption: column with texts, which are the target; "" for none.
        split: column with the name of the split; "" for none.
        kept: columns that are kept as metadata.
        unused: columns that are not packed.
        doubts: questions about the columns that the user must decide.
    """

    image: str
    mask: str = ""
    label: str = ""
    classes: tuple[str, ...] = ()
    several: bool = False
    is_number: bool = False
    caption: str = ""
    split: str = ""
    kept: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def shown(self) -> tuple[Column, ...]:
        """Return every column with its role in words."""
        roles = [(self.image, "image"), (self.mask, "mask"), (self.label, "label"), (self.caption, "caption")]
        roles += [(self.split, "split"), *((name, "kept as metadata") for name in self.kept)]
        return tuple(Column(name, role) for name, role in [*roles, *((name, "unused") for name in self.unused)] if name)


def columns_of(schema: Any, options: SourceOptions, *, where: str) -> TableColumns:
    """Return the role of each column, by the features that the file states, and the types and names of its columns.

    Args:
        schema: a `pyarrow.Schema`.

    Raises:
        ConfigError: no column holds images, or several columns could be the image or the label; the message names the
            option that settles it.
    """
    features = _features(schema)
    names = list(schema.names)
    images = [name for name in names if _is_image(schema.field(name), features.get(name))]
    chosen_label = _only(options.label_column, names, "label", where)
    image = _only(options.image_column, names, "image", where) or _image_among(images, where, names)
    masks = [name for name in images if name != image and name.lower() in _MASKS]
    mask = options.mask_column or (masks[0] if masks and not chosen_label else "")
    split = options.split_column or _split_among(schema, {image, mask, chosen_label})
    taken = {image, mask, split}
    label = chosen_label or ("" if mask else _label_among(schema, features, taken, where))
    classes, several = _classes(features.get(label)) if label else ((), False)
    several = several or (bool(label) and _is_list(schema.field(label).type))
    free = [name for name in names if name not in {*taken, label}]
    texts = [name for name in free if name.lower() in _CAPTIONS and _is_text(schema.field(name).type)]
    caption = texts[0] if len(texts) == 1 and not label and not mask else ""
    rest = [name for name in free if name != caption]
    kept = tuple(name for name in rest if _is_plain(schema.field(name).type))
    return TableColumns(
        image=image,
        mask=mask,
        label=label,
        classes=classes,
        several=several,
        is_number=bool(label) and not several and options.targets == "number",
        caption=caption,
        split=split,
        kept=kept,
        unused=tuple(name for name in rest if name not in kept),
        doubts=tuple(_doubts(rest, images, options, has_target=bool(label or mask or caption))),
    )


def _doubts(free: Sequence[str], images: Sequence[str], options: SourceOptions, *, has_target: bool) -> Iterator[Doubt]:
    """Doubts about columns that have no role."""
    others = [name for name in free if name in images]
    if others and options.image_column is None:
        yield Doubt(
            f"{', '.join(others)} holds images too, which would be left out",
            "--image-column names the images and leaves the others out, --mask-column names masks",
            "content",
        )
    unknown = [name for name in free if name not in others]
    if unknown and not has_target:
        yield Doubt(
            f"no column is recognised as the label (columns: {', '.join(unknown)}), so the images would get no label",
            "--label-column NAME names it, --yes packs the images without labels",
            "content",
        )


def _features(schema: Any) -> dict[str, Any]:
    """Return the features that the ``datasets`` library states in the schema, by column."""
    try:
        stated = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stated.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_image(column: Any, feature: Any) -> bool:
    """Whether a column holds encoded images: a feature Image, bytes, or a structure with bytes (and a path)."""
    import pyarrow.types as types

    if isinstance(feature, dict) and feature.get("_type"):
        return bool(feature["_type"] == "Image")
    if types.is_struct(column.type):
        return any(each.name == "bytes" and types.is_binary(each.type) for each in column.type)
    return bool(types.is_binary(column.type))


def _image_among(images: Sequence[str], where: str, names: Sequence[str]) -> str:
    if not images:
        raise ConfigError(f"{where}: no column holds encoded images (columns: {', '.join(names)})")
    if len(images) == 1:
        return images[0]
    known = [name for candidate in _IMAGES for name in images if name.lower() == candidate]
    if known:
        return known[0]
    raise ConfigError(f"{where}: {' and '.join(images)} hold images; choose one with --image-column")


def _label_among(schema: Any, features: dict[str, Any], taken: set[str], where: str) -> str:
    stated = [name for name in schema.names if name not in taken and _classes(features.get(name))[0]]
    if len(stated) > 1:
        raise ConfigError(f"{where}: {' and '.join(stated)} hold class labels; choose one with --label-column")
    if stated:
        return str(stated[0])
    named: dict[str, str] = {
        name.lower(): name for name in schema.names if name not in taken and _is_label(schema, name)
    }
    return next((named[name] for name in _LABELS if name in named), "")


def _split_among(schema: Any, taken: set[str]) -> str:
    named = [name for name in schema.names if name.lower() in _SPLITS and name not in taken]
    return next((name for name in named if _is_text(_values_of(schema.field(name).type))), "")


def _classes(feature: Any) -> tuple[tuple[str, ...], bool]:
    """Return the class names of a feature, and whether the feature is a list of labels."""
    if isinstance(feature, list) and len(feature) == 1:
        return _classes(feature[0])[0], True
    if not isinstance(feature, dict):
        return (), False
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _classes(feature.get("feature"))[0], True
    names = feature.get("names")
    return (tuple(map(str, names)), False) if feature.get("_type") == "ClassLabel" and names else ((), False)


def _only(option: Any, names: Sequence[str], role: str, where: str) -> str:
    chosen = [option] if isinstance(option, str) else list(option or ())
    if len(chosen) > 1:
        raise ConfigError(f"{where}: one {role} column of a table can be packed, not {len(chosen)}")
    if chosen and chosen[0] not in names:
        raise ConfigError(f"{where} has no column {chosen[0]!r}; its columns are {', '.join(names)}")
    return str(chosen[0]) if chosen else ""


def _is_label(schema: Any, name: str) -> bool:
    kind = schema.field(name).type
    return _is_plain(kind.value_type if _is_list(kind) else kind)


def _is_plain(kind: Any) -> bool:
    """Whether values of a type can be written to JSON unchanged."""
    import pyarrow.types as types

    kind = _values_of(kind)
    return _is_text(kind) or any(check(kind) for check in (types.is_integer, types.is_floating, types.is_boolean))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _values_of(kind: Any) -> Any:
    """The type of the values of a dictionary, such as the categories of pandas; another type itself."""
    import pyarrow.types as types

    return kind.value_type if types.is_dictionary(kind) else kind


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind))
