"""Measure how far `decode="scaled"` is from exact decoding: mean and largest error in steps of 255, and PSNR.

    python -m tools.bench.scaled [--images 24] [--json]

The photographs have 4000x3000, 2000x1500 and 500x375 pixels and pass through both transforms at size 224. If an image
is not decoded at a smaller size, its error is 0.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Literal

from mps_shards import DeviceLoader, ReadOptions, ShardDataset, classify, pack
from tools.scripts.photos import make_photos

__all__ = ["main", "measure"]

SIZES = ((4000, 3000), (2000, 1500), (500, 375))
TRANSFORMS: dict[str, classify.train | classify.evaluate] = {
    "evaluate(224)": classify.evaluate(224),
    "train(224)": classify.train(224),
}


def measure(shards: Path, transform: classify.train | classify.evaluate) -> dict[str, float]:
    """Return the errors of scaled decoding against exact decoding over a set, pixel by pixel."""

    def loader(decode: Literal["exact", "scaled"]) -> DeviceLoader:
        options = ReadOptions(decode=decode)
        data = ShardDataset(shards, batch_size=8, transform=transform, read_options=options)
        return DeviceLoader(data, device="cpu")

    largest = absolute = squared = 0.0
    values = 0
    for (exact, _), (scaled, _) in zip(loader("exact"), loader("scaled"), strict=True):
        error = (exact - scaled).double() * 255
        largest = max(largest, float(error.abs().max()))
        absolute += float(error.abs().sum())
        squared += float(error.square().sum())
        values += error.numel()
    psnr = 10 * math.log10(255**2 / (squared / values)) if squared else math.inf
    return {"mean": absolute / values, "max": largest, "psnr_db": psnr}


def main() -> None:
    """Print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24, help="photographs of each size (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of text")
    options = parser.parse_args()
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make_photos(Path(folder) / "imgs", count=options.images, size=size)
            pack(Path(folder) / "imgs", Path(folder) / "set")
            for name, transform in TRANSFORMS.items():
                found = measure(Path(folder) / "set", transform)
                if options.json:
                    print(json.dumps({"size": size, "transform": name, "images": options.images, **found}))
                else:
                    shown = f"mean {found['mean']:.2f}, max {found['max']:.0f} of 255, PSNR {found['psnr_db']:.1f} dB"
                    print(f"{size[0]}x{size[1]:<5} {name:<14} {shown}")


if __name__ == "__main__":
    main()
