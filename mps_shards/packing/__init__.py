"""Files -> shards: list a folder, plan the shards, have each made, then index and manifest.

Monopoly: making shard sets. Never imports torch, so that packing starts at once.
May import: vision (its torch-free files), shards, storage, errors, metrics.
"""

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mps_shards.packing.pack_report import PackReport
    from mps_shards.packing.shard_writer import Progress
    from mps_shards.packing.sources import Layout
    from mps_shards.packing.sources.listing import Listing

__all__ = ["commit", "pack"]


def pack(
    source: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    layout: "Layout" = "auto",
    shard_size: str | int = "256MB",
    shard_samples: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    keys: Literal["stem", "name"] = "stem",
    split: str | None = None,
    max_size: int | None = None,
    resize: int | None = None,
    format: Literal["keep", "jpeg", "webp", "png"] = "keep",
    quality: int | None = None,
    upright: bool = False,
    to_8bit: str | None = None,
    background: str | None = None,
    drop_alpha: bool = False,
    check: bool = True,
    palette: str | PathLike[str] | None = None,
    ignore_index: int | None = None,
    drop_duplicates: bool = False,
    on_bad_sample: Literal["fail", "skip"] = "fail",
    overwrite: bool = False,
    work_dir: str | PathLike[str] | None = None,
    dry_run: bool = False,
    distributor: Literal["local", "ray", "array"] = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    task_index: int | None = None,
    num_tasks: int | None = None,
    on_listing: "Callable[[Listing], None] | None" = None,
    on_progress: "Progress | None" = None,
) -> "PackReport":
    """Pack a folder of images into a shard set, or one for each split. The source is never changed.

    Equal folders and options give equal bytes, whoever does the work, interrupted or not. The manifest is written last:
    a folder without one is not finished. If packing is interrupted or fails, the shards that are finished stay, and the
    same call goes on from there, after checking them; if there are none yet, `out` is left as it was.

    Args:
        source: class folders (``cat/x.jpg``), split and class folders (``train/cat/x.jpg``), a flat folder; a list of
            paths and labels (CSV, TSV, JSONL), or a folder with Hugging Face metadata; image and mask pairs, Pascal
            VOC, Cityscapes or COCO instances.
        out: an absent or empty folder, or an unfinished pack of the same images with the same options; by default
            `source`, or the folder of the list, with ``-shards`` appended. Or the URL of such a folder in a store
            (s3://, gs://, az://, what fsspec writes to): nothing is locked there, but packs of two plans never mix.
        layout: how to read the source; "auto" finds out.
        shard_size: bytes of a shard at most, as ``"256MB"``, ``"1GiB"`` or a number.
        shard_samples: samples of a shard instead.
        shuffle: mix the samples over the shards, by `seed`; else they keep the order of their paths.
        keys: "stem" names samples by path without extension; "name" keeps it, for ``a.jpg`` beside ``a.png``.
        split: parts to cut the images into, as ``"train=0.9,val=0.1"``: drawn by `seed`, with the same share of every
            class; each becomes a shard set of its own.
        max_size: pixels of the longer side at most. Only what is larger is encoded anew, resized by a Lanczos filter;
            masks by nearest neighbour. Of the metadata only the colour profile and the orientation stay.
        resize: pixels of the shorter side exactly, instead.
        format: encode images so, unless they are already; "keep" leaves files as they are where nothing else changes
            them, and makes PNG of what is neither JPEG, PNG nor WebP where something does.
        quality: 1 to 100, of what is encoded as JPEG or WebP, 90 by default. Together with a format, images that have
            it already are encoded anew, too.
        upright: turn images, and masks with them, as their EXIF orientation says; the loader does not apply it. A mask
            belongs to the pixels as they are stored, unless only the upright image has its size.
        to_8bit: how 16-bit and float images become 8-bit ones, which are refused otherwise: "scale" spreads each file's
            own range of values over 0..255, "window=LOW,HIGH" that range, and "clip" cuts off values beyond 0..255.
        background: colour to put behind transparent pixels, as ``"white"`` or ``"#808080"``. Images with transparent
            pixels are refused without it or `drop_alpha`.
        drop_alpha: keep the colours that lie under transparent pixels, which the loader then delivers; also leaves out
            a fourth channel that is not transparency.
        check: decode every image and mask, and hold label ids against the number of classes: a file that could not be
            read in training fails now. Otherwise only headers are looked at.
        palette: what the colours of RGB masks mean: "voc", "cityscapes", or a file with red, green, blue and a name on
            each line, a CSV with columns r, g, b and perhaps id and name, or JSON ``{"name": [r, g, b]}``.
        ignore_index: label id of masks that is no class; by default what the layout or the palette says.
        drop_duplicates: of images that are the same byte for byte, pack the first only, by split and path. Otherwise
            they are packed, and reported.
        on_bad_sample: "fail" names the file that cannot become a sample; "skip" leaves it out, counts it, and lists it
            in ``out/skipped.jsonl``. A file that cannot be read at all fails either way.
        overwrite: replace the pack that lies in `out`, finished or not.
        work_dir: where shards for a store are made, one for each worker at a time; by default the system's temporary
            folder.
        dry_run: write nothing, only report what would be.
        distributor: "local" threads; "ray", a cluster whose machines all see `source` and a folder `out`; or "array",
            one task of many, after which `commit` joins the shards.
        workers: threads of the local and array distributors, one shard each at a time; by default the cores, 8 at most.
        ray_address: of the Ray cluster; by default the one that Ray finds, or a new one on this machine.
        task_index: which task of the array this is, from 0.
        num_tasks: how many tasks the array has.
        on_listing: told what was found, before anything is written.
        on_progress: told (samples, bytes) done since its last call, from the worker threads.

    Raises:
        ConfigError: an option cannot work, no images, or `out` holds something else.
        DataError: a file is empty, no image, changed meanwhile, or shares a key with another.
        StorageError: something cannot be read or written.
    """
    import os
    from pathlib import Path

    from mps_shards.packing.pack_options import PackOptions
    from mps_shards.packing.palette import find_palette
    from mps_shards.packing.run import run_pack
    from mps_shards.packing.sample_fields import FieldOptions
    from mps_shards.packing.sources.detection import source_folder
    from mps_shards.storage.location import locate_out
    from mps_shards.vision.rgb_conversion import RgbConversion

    images = Path(source)
    place = locate_out(out) if out is not None else Path(os.path.abspath(source_folder(images)) + "-shards")
    options = PackOptions(
        layout=layout,
        shard_size=shard_size,
        shard_samples=shard_samples,
        shuffle=shuffle,
        seed=seed,
        keys=keys,
        split=split,
        fields=FieldOptions(
            max_size=max_size,
            resize=resize,
            format=format,
            quality=quality,
            upright=upright,
            conversion=RgbConversion(to_8bit=to_8bit, background=background, drop_alpha=drop_alpha),
            check=check,
            palette=find_palette(os.fspath(palette)) if palette is not None else None,
            ignore_index=ignore_index,
        ),
        drop_duplicates=drop_duplicates,
        on_bad_sample=on_bad_sample,
        overwrite=overwrite,
        work_dir=Path(work_dir) if work_dir is not None else None,
        distributor=distributor,
        workers=workers,
        ray_address=ray_address,
        task_index=task_index,
        num_tasks=num_tasks,
    )
    return run_pack(
        images,
        place,
        options,
        dry_run=dry_run,
        on_listing=on_listing or (lambda listing: None),
        on_progress=on_progress or (lambda samples, size: None),
    )


def commit(out: str | PathLike[str]) -> "PackReport":
    """Make shard sets of what the tasks of an array (`pack` with ``distributor="array"``) have made in `out`.

    Raises:
        ConfigError: a task is still running, or `out` holds no unfinished pack.
        StorageError: shards are missing; the message names them.
    """
    from mps_shards.packing.run import commit_pack
    from mps_shards.storage.location import locate_out

    return commit_pack(locate_out(out))
