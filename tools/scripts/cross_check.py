"""Check that the native kernel gives the same pixels and tiles on another architecture, compiled for an emulator.

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
from tools.support.pictures import encoded, picture, turbo

__all__ = ["cases", "main"]

_ROOT = Path(__file__).parents[2]
_NATIVE = _ROOT / "mps_shards" / "native"
_SOURCES = ("entropy.c", "guard.c", "jpeg.c", "kernel.c", "resize.c", "tiles.c")


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
        program, recorded = Path(folder) / "kernel_check", Path(folder) / "cases"
        recorded.write_bytes(b"".join(cases(given.count)))
        library = next(given.root.glob("usr/lib/*/libjpeg.a")) if given.root else "-ljpeg"
        flags = ["-std=c11", "-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
        sources = [_ROOT / "tools" / "native" / "kernel_check.c", *(_NATIVE / name for name in _SOURCES)]
        # all 64-bit architectures have the same headers of libjpeg-turbo, in different folders
        where = [f"-I{_NATIVE}", "-D_POSIX_C_SOURCE=200809L", *_headers(given.root)]
        subprocess.run([given.compiler, *flags, *where, *sources, library, "-lm", "-o", program], check=True)
        command = [given.emulator, program] if given.emulator else [program]
        # folder of the other architecture's C library, which the cross compiler installs for the emulator
        libraries = "/usr/" + given.compiler.removesuffix("-gcc")
        environment = {"QEMU_LD_PREFIX": libraries, **os.environ}
        raise SystemExit(subprocess.run([*command, recorded], check=False, env=environment).returncode)


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


def _headers(root: Path | None) -> list[str]:
    """Return compiler options for libjpeg-turbo's headers, including jconfig.h, below a folder."""
    return [f"-I{path}" for path in (root / "usr/include", *root.glob("usr/include/*-linux-gnu*"))] if root else []


if __name__ == "__main__":
    main()
