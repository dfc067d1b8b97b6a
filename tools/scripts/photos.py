"""Real photographs without a download: random crops of photographs in the wheels of scikit-image and scikit-learn.

    python -m tools.scripts.photos OUT                    300 crops of 256x256 in class folders
    python -m tools.scripts.photos OUT --split            OUT/train and OUT/val, from separate parts of each photograph
    python -m tools.scripts.photos OUT --imagenet-like    around 500x375 and 110 KB each, as ImageNet's files are

Each class is one source photograph. Equal arguments give equal bytes for any number of threads.
"""

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

__all__ = ["CLASSES", "COLOUR", "make_imagenet_like", "make_photos"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Source:
    """A source photograph: its package, its file in the package, and the position that divides train from val."""

    package: str
    file: str
    cut: float = 0.5  # share of the width: train is to the left, val to the right, and both show the subject


# Read by path, because skimage.data is slow to import and downloads files that the wheel lacks.
_SOURCES = {
    "astronaut": _Source("skimage", "data/astronaut.png"),
    "cat": _Source("skimage", "data/chelsea.png"),
    "coffee": _Source("skimage", "data/coffee.png"),
    "flower": _Source("sklearn", "datasets/images/flower.jpg", cut=0.46),
    "galaxies": _Source("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": _Source("skimage", "data/motorcycle_left.png"),
    "retina": _Source("skimage", "data/retina.jpg"),
    "rocket": _Source("skimage", "data/rocket.jpg"),
    "temple": _Source("sklearn", "datasets/images/china.jpg", cut=0.33),
    "tissue": _Source("skimage", "data/ihc.png"),
    # the following photographs are grey
    "brick": _Source("skimage", "data/brick.png"),
    "cameraman": _Source("skimage", "data/camera.png", cut=0.45),
    "coins": _Source("skimage", "data/coins.png"),
    "grass": _Source("skimage", "data/grass.png"),
    "gravel": _Source("skimage", "data/gravel.png"),
}
CLASSES = tuple(_SOURCES)
COLOUR = CLASSES[:10]

_SHARE = (0.5, 0.9)  # range of the crop's side as a share of the largest possible; smaller crops are not recognisable
_SPREAD = 0.15  # largest relative deviation of varied sizes
_UPRIGHT = 0.25  # share of varied photographs in portrait format
_VAL_EVERY = 5


@dataclass(frozen=True, slots=True)
class _Crop:
    path: Path
    label: str
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool
    noise_from: tuple[int, int]


def make_photos(
    out: Path,
    *,
    count: int = 300,
    size: tuple[int, int] = (256, 256),
    varied: bool = False,
    quality: int = 90,
    noise: float = 0.0,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
    split: bool = False,
    threads: int | None = None,
) -> list[Path]:
    """Write `count` JPEG files ``out/CLASS/CLASS-0001.jpg``, distributed evenly over the classes.

    Args:
        out: folder to write to, absent or empty.
        size: (width, height) in pixels.
        varied: vary the sizes by up to 15 %, and make a quarter of the photographs portraits.
        quality: JPEG quality, 1 to 100.
        noise: standard deviation of the added sensor noise, in grey levels of 255.
        split: write ``out/train/CLASS`` and ``out/val/CLASS``, with every fifth crop of a class for val. Train is cut
            from the left part of a source photograph and val from the right part, so that they share no source pixel.
        threads: number of threads, by default one per core; it does not change the bytes.

    Returns:
        Paths of the files, sorted.

    Raises:
        FileExistsError: `out` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty")
    crops = list(_planned(out, count=count, size=size, varied=varied, classes=classes, seed=seed, split=split))
    for folder in {crop.path.parent for crop in crops}:
        folder.mkdir(parents=True)

    def write(crop: _Crop) -> Path:
        crop.path.write_bytes(_rendered(crop, quality=quality, noise=noise))
        return crop.path

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return sorted(pool.map(write, crops))


def make_imagenet_like(out: Path, *, count: int = 1000, seed: int = 0) -> list[Path]:
    """Write `count` photographs shaped and sized like ImageNet's: around 500x375, median file 100 to 120 KB."""
    return make_photos(
        out,
        count=count,
        size=(500, 375),
        varied=True,
        quality=96,
        noise=6.5,  # upscaled crops are smooth; this much noise gives files of the right size
        seed=seed,
    )


def _planned(
    out: Path, *, count: int, size: tuple[int, int], varied: bool, classes: Sequence[str], seed: int, split: bool
) -> Iterator[_Crop]:
    for number in range(count):
        nth, which = divmod(number, len(classes))
        label = classes[which]
        rng = np.random.default_rng((seed, CLASSES.index(label), nth))
        width, height = size
        if varied:
            width, height = (round(side * rng.uniform(1 - _SPREAD, 1 + _SPREAD)) for side in size)
            if rng.random() < _UPRIGHT:
                width, height = height, width

        full_height, full_width = _photograph(label).shape[:2]
        part, start, stop = "", 0, full_width
        if split:
            cut = round(_SOURCES[label].cut * full_width)
            for_val = nth % _VAL_EVERY == _VAL_EVERY - 1
            part, start, stop = ("val", cut, full_width) if for_val else ("train", 0, cut)
        scale = min((stop - start) / width, full_height / height) * rng.uniform(*_SHARE)
        box_width, box_height = round(width * scale), round(height * scale)
        left = int(rng.integers(start, stop - box_width, endpoint=True))
        top = int(rng.integers(0, full_height - box_height, endpoint=True))
        yield _Crop(
            path=out / part / label / f"{label}-{nth + 1:04d}.jpg",
            label=label,
            box=(left, top, left + box_width, top + box_height),
            size=(width, height),
            mirrored=bool(rng.random() < 0.5),
            noise_from=(int(rng.integers(_FIELD)), int(rng.integers(_FIELD))),
        )


def _rendered(crop: _Crop, *, quality: int, noise: float) -> bytes:
    left, top, right, bottom = crop.box
    source = _photograph(crop.label)[top:bottom, left:right]  # cut first, as the filter uses pixels beyond its edge
    pixels: Pixels = np.asarray(Image.fromarray(source).resize(crop.size, Image.Resampling.BICUBIC))
    if crop.mirrored:
        pixels = pixels[:, ::-1]
    if noise:
        pixels = _noisy(pixels, noise, crop.noise_from)
    if pixels.ndim == 2:
        return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[..., None]), quality, "GRAY", "Gray"))
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420"))


@cache
def _photograph(label: str) -> Pixels:
    source = _SOURCES[label]
    spec = find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the photographs are part of {source.package}, which is missing: pip install 'mps-shards[demo]'"
        )
    with Image.open(Path(spec.submodule_search_locations[0], source.file)) as image:
        return np.asarray(image)


_FIELD = 1024  # pixels; side of the field of noise, which each photograph reads from a random position


@cache
def _noise_field(level: float) -> npt.NDArray[np.int16]:
    field = np.random.default_rng(0).normal(0, level, (_FIELD, _FIELD))
    return np.tile(np.rint(field).astype(np.int16), (2, 2))


def _noisy(pixels: Pixels, level: float, start: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    row, column = start
    field = _noise_field(level)[row : row + height, column : column + width]
    noisy = pixels + (field if pixels.ndim == 2 else field[..., None])  # equal noise on all channels is fast to add
    return noisy.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Make photographs, and print their number and sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s OUT [options]"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to, absent or empty")
    parser.add_argument("--count", type=int, help="number of photographs (default 300; 1000 with --imagenet-like)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default 256)")
    parser.add_argument(
        "--classes", nargs="+", choices=CLASSES, default=CLASSES, metavar="CLASS", help=" ".join(CLASSES)
    )
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random crops (default %(default)s)")
    parser.add_argument("--split", action="store_true", help="write OUT/train and OUT/val, cut from separate regions")
    parser.add_argument(
        "--imagenet-like", action="store_true", help="make files like ImageNet's; use only with --count and --seed"
    )
    given = parser.parse_args()
    try:
        if given.imagenet_like:
            photos = make_imagenet_like(given.out, count=given.count or 1000, seed=given.seed)
        else:
            photos = make_photos(
                given.out,
                count=given.count or 300,
                size=(given.size, given.size),
                quality=given.quality,
                classes=given.classes,
                seed=given.seed,
                split=given.split,
            )
    except (FileExistsError, ModuleNotFoundError) as error:
        parser.error(str(error))
    kilobytes = [photo.stat().st_size / 1000 for photo in photos]
    print(f"{len(photos)} photographs, {sum(kilobytes) / 1000:.1f} MB, median {statistics.median(kilobytes):.1f} KB")


if __name__ == "__main__":
    main()
