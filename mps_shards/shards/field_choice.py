"""Choice of the fields of a sample that are its image and its target, for sets that other tools wrote.

Examples are `image="jpg;png"`, `target="cls"`, `target="seg.png"` and `target="json:label"`. Alternatives are separated
by ";"; the first one that a sample holds is taken, as in webdataset. Fields that are not named are guessed if only one
guess is possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import msgspec

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import IMAGE_FIELDS, MASK_FIELD, Buffer, RawSample
from mps_shards.shards.target_values import caption, checked_ids, json_value, numbers

__all__ = ["CAPTION_FIELD", "NO_TARGET", "FieldChoice", "is_mask"]

_MAX_LABEL, _MAX_JSON = 256, 1 << 24  # most bytes that are read of a label, and of a JSON or text field
CAPTION_FIELD: Final = "txt"
_KINDS: Final = ("multilabel", "regression", "captions")
_FIELD_OF: Final[Mapping[Task, str]] = MappingProxyType(
    {
        "classification": "cls",
        "multilabel": "json",
        "regression": "json",
        "captions": CAPTION_FIELD,
        "segmentation": MASK_FIELD,
        "unlabeled": "none",
    }
)
NO_TARGET: Final = "none"  # value of `target` that makes samples unlabeled, whatever fields they hold


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChoice:
    """The fields of a sample that are its image and its target.

    Attributes:
        image: field names, in order of preference. If empty, the image is the only field with the name of an image
            format.
        target: field names, or names such as ``json:label`` for a value in a JSON field, in order of preference. If
            empty, the target is ``cls`` or ``mask.png``, or a caption in ``txt`` if the sample has neither.
        classes: class numbers by class name, for labels that are names.
        kind: task of the targets, if their field names do not show it: "multilabel", "regression" or "captions".
        columns: names of the numbers in the JSON field, for "regression".
        keeps_all: leave samples unchanged, with all their fields.
    """

    image: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict, repr=False)
    kind: Task | None = None
    columns: tuple[str, ...] = ()
    keeps_all: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "regression") != bool(self.columns):
            raise ConfigError(
                f"columns are needed for regression, and only for regression, but columns={self.columns} were given "
                f"with task={self.kind}"
            )
        if len({_kind(name) for name in self.target}) > 1:
            raise ConfigError(
                f"target={';'.join(self.target)!r} names both masks and labels, but a set has one kind of target"
            )

    @classmethod
    def parsed(
        cls, image: str | None, target: str | None, *, task: Task | None = None, columns: Sequence[str] = ()
    ) -> "FieldChoice | None":
        """Parse a user's choice; return None if the user chose nothing.

        Args:
            image: field names of the image, separated by ";".
            target: field names of the target, separated by ";".
            task: task of the targets, if their field names do not show it.
            columns: names of the numbers in the JSON field, which make the task "regression".

        Raises:
            ConfigError: a name is empty, masks and labels are mixed, or the names do not fit the task.
        """
        if image is None and target is None and task is None and not columns:
            return None
        names = _names("target", target)
        task = task or ("regression" if columns else None)
        if task in ("classification", "segmentation", "unlabeled"):
            if names and _kind(names[0]) != task:
                raise ConfigError(f"target={target!r} is for {_kind(names[0])}, not for {task}")
            names = names or (_FIELD_OF[task],)
            task = None
        return cls(image=_names("image", image), target=names, kind=task, columns=tuple(columns))

    @classmethod
    def recorded(cls, options: Mapping[str, Any]) -> "FieldChoice | None":
        """Return the choice that the options in a manifest record; None if they record none."""
        image, target = (options.get(name) for name in ("image", "target"))
        return cls.parsed(*(value if isinstance(value, str) else None for value in (image, target)))

    def over(self, other: "FieldChoice | None") -> "FieldChoice":
        """Return this choice; an image or target that it leaves open is taken from another choice."""
        if other is None:
            return self
        image = self.image or other.image
        if self.target or self.kind:
            return replace(self, image=image)
        return replace(other, image=image, classes=self.classes, keeps_all=self.keeps_all)

    def naming(self, classes: tuple[str, ...]) -> "FieldChoice":
        """Return this choice for a set with these class names."""
        return replace(self, classes={name: number for number, name in enumerate(classes)})

    def of_kind(self, task: Task, columns: tuple[str, ...]) -> "FieldChoice":
        """Return this choice for a set whose manifest records this task and these columns."""
        return replace(self, kind=task, columns=columns) if task in _KINDS else self

    @property
    def task(self) -> Task | None:
        """The task of the chosen target; None if the target is guessed."""
        return self.kind or (_kind(self.target[0]) if self.target else None)

    def kind_of(self, target: str | None) -> Task:
        """Return the task of a set whose samples have this target; None stands for samples without a target."""
        return self.kind or ("unlabeled" if target is None else _kind(target))

    @property
    def has_other_targets(self) -> bool:
        """Whether the targets are multi-label class ids, regression numbers or captions."""
        return self.task in _KINDS

    def options(self) -> dict[str, str | None]:
        """Return the options by which a manifest records the choice."""
        return {"image": ";".join(self.image) or None, "target": ";".join(self.target) or None}

    def label_bytes(self) -> dict[str, int]:
        """Return the names of the fields that may hold the label, and how many bytes of each to read at most."""
        names = self.target or (_FIELD_OF[self.kind or "classification"],)
        most = _MAX_JSON if self.has_other_targets else _MAX_LABEL
        found = {name.partition(":")[0]: _MAX_JSON if ":" in name else most for name in names if not is_mask(name)}
        return found if self.target or self.kind else {**found, CAPTION_FIELD: _MAX_JSON}

    def image_field(self, raw: RawSample) -> str:
        """Return the name of the image's field.

        Raises:
            DecodeError: the sample has no image, or several images and no choice.
        """
        for name in self.image:
            if name in raw.fields:
                return name
        if self.image:
            raise _missing(raw, "image", self.image)
        taken = {*self.target, MASK_FIELD}
        found = [name for name in raw.fields if name in IMAGE_FIELDS and name not in taken]
        if len(found) != 1:
            count = f"{len(found)} images" if found else "no image"
            # fields such as "a.jpg" are never guessed: the dot may be part of a file name, so that images share a key
            named = found or [name for name in raw.fields if _extension(name) in IMAGE_FIELDS and name not in taken]
            hint = f'; name the field of the image, such as image="{named[0]}"' if named else ""
            raise DecodeError(f"{raw} holds {count} (fields: {raw.listed_fields()}){hint}")
        return found[0]

    def target_field(self, raw: RawSample) -> str | None:
        """Return the name in `target` that a sample has, or the guessed name; None for a sample without a target.

        Raises:
            DecodeError: the sample lacks the chosen targets, or has several targets and none was chosen.
        """
        if self.target == (NO_TARGET,):
            return None
        for name in self.target:
            if name.partition(":")[0] in raw.fields:
                return name
        if self.target:
            raise _missing(raw, "target", self.target)
        guessed = (_FIELD_OF[self.kind],) if self.kind else ("cls", MASK_FIELD)
        found = [name for name in guessed if name in raw.fields]
        if not found and not self.kind and CAPTION_FIELD in raw.fields:  # as img2dataset writes
            return CAPTION_FIELD
        if len(found) > 1:
            held = f"{len(found)} targets (fields: {raw.listed_fields()})"
            raise DecodeError(f'{raw} holds {held}; name the field of the target, such as target="{found[0]}"')
        return found[0] if found else None

    def label(self, raw: RawSample, target: str) -> int:
        """Return the class number in the target of a sample, which is a number or one of the names in `classes`.

        Raises:
            DecodeError: the target is neither.
        """
        if target == "cls" and not self.classes:
            return raw.label()
        name, _, path = target.partition(":")
        content = raw.fields[name]
        value = json_value(raw, name, path) if path else bytes(content[:_MAX_LABEL]).decode("utf-8", "replace").strip()
        if isinstance(value, str):
            if value in self.classes and not value.isdecimal():
                return self.classes[value]
            if value.isascii() and value.isdigit() and len(value) <= 18:
                return int(value)
        elif type(value) is int and 0 <= value < 10**18:
            return value
        known = (
            f"none of the {len(self.classes)} class names" if self.classes else "names need mps-shards index --classes"
        )
        if isinstance(value, list):
            known = "a list of classes needs --task multilabel"
        elif isinstance(value, float):
            known = f"numbers need --columns {path}"
        raise DecodeError(f"{raw}: {target} is {str(value)[:40]!r}, which is not a class number ({known})")

    def value(self, raw: RawSample, target: str) -> Any:
        """Return the target of a sample as this package stores it: a JSON value, a caption, or a class number.

        Raises:
            DecodeError: the target is missing or malformed.
        """
        name, _, path = target.partition(":")
        if self.task == "multilabel":
            found = json_value(raw, name, path or "labels")
            return {"labels": checked_ids(raw, found, target, self.classes, classes=len(self.classes))}
        if self.task == "regression":
            held = raw if name == "json" else replace(raw, fields={"json": raw.fields[name]})
            return dict(zip(self.columns, numbers(held, self.columns), strict=True))
        return caption(raw, name) if self.kind_of(target) == "captions" else self.label(raw, target)

    def class_number(self, raw: RawSample, target: str | None) -> int:
        """Check the target of a sample unless it is a label map, and return its class number; -1 for other kinds.

        Raises:
            DecodeError: the target is malformed.
        """
        if target is None or is_mask(target):
            return -1
        value = self.value(raw, target)
        return value if type(value) is int else -1

    def plain(self, raw: RawSample) -> RawSample:
        """Return the sample with the fields that this package's own sets have: the image, and ``cls`` or ``mask.png``.

        Raises:
            DecodeError: image or target are missing or ambiguous; the error names the sample, its fields and a remedy.
        """
        if self.keeps_all:
            return raw
        image, target = self.image_field(raw), self.target_field(raw)
        kind = _extension(image)
        fields: dict[str, Buffer] = {kind if kind in IMAGE_FIELDS else IMAGE_FIELDS[0]: raw.fields[image]}
        if target is not None and is_mask(target):
            fields[MASK_FIELD] = raw.fields[target]
        elif target is not None and (task := self.kind_of(target)) in _KINDS:
            value = self.value(raw, target)
            fields[_FIELD_OF[task]] = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        elif target is not None:
            fields["cls"] = str(self.label(raw, target)).encode()
        return RawSample(key=raw.key, shard=raw.shard, fields=fields)


def is_mask(target: str) -> bool:
    """Whether a target with this name is a label map."""
    return _kind(target) == "segmentation"


def _kind(target: str) -> Task:
    if target == NO_TARGET:
        return "unlabeled"
    if target == "txt" or target.endswith(".txt"):
        return "captions"
    return "segmentation" if ":" not in target and _extension(target) in IMAGE_FIELDS else "classification"


def _names(argument: str, text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    # webdataset lowers the case of field names; keys in a JSON keep theirs
    parts = [part.strip().partition(":") for part in text.split(";")]
    names = tuple(name.lower().lstrip(".") + colon + path for name, colon, path in parts)
    if not all(name and not name.startswith(":") and not name.endswith(":") for name in names):
        raise ConfigError(
            f'{argument}={text!r} has an empty field name: give one field, such as "png", or several, such as "jpg;png"'
        )
    if argument == "image" and any(":" in name for name in names):
        raise ConfigError(f"image={text!r} names a value in a JSON field, but an image must be a field of its own")
    return names


def _extension(name: str) -> str:
    return name.rpartition(".")[2]


def _missing(raw: RawSample, argument: str, names: tuple[str, ...]) -> DecodeError:
    return DecodeError(f"{raw} has no {' or '.join(names)}, which {argument}= names (fields: {raw.listed_fields()})")
