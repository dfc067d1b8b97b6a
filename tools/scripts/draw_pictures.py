"""Draw the README's pictures with the commands that it shows: ``python -m tools.scripts.draw_pictures CHROMIUM``."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tools.scripts.masks import IGNORED, make_masks
from tools.scripts.photos import make_photos

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"


def main() -> None:
    """Make two sets, and draw contact sheets, an overlay and a report of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "imgs", count=300)
        shards("pack", folder / "imgs")
        make_masks(folder / "things", count=60)
        shards("pack", folder / "things", "--ignore-index", IGNORED)
        shards("preview", folder / "imgs-shards", "-o", PICTURES / "sheet.jpg", "--count", 24, "--size", 140)
        shards("preview", folder / "things-shards", "-o", PICTURES / "overlay.jpg", "--count", 12, "--size", 140)
        seen = ("--augment", "--count", 4, "--size", 140)
        shards("preview", folder / "imgs-shards", "-o", PICTURES / "augmented.jpg", *seen, "--seed", 5)
        shards("report", folder / "things-shards", "-o", folder / "report.html", "--count", 6)
        screenshot(folder / "report.html", folder, browser=sys.argv[1])


def shards(*arguments: object) -> None:
    """Run an mps-shards command as a user does."""
    subprocess.run([sys.executable, "-m", "mps_shards", *map(str, arguments)], cwd=ROOT, check=True)


def screenshot(page: Path, folder: Path, *, browser: str) -> None:
    """Write a screenshot of a page in a browser to ``report.jpg``."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    shot = (f"--user-data-dir={folder / 'browser'}", "--window-size=1120,1560", f"--screenshot={folder / 'shot.png'}")
    subprocess.run([browser, *flags, *quiet, *shot, page.as_uri()], check=True, capture_output=True)
    with Image.open(folder / "shot.png") as image:
        image.convert("RGB").save(PICTURES / "report.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
