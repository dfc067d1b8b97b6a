"""Builds the native kernel where a C compiler and libjpeg-turbo's headers are found; everything else is in pyproject.

The package installs and works without the kernel. MPS_SHARDS_KERNEL=required makes a failed build an error.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("mps_shards/native")
HOMEBREW = Path("/opt/homebrew/opt/jpeg-turbo")  # not in the compiler's path on macOS

directories = [Path(root) for root in os.environ.get("MPS_SHARDS_JPEG", "").split(os.pathsep) if root]
directories += [HOMEBREW] if sys.platform == "darwin" and HOMEBREW.exists() else []

kernel = Extension(
    "mps_shards.native._kernel",
    sources=sorted(map(str, NATIVE.glob("*.c"))),
    depends=sorted(map(str, [*NATIVE.glob("*.h"), *NATIVE.glob("*.inc")])),
    libraries=["jpeg"],
    include_dirs=[str(root / "include") for root in directories],
    library_dirs=[str(root / "lib") for root in directories],
    define_macros=[("_POSIX_C_SOURCE", "200809L"), ("Py_LIMITED_API", "0x030b0000")],
    # weights are the same on every machine only if no compiler fuses multiplications and additions;
    # vectors wider than a baseline register never cross a function that is not inlined: psabi need not warn
    extra_compile_args=["-std=c11", "-O3", "-ffp-contract=off", "-Wno-psabi"],
    py_limited_api=True,
    optional=os.environ.get("MPS_SHARDS_KERNEL") != "required",
)

setup(ext_modules=[kernel], options={"bdist_wheel": {"py_limited_api": "cp311"}})
