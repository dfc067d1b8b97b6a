"""Is each important check held by a test? Breaks one at a time in a copy, and runs the test that must fail.

python tools/mutate.py            # all; about two minutes
python tools/mutate.py checksum   # those whose name contains the word
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation", "main", "mutated"]

ROOT = Path(__file__).parents[1]
FAULTS = "tests/journeys/test_faults.py"
HOSTILE = "tests/journeys/test_hostile.py"
BAD = "tests/journeys/test_bad_samples.py"


class Mutation(NamedTuple):
    """A check, the source text that makes it, what breaks it, and the tests (a file, a ``-k`` word) that must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    chosen: str


MUTATIONS = (
    Mutation(
        "plain header compared whole",
        "shards/tar.py",
        "or block != _plain_header(name, digits):",
        "or False:",
        "tests/shards/test_tar.py",
        "short_way or damage",
    ),
    Mutation(
        "header checksum",
        "shards/tar.py",
        'if stated != sum(block.translate(None, b"\\0")) and stated != _signed_sum(block, field):',
        "if False:",
        FAULTS,
        "checksum and indexed",
    ),
    Mutation(
        "CRC-32 of a sample",
        "shardset/shard_set.py",
        "if self._verify and zlib.crc32(content) != row[2]:",
        "if False:",
        FAULTS,
        "JPEG and verified",
    ),
    Mutation(
        "SHA-256 of the index",
        "shardset/shard_set.py",
        "if sha256 != self.manifest.index_sha256:",
        "if False:",
        FAULTS,
        "stale and verified",
    ),
    Mutation(
        "size of a shard when opened",
        "shardset/shard_set.py",
        "        if size != shard.bytes:",
        "        if False:",
        FAULTS,
        "padding and indexed",
    ),
    Mutation(
        "index rows inside their shard",
        "shardset/shard_set.py",
        "check_rows(shard.name, rows, shard_bytes=shard.bytes)",
        "pass",
        FAULTS,
        "row",
    ),
    Mutation(
        "one sample in a row of the index",
        "shards/tar.py",
        "if key is not None and found != key:",
        "if False:",
        "tests/shardset/test_shard_set.py",
        "not_one_sample",
    ),
    Mutation(
        "the end of a foreign tar",
        "reading/foreign_shards.py",
        "if self._ends < 2 or self._held or self._offset < self._next:",
        "if False:",
        FAULTS,
        "between and foreign",
    ),
    Mutation(
        "a foreign tar that goes on after its end",
        "reading/foreign_shards.py",
        "elif self._ends:",
        "elif False:",
        FAULTS,
        "two and foreign",
    ),
    Mutation(
        "a key that comes back",
        "reading/foreign_shards.py",
        "if key in keys:",
        "if False:",
        FAULTS,
        "twice and foreign",
    ),
    Mutation(
        "a label in range",
        "vision/targets.py",
        "if classes and label >= classes:",
        "if False:",
        FAULTS,
        "range and indexed",
    ),
    Mutation(
        "ids of a mask",
        "vision/targets.py",
        "    if unknown.any():",
        "    if False:",
        FAULTS,
        "unknown and indexed",
    ),
    Mutation(
        "pixels of an image",
        "vision/decoding.py",
        "    if width * height > most:",
        "    if False:",
        "tests/vision/test_decoding.py",
        "bound_on_pixels",
    ),
    Mutation(
        "formats that Pillow may open",
        "vision/decoding.py",
        ", formats=FORMATS)",
        ")",
        "tests/vision/test_decoding.py",
        "postscript",
    ),
    Mutation(
        "samples that their bytes can hold",
        "shards/manifest.py",
        "if shard.samples * BLOCK > shard.bytes:",
        "if False:",
        HOSTILE,
        "no_shard_could_hold",
    ),
    Mutation(
        "the ratio of compression",
        "reading/foreign_shards.py",
        "if self._offset > _FREE_BYTES + _MAX_RATIO * self._packed.tell():",
        "if False:",
        HOSTILE,
        "gzip_bomb",
    ),
    Mutation(
        "sparse members",
        "shards/tar.py",
        'if any(name.startswith("GNU.sparse.") for name in records):',
        "if False:",
        HOSTILE,
        "stands_for_more",
    ),
    Mutation(
        "the budget of skipped samples",
        "reading/bad_samples.py",
        "if most is None or",
        "if True or",
        BAD,
        "one_more_than",
    ),
    Mutation(
        "the count of skipped samples",
        "reading/bad_samples.py",
        "            self._count += 1",
        "            self._count += 0",
        BAD,
        "many_threads",
    ),
    Mutation(
        "the lines of the log",
        "reading/bad_samples.py",
        "append_line(self._rules.log, json.dumps(self._line(skip)))",
        "pass",
        BAD,
        "line_for_each",
    ),
)


def mutated(mutation: Mutation, folder: Path) -> Path:
    """A copy of the sources and tests in which the check is broken.

    Raises:
        ValueError: the text is not there, or not once: the list is out of date.
    """
    for name in ("mps_shards", "tests", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    file = folder / "mps_shards" / mutation.file
    source = file.read_text("utf-8")
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: {mutation.file} holds {mutation.old!r} {source.count(mutation.old)} times")
    file.write_text(source.replace(mutation.old, mutation.new), "utf-8")
    return folder


def main(arguments: Sequence[str] | None = None) -> bool:
    """Try each mutation; whether all were noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("word", nargs="?", default="", help="only those whose name contains it")
    word = parser.parse_args(arguments).word
    noticed = True
    for mutation in MUTATIONS:
        if word in mutation.name:
            noticed &= _tried(mutation)
    return noticed


def _tried(mutation: Mutation) -> bool:
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        folder = mutated(mutation, Path(name))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        ran = subprocess.run(
            [*command, mutation.tests, "-k", mutation.chosen],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=600,
        )
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    noticed = ran.returncode == 1 and bool(failed)  # 5 would mean that no test was chosen
    word = "noticed" if noticed else f"NOT NOTICED (pytest ended with {ran.returncode})"
    print(f"{mutation.name}: {word}" + (f" by {failed[0].split('::', 1)[-1].split(' - ')[0]}" if failed else ""))
    return noticed


if __name__ == "__main__":
    sys.exit(not main())
