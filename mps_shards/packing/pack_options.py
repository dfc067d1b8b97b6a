"""Every option of `pack`, declared once: the command line, the Python API and the manifest are derived from it.

No slow package is imported, so that ``mps-shards pack --help`` answers at once.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mps_shards.errors import ConfigError
from mps_shards.packing import option_values
from mps_shards.packing.option import Declared, check_values, declared, declared_in, unknown_option
from mps_shards.storage.cores import available_cores

__all__ = [
    "Executor",
    "Format",
    "ImageOptions",
    "Keys",
    "Layout",
    "MaskOptions",
    "OnBadSample",
    "PackOptions",
    "ShardOptions",
    "SourceOptions",
    "WorkOptions",
]

Executor: TypeAlias = Literal["local", "ray", "array"]
Format: TypeAlias = Literal["keep", "jpeg", "webp", "png"]
Keys: TypeAlias = Literal["stem", "name"]
Layout: TypeAlias = Literal[
    "auto", "classes", "splits", "flat", "list", "metadata", "pairs", "voc", "cityscapes", "coco", "pets", "imagenet"
]
OnBadSample: TypeAlias = Literal["fail", "skip"]
Targets: TypeAlias = Literal["class", "number", "multi-label", "caption"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How the source is read."""

    layout: Layout = declared("auto", "How to read the source; 'auto' recognises it.", choices=Layout)
    images: str | None = declared(
        None,
        "Folder of the images that --masks belong to, inside SOURCE, or a pattern with a placeholder: images/{id}.jpg.",
        metavar="FOLDER|PATTERN",
    )
    masks: str | None = declared(
        None, "Folder of the masks, or a pattern: masks/{id}_mask.png.", metavar="FOLDER|PATTERN"
    )
    image_column: str | None = declared(None, "Column of a list that names the images.", metavar="NAME")
    label_column: tuple[str, ...] = declared(
        (),
        "Column of a list with the labels. Given several times, a sample has several labels, or several numbers.",
        metavar="NAME",
        several=True,
    )
    split_column: str | None = declared(None, "Column of a list that names the split of an image.", metavar="NAME")
    mask_column: str | None = declared(None, "Column of a list that names the masks.", metavar="NAME")
    root: str | None = declared(
        None,
        "Folder that relative paths in a list begin from.",
        metavar="FOLDER",
        shown_default="the folder of the list",
    )
    suffix: str | None = declared(None, "Text to append to every path in a list, such as .jpg.", metavar="TEXT")
    separator: str | None = declared(
        None,
        "Text between several labels in one cell of a list; makes the set multi-label.",
        metavar="TEXT",
    )
    targets: Targets | None = declared(
        None,
        "What the labels of a list become: one class, numbers to predict, several classes, or a caption.",
        choices=Targets,
        shown_default="class, if the labels leave no doubt",
    )
    classes: str | None = declared(
        None,
        "File with one class name per line, or a shard set, that fixes the list and the order of the classes; a class "
        "that is not in the list is an error.",
        metavar="FILE|SET",
    )
    numeric_order: bool = declared(
        False, "Order classes whose names are all numbers by value (0, 1, 2, 10), not as text (0, 1, 10, 2)."
    )
    keys: Keys = declared(
        "stem",
        "Make keys from paths without the extension (stem), or with it (name) if a.jpg and a.png may share a folder.",
        choices=Keys,
    )
    on_bad_sample: OnBadSample = declared(
        "fail",
        "What to do with a file that cannot become a sample: stop and name it, or leave it out and list it in "
        "OUT/skipped.jsonl. A file that cannot be read from disk stops the pack either way.",
        choices=OnBadSample,
    )

    def __post_init__(self) -> None:
        check_values(self)
        if (self.images is None) != (self.masks is None):
            raise ConfigError("images and masks go together: give the folders or patterns of both")
        patterns = [text for text in (self.images, self.masks) if text is not None]
        if "{id}" in "".join(patterns) and not all(text.count("{id}") == 1 for text in patterns):
            raise ConfigError(
                f"write {{id}} once in images and masks, in place of what both names share, not {patterns}"
            )
        if self.separator == "":
            raise ConfigError("separator must not be empty")
        if self.separator is not None and self.targets not in (None, "multi-label"):
            raise ConfigError(f"a separator makes several labels, so targets cannot be {self.targets!r}")

    @property
    def is_list(self) -> bool:
        """Whether an option is given that only applies to a list of images."""
        columns = (self.image_column, self.split_column, self.mask_column, self.root, self.suffix, self.separator)
        return bool(self.label_column or self.targets) or any(each is not None for each in columns)

    @property
    def skip_bad(self) -> bool:
        """Whether files that cannot become a sample are left out."""
        return self.on_bad_sample == "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """Changes to images before they are stored. An image that needs no change keeps its bytes."""

    max_size: int | None = declared(
        None,
        "Pixels that the longer side of an image may have; larger images are reduced by a Lanczos filter, masks by "
        "nearest neighbour.",
        metavar="PX",
        least=1,
    )
    resize: int | None = declared(None, "Pixels of the shorter side of every image.", metavar="PX", least=1)
    format: Format = declared(
        "keep", "Format of images; images that have this format already are not encoded again.", choices=Format
    )
    quality: int | None = declared(
        None,
        "JPEG or WebP quality of images that are re-encoded. Together with a format, images that have this format "
        "already are encoded again too.",
        least=1,
        most=100,
        shown_default="90",
    )
    upright: bool = declared(
        False, "Turn images and their masks by the EXIF orientation, which the loader does not apply."
    )
    to_8bit: str | None = declared(
        None,
        "How 16-bit and float images become 8-bit images; such images are refused by default. 'scale' maps the range "
        "of values of each file to 0..255, 'window=LOW,HIGH' maps LOW..HIGH to 0..255, 'clip' clips values to 0..255.",
        metavar="HOW",
        parser=option_values.parse_to_8bit,
    )
    background: str | None = declared(
        None,
        "Colour to put behind transparent pixels (white, #808080). Images with transparent pixels are refused unless "
        "--background or --drop-alpha is given.",
        metavar="COLOUR",
        parser=option_values.parse_background,
    )
    drop_alpha: bool = declared(
        False, "Keep the colours under transparent pixels; also leave out a fourth channel that is not transparency."
    )
    tiles: bool = declared(
        False,
        "Rewrite JPEGs without loss so that a crop can be decoded alone: training reads the same pixels in less time. "
        "The bytes are no longer those of the source; progressive files become baseline.",
    )
    check: bool = declared(
        True,
        "Decode every image and mask, so that a damaged file is found now and not during training.",
        positive=True,
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.max_size is not None and self.resize is not None:
            raise ConfigError("max_size bounds the longer side and resize sets the shorter side: give one of them")
        if self.quality is not None and (self.format == "png" or not self.alters):
            raise ConfigError(
                "quality needs images that are re-encoded as JPEG or WebP: give a format, a size or upright too"
            )

    @property
    def alters(self) -> bool:
        """Whether some images will be encoded again."""
        resizes = self.max_size or self.resize
        converts = self.to_8bit or self.background or self.drop_alpha
        return bool(resizes or self.upright or self.format != "keep" or converts)

    @property
    def decodes(self) -> bool:
        """Whether these options require that images are decoded."""
        return self.check or self.alters or self.tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """What the values of masks mean."""

    palette: str | None = declared(
        None,
        "Meaning of the colours of RGB masks: 'voc', 'cityscapes', or a file with red, green, blue and a name on each "
        'line, a CSV with columns r, g, b and optionally id and name, or JSON {"name": [r, g, b]}.',
        metavar="NAME|FILE",
        parser=option_values.parse_palette,
    )
    ignore_index: int | None = declared(
        None,
        "Label id of masks that is not a class.",
        least=0,
        most=65535,
        shown_default="the one that the source or the palette states",
    )
    map_ids: str | None = declared(
        None,
        "Change the label ids of masks: 'binary' (every id above 0 becomes 1), 'zero-as-ignore' (0 becomes 255, 1 "
        "becomes 0, 2 becomes 1 ...), 'cityscapes' (raw ids become the 19 train ids), pairs such as 255=1,7=0, or a "
        "file with one such pair per line.",
        metavar="NAME|PAIRS|FILE",
        parser=option_values.parse_id_map,
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOptions:
    """Which samples go into which shard."""

    shard_size: str | int = declared(
        "256MB", "Largest size of a shard, such as 256MB or 1GiB.", metavar="SIZE", parser=option_values.parse_size
    )
    shard_samples: int | None = declared(None, "Number of samples of a shard, instead of a size.", metavar="N", least=1)
    shuffle: bool = declared(
        True, "Mix the samples over the shards; otherwise they keep the order of the source.", positive=True
    )
    seed: int = declared(0, "Seed of the shuffle and of the random split.", least=0, most=(1 << 64) - 1)
    split: str | None = declared(
        None,
        "Cut the images at random into named sets, with the same share of every class in each: train=0.9,val=0.1, or "
        "80/20, or 0.8 (train and val). Shares that add up to less than 1 leave the other images out.",
        metavar="NAME=SHARE,...",
        joined=",",
        parser=option_values.parse_shares,
    )
    subset: float | None = declared(
        None,
        "Share of the images to pack, drawn at random with the same share of every class, for a quick trial: 0.1.",
        metavar="SHARE",
        parser=option_values.parse_subset,
    )
    drop_duplicates: bool = declared(
        False, "Pack only the first of several identical images; otherwise they are packed and reported."
    )

    def __post_init__(self) -> None:
        check_values(self)
        option_values.parse_size(self.shard_size)
        if self.split is not None:
            option_values.parse_shares(self.split)
        if self.subset is not None:
            option_values.parse_subset(self.subset)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """Where and how the shards are made; none of these options changes a byte of the shards."""

    overwrite: bool = declared(False, "Replace the finished or unfinished pack in OUT.")
    append: bool = declared(False, "Add the images that the finished pack in OUT lacks, as new shards beside its own.")
    work_dir: str | None = declared(
        None, "Folder in which shards for a URL are made before the upload.", metavar="DIR", shown_default="TMPDIR"
    )
    executor: Executor = declared(
        "local",
        "What makes the shards: threads on this machine, a Ray cluster whose machines all see SOURCE and OUT, or the "
        "tasks of an array job, after which --commit joins the shards. All executors write the same bytes.",
        choices=Executor,
    )
    workers: int | None = declared(
        None,
        "Number of threads, each of which makes one shard at a time.",
        metavar="N",
        least=1,
        shown_default="cores, up to 8",
    )
    ray_address: str | None = declared(
        None,
        "Address of the Ray cluster (auto, host:port).",
        shown_default="the environment variable RAY_ADDRESS, or a new local cluster",
    )
    task_index: int | None = declared(
        None,
        "Number of this task of the array job, from 0.",
        metavar="N",
        least=0,
        shown_default="the value from SLURM",
    )
    num_tasks: int | None = declared(
        None, "Number of tasks of the array job.", metavar="N", least=1, shown_default="the value from SLURM"
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.ray_address is not None and self.executor != "ray":
            raise ConfigError(f"ray_address needs executor 'ray', not {self.executor!r}")
        if self.executor != "array":
            if self.task_index is not None or self.num_tasks is not None:
                raise ConfigError(f"task_index and num_tasks go with executor 'array', not {self.executor!r}")
            return
        if self.task_index is None or self.num_tasks is None:
            raise ConfigError(
                "executor 'array' needs task_index and num_tasks, which only array jobs of SLURM set by themselves"
            )
        if self.task_index >= self.num_tasks:
            raise ConfigError(
                f"task_index must be from 0 to {self.num_tasks - 1} for {self.num_tasks} tasks, not {self.task_index}"
            )
        if self.overwrite:
            raise ConfigError(
                "tasks of an array job cannot overwrite, as they would remove each other's shards; remove the old set"
            )

    @property
    def threads(self) -> int:
        """Number of shards that this machine makes at the same time."""
        return self.workers or min(8, available_cores())


# Options that every manifest records, in this order. Others are recorded only if they differ from their defaults.
_RECORDED = (
    *("shard_size", "shard_samples", "keys", "drop_duplicates", "split"),
    *("max_size", "resize", "format", "quality", "upright", "check", "palette"),
)
# Options that other fields of the manifest hold.
_NOT_RECORDED = ("shuffle", "seed", "ignore_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """All options of a pack, in bundles. `PackOptions.of` makes it from option names."""

    read: SourceOptions = dataclasses.field(default_factory=SourceOptions)
    images: ImageOptions = dataclasses.field(default_factory=ImageOptions)
    masks: MaskOptions = dataclasses.field(default_factory=MaskOptions)
    shards: ShardOptions = dataclasses.field(default_factory=ShardOptions)
    work: WorkOptions = dataclasses.field(default_factory=WorkOptions)

    @classmethod
    def of(cls, **options: Any) -> "PackOptions":
        """Make options from their names: ``PackOptions.of(max_size=512, workers=4)``.

        Raises:
            ConfigError: a value is not accepted, or options contradict each other.
            TypeError: there is no option of this name.
        """
        known = {each.name: bundle for bundle, each, _ in cls.declared()}
        for name in options:
            if name not in known:
                raise unknown_option(name, known)
        bundles = {
            bundle: kind(**{name: value for name, value in options.items() if known[name] == bundle})
            for bundle, kind in BUNDLES.items()
        }
        return cls(**bundles)

    @classmethod
    def declared(cls) -> Iterator[tuple[str, dataclasses.Field[Any], Declared]]:
        """Yield every option with the name of its bundle."""
        for bundle, kind in BUNDLES.items():
            for each, about in declared_in(kind):
                yield bundle, each, about

    def recorded(self, palette_digest: str | None) -> dict[str, str | int | float | bool | None]:
        """Return the options that change bytes of the shards, as the manifest records them.

        Args:
            palette_digest: SHA-256 of the palette's colours, which is recorded instead of the palette's name.
        """
        values = {each.name: getattr(getattr(self, bundle), each.name) for bundle, each, _ in self.declared()}
        record = {name: values[name] for name in _RECORDED}
        record |= {"shard_size": option_values.parse_size(self.shards.shard_size), "palette": palette_digest}
        for bundle, each, _ in self.declared():
            # the samples show how the source was read, and the executor changes no byte
            decides = bundle not in ("read", "work") and each.name not in (*_RECORDED, *_NOT_RECORDED)
            if decides and (value := values[each.name]) != each.default:
                record[each.name] = value if isinstance(value, str | int | float | bool) else str(value)
        return record


BUNDLES: dict[str, Any] = {each.name: each.default_factory for each in dataclasses.fields(PackOptions)}
