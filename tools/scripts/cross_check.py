"""Check that the native kernel gives the same samples and tiles on another architecture, compiled for an emulator.

    python -m tools.scripts.cross_check --root FOLDER     for aarch64, with libjpeg-turbo's library in FOLDER

This needs a cross compiler and an emulator (Debian: gcc-aarch64-linux-gnu, qemu-user) and the other architecture's
static libjpeg (Debian: dpkg -x libjpeg62-turbo-dev_*_arm64.deb FOLDER). The reference is this machine's kernel, which
the tests compare with torch.
"""

import argparse
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mps_shards import native
from mps_shards.native import _kernel
from mps_shards.shards.tar import header, padding
from mps_shards.vision.transforms.geometry import Geometry
from tools.support.pictures import encoded, picture, turbo

__all__ = ["cases", "main"]

_ROOT = Path(__file__).parents[2]
_NATIVE = _ROOT / "mps_shards" / "native"


def main() -> None:
    """Compile and run the check, and exit with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with usr/lib/*/libjpeg.a (default: the system's libjpeg)")
    parser.add_argument("--compiler", default="aarch64-linux-gnu-gcc", help="C compiler (default: %(default)s)")
    parser.add_argument("--emulator", default="qemu-aarch64", help="default: %(default)s; '' for no emulator")
    parser.add_argument("--count", type=int, default=300, help="number of cases (default: 300)")
    given = parser.parse_args()
    native.require()
    with tempfile.TemporaryDirectory() as folder:
        recorded, loaded, tar = (Path(folder) / name for name in ("cases", "loaded", "tar"))
        recorded.write_bytes(b"".join(cases(given.count)))
        loaded.write_bytes(b"".join(load_cases(given.count, tar)))
        library = next(given.root.glob("usr/lib/*/libjpeg.a")) if given.root else "-ljpeg"
        flags = ["-std=c11", "-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
        sources = [path for path in sorted(_NATIVE.glob("*.c")) if path.name != "binding.c"]
        # all 64-bit architectures have the same headers of libjpeg-turbo, in different folders
        where = [f"-I{_NATIVE}", "-D_POSIX_C_SOURCE=200809L", *_headers(given.root)]
        # folder of the other architecture's C library, which the cross compiler installs for the emulator
        libraries = "/usr/" + given.compiler.removesuffix("-gcc")
        environment = {"QEMU_LD_PREFIX": libraries, **os.environ}
        failed = False
        for name, arguments in (("kernel_check", [recorded]), ("load_check", [loaded, tar])):
            program, check = Path(folder) / name, _ROOT / "tools" / "native" / f"{name}.c"
            subprocess.run([given.compiler, *flags, *where, check, *sources, library, "-lm", "-o", program], check=True)
            command = [given.emulator, program] if given.emulator else [program]
            failed |= subprocess.run([*command, *arguments], check=False, env=environment).returncode != 0
        raise SystemExit(failed)


def cases(count: int) -> Iterator[bytes]:
    """Yield random JPEGs and views with this machine's rendered images and tiles, in the format of kernel_check.c."""
    rng = random.Random(0)
    for number in range(count):
        height, width = rng.randint(1, 200), rng.randint(1, 200)
        if number % 4:
            kind = rng.choice(["444", "422", "420", "440", "411"])
            image = turbo("RGB", kind, height=height, width=width, quality=rng.choice([30, 75, 95]))
        else:
            image = encoded(picture("L", height, width), "JPEG", progressive=number % 8 == 0)
        tall, wide = rng.randint(1, height), rng.randint(1, width)
        top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
        rows, columns = rng.randint(1, 90), rng.randint(1, 90)
        view = np.array([[top, left, tall, wide, rows, columns, 0, 0, rows, columns, number % 2, 1]], np.int32)
        shown = np.empty((1, 3, rows, columns), np.uint8)
        if native.Decoder().render([image], view, shown, layout=native.Layout.BYTE_PLANES, max_pixels=1 << 20) == b"\0":
            raise ValueError(f"the kernel of this machine declined case {number}")
        tiled = _kernel.rewrite(image, b"x") or b""
        sizes = np.array([len(image)], np.int32).tobytes(), np.array([len(tiled)], np.int32).tobytes()
        yield b"".join([sizes[0], view.tobytes(), sizes[1], image, shown.tobytes(), tiled])


def load_cases(count: int, tar: Path) -> Iterator[bytes]:
    """Write random samples to a tar, and yield them as this machine loads them, in the format of load_check.c."""
    rng = random.Random(1)
    runs = [_run(rng, number) for number in range(count)]
    tar.write_bytes(b"".join(runs))
    decoder, offset = native.Decoder(), 0
    with tar.open("rb") as file:
        for number, run in enumerate(runs):
            side, scaled = rng.randint(1, 64), number % 3 == 0
            geometry = Geometry(area=((0.08, 1.0), (3 / 4, 4 / 3)), resized=(side, side), flip=0.5)
            if number % 2:
                geometry = Geometry(resized=side + number % 9, crop=(side, side))
            span = [file.fileno(), offset, len(run), rng.getrandbits(62)]
            offset += len(run)
            loading = native.Loading(
                geometry=geometry.numbers(),
                seed=rng.getrandbits(64),
                epoch=number,
                most_label=9,
                scaled=scaled,
                max_pixels=1 << 20,
            )
            rows = np.empty((1, 3, side, side), np.uint8)
            found = decoder.load(np.array([span]), loading, rows, layout=native.Layout.BYTE_PLANES)
            key, is_declined = found.keys[0].encode(), not found.outcomes[0]
            yield np.array(span, np.int64).tobytes() + loading.geometry.tobytes()
            yield np.array([loading.seed, loading.epoch], np.uint64).tobytes()
            expected = [is_declined, found.labels[0], len(key)]
            yield np.array([9, loading.max_pixels, scaled, side, side, *expected], np.int64).tobytes() + key
            yield b"" if is_declined else rows.tobytes()


def _run(rng: random.Random, number: int) -> bytes:
    """Return a sample as tar blocks. One in ten has a label that is too high, so that it is declined."""
    kind = rng.choice(["444", "422", "420", "440", "411"])
    image = turbo("RGB", kind, height=rng.randint(1, 300), width=rng.randint(1, 300), quality=rng.choice([30, 75, 95]))
    label = str(10 if number % 10 == 9 else number % 10).encode()
    members = ((f"class/{number:06d}.jpg", image), (f"class/{number:06d}.cls", label))
    return b"".join(header(name, len(content)) + content + padding(len(content)) for name, content in members)


def _headers(root: Path | None) -> list[str]:
    """Return compiler options for libjpeg-turbo's headers, including jconfig.h, below a folder."""
    return [f"-I{path}" for path in (root / "usr/include", *root.glob("usr/include/*-linux-gnu*"))] if root else []


if __name__ == "__main__":
    main()
