"""Fuzz target: folders with arbitrary names, listed and planned for packing."""

import contextlib
import shutil
from pathlib import Path

from mps_shards.errors import ShardsError
from mps_shards.packing.pack_options import Keys, Layout, SourceOptions
from mps_shards.packing.plan import key_of, plan_shards
from mps_shards.packing.sources.source_choice import open_source
from mps_shards.shards.key_names import key_to_path
from tools.fuzz.examples import folder

__all__ = ["check", "seeds"]

_LAYOUTS: tuple[Layout, ...] = ("auto", "classes", "splits", "flat")


def seeds() -> list[bytes]:
    """Return inputs: a byte for the options, then a file, folder (with a final slash) or link (with ``@``) per line."""
    return [
        b"\0cat/a.jpg\ncat/b.png\ndog/v1.2.JPG\nnotes.txt\nempty/",
        b"\0train/cat/a.jpg\nval/cat/a.jpg\nval/dog/b.webp",
        b"\3a.jpg\na.png\n.hidden.jpg",
        b"\7a.jpg\na.png\nx/a.jpg",
        b"\1cat/a.jpg\nloop@.\ncat/l.jpg@a.jpg\ncat/gone.jpg@nowhere\n\xff/b.jpg",
    ]


def check(data: bytes) -> None:
    """Check that every entry is an existing file with a unique key, and that all entries are planned."""
    root = folder() / "listed"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    options = data[0] if data else 0
    for line in data[1:].split(b"\n")[:24]:
        with contextlib.suppress(OSError, ValueError):
            _make(root, line.decode("utf-8", "surrogateescape"))
    by_name = bool(options & 4)
    with contextlib.suppress(ShardsError):
        keys: Keys = "name" if by_name else "stem"
        listing = open_source(root).listing(SourceOptions(layout=_LAYOUTS[options % 4], keys=keys))
        for split in listing.splits:
            paths = [entry.path for entry in split.entries]
            assert paths == sorted(paths) and all((root / path).is_file() for path in paths)
            assert all(-1 <= entry.label < max(1, len(listing.classes)) for entry in split.entries)
            names = [key_of(path, keys) for path in paths]
            assert len(set(names)) == len(names)
            assert all(path.startswith(key_to_path(name)) for path, name in zip(paths, names, strict=True))
            planned = plan_shards(split.entries, prefix="s", shard_bytes=4000, shard_samples=None, shuffle_seed=options)
            assert sorted(entry.path for shard in planned for entry in shard.entries) == paths


def _make(root: Path, line: str) -> None:
    name, link, to = line.partition("@")
    path = root / name
    if ".." in path.parts or ".." in to or not path.is_relative_to(root) or to.startswith("/"):
        return  # the path leads out of the folder
    path.parent.mkdir(parents=True, exist_ok=True)
    if link:
        path.symlink_to(to)
    elif name.endswith("/"):
        path.mkdir(exist_ok=True)
    else:
        path.write_bytes(b"x")
