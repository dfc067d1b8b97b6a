"""Run the kernel's tests with a build that stops at every invalid memory access and every undefined operation.

    python -m tools.scripts.sanitize                        AddressSanitizer and UndefinedBehaviorSanitizer
    python -m tools.scripts.sanitize --kind thread          ThreadSanitizer, with the tests that use several threads

The package is copied and built in a temporary folder, so the build in this folder is not changed. Needs GCC.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]
_FLAGS = {
    "address": ("-fsanitize=address,undefined -fno-sanitize-recover=all", ("libasan.so", "libubsan.so")),
    "thread": ("-fsanitize=thread", ("libtsan.so",)),
}
_OPTIONS = {
    # Python itself leaks memory at its end on purpose; a test that counts memory finds leaks of the kernel
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "report_bugs=1:halt_on_error=0:exitcode=66",
}


def main() -> None:
    """Build the kernel, run the tests, and exit with their exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(_FLAGS), default="address", help="which sanitizers (default: address)")
    parser.add_argument("tests", nargs="*", help="tests to run (default: tests/native)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("mps_shards", "tests", "tools"):
            shutil.copytree(_ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(_ROOT / name, copy / name)
        flags, libraries = _FLAGS[given.kind]
        _build(copy, flags)
        sys.exit(_tested(copy, libraries, given.tests or ["tests/native"]))


def _build(copy: Path, flags: str) -> None:
    """Build the kernel with these flags inside the copy, as pip does."""
    environment = os.environ | {"CC": "gcc", "CFLAGS": f"{flags} -g -O1", "MPS_SHARDS_KERNEL": "required"}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(copy / "built"), str(copy)]
    subprocess.run(pip, env=environment, check=True)
    for library in (copy / "built").glob("mps_shards/native/*.so"):
        shutil.move(library, copy / "mps_shards/native")


def _tested(copy: Path, libraries: tuple[str, ...], tests: list[str]) -> int:
    paths = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip() for name in libraries]
    # libstdc++ is loaded early, so that the sanitizer can intercept exceptions of torch's libraries
    paths.append(subprocess.check_output(["gcc", "-print-file-name=libstdc++.so.6"], text=True).strip())
    # glibc frees the storage of a thread in its loader, which is not instrumented
    suppressed = copy / "suppressed"
    suppressed.write_text("race:_dl_deallocate_tls\n")
    options = {**_OPTIONS, "TSAN_OPTIONS": f"{_OPTIONS['TSAN_OPTIONS']}:suppressions={suppressed}"}
    environment = os.environ | options | {"LD_PRELOAD": " ".join(paths), "PYTHONPATH": str(copy)}
    environment |= {"MPS_SHARDS_KERNEL": "required", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    main()
