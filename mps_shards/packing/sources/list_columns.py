"""The role of each column of a list, recognised by the name of the column, or else by its content."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.file_tree import is_image
from mps_shards.packing.sources.folder_names import SPLIT_WORDS
from mps_shards.packing.sources.image_finder import ImageFinder
from mps_shards.packing.sources.listing import Column, Doubt

__all__ = ["PATH_COLUMNS", "TRUE", "Roles", "Targets", "has_label_column", "roles_of"]

Targets: TypeAlias = Literal["class", "one-hot", "multi-label", "number", "caption"]

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "filepaths", "image", "image_path")
_ID_COLUMNS = (
    *("image_id", "img", "image_name", "img_name", "imageid", "img_id", "id_code", "image_file", "img_path", "imgpath"),
    *("image_filename", "photo", "picture", "fname", "name", "id", "isic_id", "uuid", "key"),
)
_LABEL_COLUMNS = (
    *("label", "class", "category", "target", "labels", "class_name", "classes", "label_name", "category_name"),
    *("class_id", "label_id", "class_label", "species", "breed", "diagnosis", "dx", "y", "tags", "tag", "disease"),
    *("variety", "cell_type", "attribute_ids", "emotion", "classname", "finding", "finding_label", "finding_labels"),
)
_MASK_COLUMNS = ("mask", "mask_path", "mask_file", "mask_file_name", "mask_filename", "annotation", "segmentation")
_MASK_WORDS = ("mask", "seg", "annot", "gt", "label_map", "labelmap")
_SPLIT_COLUMNS = ("split", "subset")
_SPLIT_LIKE = ("set", "phase", "partition", "usage", "data_set", "dataset", "mode", "fold_name", "stage")
_IS_SPLIT = re.compile(r"(?:is_?)?(train|training|val|valid|validation|test|testing)(?:_?set)?")
_ROWS = 40  # number of rows whose cells are compared with the names of images
_BINARY = frozenset(["0", "1", "0.0", "1.0"])
_FLAGS = _BINARY | frozenset(["true", "false", "yes", "no"])
TRUE = frozenset(["1", "1.0", "true", "yes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The names of the columns that hold the image, labels, split and mask of each row of a list.

    Attributes:
        flags: the two splits of a column that is true or false: (split if true, split if false).
        targets: kind of targets that the labels become.
        doubts: ambiguities that the user must settle.
    """

    image: str
    labels: tuple[str, ...] = ()
    split: str | None = None
    mask: str | None = None
    flags: tuple[str, str] | None = None
    targets: Targets = "class"
    doubts: tuple[Doubt, ...] = ()

    def shown(self, columns: Sequence[str]) -> tuple[Column, ...]:
        """Return every column with its role in words."""
        roles = {self.image: "image", self.split: "split", self.mask: "mask"}
        roles |= dict.fromkeys(self.labels, "label" if self.targets != "caption" else "caption")
        return tuple(Column(name, roles.get(name, "kept as metadata")) for name in columns)


def has_label_column(columns: Iterable[str]) -> bool:
    """Whether a column is named like labels."""
    return any(_spelled(name) in _LABEL_COLUMNS for name in columns)


def roles_of(
    rows: Sequence[Mapping[str, Any]],
    options: SourceOptions,
    finder: ImageFinder,
    *,
    where: str,
    only_named: bool = False,
) -> Roles:
    """Return the roles of the columns of a list, by the options, the names of the columns and their cells.

    Args:
        rows: first rows of the list, from which columns are recognised.
        where: name of the list for messages.
        only_named: whether only a column that is named like labels may be the label.

    Raises:
        ConfigError: no column names images, or an option names a column that does not exist.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for option in (options.image_column, options.split_column, options.mask_column, *options.label_column):
        if option is not None and option not in columns:
            raise ConfigError(f"{where} has no column {option!r}; it has {', '.join(columns)}")
    spelled = {_spelled(name): name for name in reversed(columns)}
    image = options.image_column or _image_column(columns, spelled, rows, finder, where)
    free = [name for name in columns if name != image]
    mask = options.mask_column or _mask_column(spelled, free, rows, finder)
    free = [name for name in free if name != mask]
    split, flags = _split_column(spelled, [name for name in free if name not in options.label_column], rows, options)
    free = [name for name in free if name != split]
    if only_named and not options.label_column:
        free = [name for name in free if _spelled(name) in _LABEL_COLUMNS]
    labels, targets, doubts = _label_columns(spelled, free, rows, options, has_mask=mask is not None)
    if options.image_column is None and options.mask_column is None:
        doubts += tuple(_doubts_about_images(image, [name for name in free if name not in labels], rows, finder))
    return Roles(image=image, labels=labels, split=split, mask=mask, flags=flags, targets=targets, doubts=doubts)


def _spelled(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _first(names: Sequence[str], spelled: Mapping[str, str], free: Sequence[str]) -> str | None:
    return next((spelled[name] for name in names if spelled.get(name) in free), None)


def _image_column(
    columns: Sequence[str],
    spelled: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    finder: ImageFinder,
    where: str,
) -> str:
    known = _first(PATH_COLUMNS, spelled, columns)
    if known is not None:
        return known
    ordered = [name for name in map(spelled.get, _ID_COLUMNS) if name is not None]
    best, share = "", 0.0
    for name in dict.fromkeys([*ordered, *(name for name in columns if _spelled(name) not in _LABEL_COLUMNS)]):
        found = _share_of_images(name, rows, finder)
        if found > share:
            best, share = name, found
    if share < 0.5:
        raise ConfigError(
            f"{where}: no column names the image files (columns: {', '.join(columns)}); name it with "
            "--image-column, and the place of the images with --root and --suffix"
        )
    return best


def _share_of_images(column: str, rows: Sequence[Mapping[str, Any]], finder: ImageFinder) -> float:
    cells = [row[column] for row in rows if row.get(column) not in (None, "")]
    cells = cells[:: max(1, len(cells) // _ROWS)][:_ROWS]
    found = 0
    for cell in cells:
        try:
            found += finder.path_of(cell) is not None
        except DataError:  # several files fit, so the column does name images
            found += 1
    return found / len(cells) if cells else 0.0


def _doubts_about_images(
    image: str, free: Sequence[str], rows: Sequence[Mapping[str, Any]], finder: ImageFinder
) -> Iterator[Doubt]:
    """A doubt about a further column that names images, which would only be kept as text."""
    for name in free:
        cells = [str(row[name]) for row in rows if row.get(name) not in (None, "")]
        if 2 * sum(map(is_image, cells)) >= len(cells) > 0 and _share_of_images(name, rows, finder) >= 0.5:
            yield Doubt(
                f"column {name!r} names images too, which would be left out",
                f"--mask-column {name} makes them masks, --image-column {image} leaves them out",
                "content",
            )
            return


def _mask_column(
    spelled: Mapping[str, str], free: Sequence[str], rows: Sequence[Mapping[str, Any]], finder: ImageFinder
) -> str | None:
    known = _first(_MASK_COLUMNS, spelled, free)
    if known is not None:
        return known
    named = [name for name in free if any(word in name.lower() for word in _MASK_WORDS)]
    return next((name for name in named if _share_of_images(name, rows, finder) >= 0.5), None)


def _split_column(
    spelled: Mapping[str, str], free: Sequence[str], rows: Sequence[Mapping[str, Any]], options: SourceOptions
) -> tuple[str | None, tuple[str, str] | None]:
    """Return the column of splits, and the two splits that it tells apart if it holds flags."""
    known = options.split_column or _first(_SPLIT_COLUMNS, spelled, free)
    if known is not None:
        return known, _flag_splits(known) if _values(known, rows) <= _FLAGS else None
    for name in free:
        values = _values(name, rows)
        is_word = bool(values) and all(value in SPLIT_WORDS for value in values)
        likely = name.lower().replace(" ", "_") in _SPLIT_LIKE
        if is_word and (likely or len(values) > 1):
            return name, None
        if values and values <= _FLAGS and (flags := _flag_splits(name)):
            return name, flags
    return None, None


def _flag_splits(column: str) -> tuple[str, str] | None:
    """Return the splits of images for which a column such as ``is_valid`` is true and false; None for others."""
    match = _IS_SPLIT.fullmatch(column.strip().lower())
    if not match:
        return None
    split = SPLIT_WORDS[match[1]]
    return split, "test" if split == "train" else "train"


def _values(column: str, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {_text(row.get(column)) for row in rows} - {""}


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip().lower()


def _label_columns(
    spelled: Mapping[str, str],
    free: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    options: SourceOptions,
    *,
    has_mask: bool,
) -> tuple[tuple[str, ...], Targets, tuple[Doubt, ...]]:
    if options.label_column:
        return options.label_column, _targets(options.label_column, rows, options), ()
    if has_mask:
        return (), "class", ()
    known = _first(_LABEL_COLUMNS, spelled, free)
    if known is not None:
        return (known,), _targets((known,), rows, options), ()
    flags = [name for name in free if (values := _values(name, rows)) and values <= _BINARY]
    if len(flags) >= 2 and len(flags) >= len(free) - 4:
        return tuple(flags), _targets(tuple(flags), rows, options), ()
    likely = [name for name in free if _spelled(name) not in (*_SPLIT_COLUMNS, *_SPLIT_LIKE)]
    repeating = [name for name in likely if len(_values(name, rows)) < len(rows) or len(rows) < 3]
    if len(free) == len(likely) == 1 and (repeating or options.targets):
        return (likely[0],), _targets((likely[0],), rows, options), ()
    if not free:
        return (), "class", ()
    return (
        (),
        "class",
        (
            Doubt(
                f"no column is recognised as the label (columns: {', '.join(free)}), so the images would get no label",
                "name the column with --label-column, or pack the folder without labels (--layout flat)",
                "content",
            ),
        ),
    )


def _targets(labels: Sequence[str], rows: Sequence[Mapping[str, Any]], options: SourceOptions) -> Targets:
    """Return the kind of targets, by the options or by the kind of the cells."""
    if options.separator is not None:
        return "multi-label"
    if options.targets is not None:
        is_one_hot = options.targets == "class" and len(labels) > 1
        return "one-hot" if is_one_hot else options.targets
    if len(labels) > 1:
        ones = [sum(_text(row.get(name)) in TRUE for name in labels) for row in rows]
        binary = all(_values(name, rows) <= _BINARY for name in labels)
        return "one-hot" if binary and all(count == 1 for count in ones) else "multi-label"
    return "multi-label" if any(isinstance(row.get(labels[0]), list) for row in rows) else "class"
