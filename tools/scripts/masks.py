"""Photographs with masks, without a download: masks of objects that a colour threshold finds in `tools.scripts.photos`.

python -m tools.scripts.masks OUT               60 pairs OUT/images/coins-0001.jpg, OUT/masks/coins-0001.png
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from tools.scripts.photos import make_photos

__all__ = ["IGNORED", "THINGS", "make_masks"]

THINGS = ("background", "coin", "flower", "retina", "sky")  # a mask value is an index into this tuple
IGNORED = 255

_SHOWS = {"coins": "coin", "flower": "flower", "retina": "retina", "rocket": "sky", "temple": "sky"}


def make_masks(out: Path, *, count: int = 60, size: tuple[int, int] = (320, 240), seed: int = 0) -> list[Path]:
    """Write ``out/images/NAME.jpg``, ``out/masks/NAME.png`` (label maps, `IGNORED` at outlines) and ``classes.txt``.

    Returns:
        Paths of the images, sorted.
    """
    made = make_photos(out / "made", count=count, size=size, varied=True, classes=list(_SHOWS), seed=seed)
    for folder in ("images", "masks"):
        (out / folder).mkdir()
    for path in made:
        thing = _SHOWS[path.parent.name]
        with Image.open(path) as image:
            Image.fromarray(_mask(image, thing)).save(out / "masks" / f"{path.stem}.png")
        path.rename(out / "images" / path.name)
    (out / "classes.txt").write_text("\n".join(THINGS) + "\n")
    shutil.rmtree(out / "made")
    return sorted((out / "images").iterdir())


def _mask(image: Image.Image, thing: str) -> npt.NDArray[np.uint8]:
    smooth = image.convert("RGB").filter(ImageFilter.GaussianBlur(2))
    red, green, blue = np.moveaxis(np.asarray(smooth).astype(int), -1, 0)
    if thing == "coin":
        inside = red > 105
    elif thing == "flower":
        inside = red - blue > 70
    elif thing == "retina":
        inside = red > 60
    else:
        inside = (blue >= red - 1) & (blue >= green - 6) & (blue > 40)
    # remove holes and specks, then find the outline
    clean = Image.fromarray(inside).convert("L")
    for _ in range(3):
        clean = clean.filter(ImageFilter.ModeFilter(9))
    grown, shrunken = (
        np.asarray(clean.filter(kind)) > 0 for kind in (ImageFilter.MaxFilter(5), ImageFilter.MinFilter(5))
    )
    mask = np.where(shrunken, THINGS.index(thing), 0).astype(np.uint8)
    mask[grown & ~shrunken] = IGNORED
    return mask


def main() -> None:
    """Make photographs and masks, and print their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to, absent or empty")
    parser.add_argument("--count", type=int, default=60, help="number of pairs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random crops (default: %(default)s)")
    given = parser.parse_args()
    try:
        made = make_masks(given.out, count=given.count, seed=given.seed)
    except (FileExistsError, ModuleNotFoundError) as error:
        parser.error(str(error))
    print(f"{len(made)} images and masks of {', '.join(THINGS[1:])} in {given.out}")


if __name__ == "__main__":
    main()
