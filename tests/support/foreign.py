"""Tars of other tools (the standard library, GNU tar, webdataset), and the samples that they hold."""

import gc
import io
import shutil
import subprocess
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import webdataset

from tests.support.images import tiny_jpeg, write

Samples = dict[str, dict[str, bytes]]


def samples(count: int, *, first: int = 0) -> Samples:
    """Return fields by key, in order: ``{"cat/00000": {"cls": b"0", "jpg": …}}``."""
    return {
        f"{('cat', 'dog')[n % 2]}/{n:05d}": {"cls": str(n % 2).encode(), "jpg": tiny_jpeg(n)}
        for n in range(first, first + count)
    }


def _members(held: Samples) -> Iterator[tuple[str, bytes]]:
    for key, fields in held.items():
        for field, content in fields.items():
            yield f"{key}.{field}", content


def by_tarfile(
    path: Path, held: Samples, *, form: int = tarfile.PAX_FORMAT, mode: str = "w", mtime: float = 1.5
) -> Path:
    """Write a tar with the standard library."""
    with tarfile.open(path, mode, format=form) as tar:
        for name, content in _members(held):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime if form == tarfile.PAX_FORMAT else int(mtime)
            tar.addfile(info, io.BytesIO(content))
    return path


def by_gnu_tar(path: Path, held: Samples, *options: str) -> Path:
    """Write a tar with GNU tar, which includes folders."""
    if (
        not shutil.which("tar")
        or "GNU" not in subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout
    ):
        pytest.skip("no GNU tar here")
    folder = path.with_name(f"{path.name}-files")
    write(folder, dict(_members(held)))
    subprocess.run(["tar", *options, "--sort=name", "-cf", path, "-C", folder, "."], check=True)
    return path


def by_webdataset(path: Path, held: Samples) -> Path:
    """Write a tar with webdataset's writer."""
    with webdataset.TarWriter(str(path)) as writer:
        for key, fields in held.items():
            writer.write({"__key__": key, **fields})
    return path


MAKERS: dict[str, Callable[[Path, Samples], Path]] = {
    "ustar": lambda path, held: by_tarfile(path, held, form=tarfile.USTAR_FORMAT),
    "pax": by_tarfile,
    "gnu": lambda path, held: by_tarfile(path, held, form=tarfile.GNU_FORMAT),
    "gzip": lambda path, held: by_tarfile(path, held, mode="w:gz"),
    "bzip2": lambda path, held: by_tarfile(path, held, mode="w:bz2"),
    "xz": lambda path, held: by_tarfile(path, held, mode="w:xz"),
    "gnu tar": by_gnu_tar,
    "gnu tar, posix": lambda path, held: by_gnu_tar(path, held, "--format=posix"),
    "gnu tar, gzip": lambda path, held: by_gnu_tar(path, held, "-z"),
    "webdataset": by_webdataset,
}


def by_webdataset_s_reader(paths: list[Path]) -> list[tuple[str, dict[str, bytes]]]:
    """Return the fields by key that plain webdataset reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset never closes the files that it opened
        held = [
            (sample["__key__"], {name: value for name, value in sample.items() if not name.startswith("__")})
            for sample in webdataset.WebDataset([str(path) for path in paths], shardshuffle=False)
        ]
        gc.collect()
    return held
