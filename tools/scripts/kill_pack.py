"""Kill `mps-shards pack` at random times with SIGKILL, resume it, and compare the bytes with an undisturbed run.

python -m tools.scripts.kill_pack                         50 kills, 1,500 photographs in two splits
python -m tools.scripts.kill_pack --source ./imgs --kills 500 --seed 7

After each kill, only finished sets may look finished. After each resume, every byte must be correct.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tools.scripts.photos import make_photos

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> Counter[str]:
    """Kill and resume, and return the number of kills by the progress of the pack at that time.

    Raises:
        RuntimeError: an unfinished set looked finished, or bytes differ.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="folder of images (default: photographs that are made)")
    parser.add_argument("--images", type=int, default=1500, help="photographs to make (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=50, help="number of kills (default: %(default)s)")
    parser.add_argument("--shard-samples", type=int, default=20, help="samples per shard (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="threads of the pack (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random times (default: %(default)s)")
    given = parser.parse_args(arguments)
    moments = random.Random(given.seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        source = given.source or Path(scratch, "imgs")
        if given.source is None:
            make_photos(source, count=given.images, size=(128, 128), split=True)
        options = ["--shard-samples", str(given.shard_samples), "--workers", str(given.workers)]
        whole, out = Path(scratch, "whole"), Path(scratch, "out")
        began = time.perf_counter()
        _pack(source, whole, options).wait()
        lasted = time.perf_counter() - began
        expected = _digests(whole)
        while found.total() < given.kills:
            running = _pack(source, out, options)
            try:
                running.wait(timeout=moments.uniform(0, lasted))
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                found[_check_unfinished(out, expected)] += 1
            status = _pack(source, out, options).wait()  # 0 also if the pack is finished already
            if status:
                raise RuntimeError(f"the pack that resumed after kill {found.total()} ended with exit code {status}")
            _check_finished(out, expected, kill=found.total())
            shutil.rmtree(out)
    counts = ", ".join(f"{count} {what}" for what, count in found.most_common())
    print(f"{found.total()} kills ({counts}), each resumed to the {len(expected)} files of an undisturbed run")
    return found


def _pack(source: Path, out: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mps_shards", "pack", str(source), str(out), *options]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file, including hidden files, by relative path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _finished(out: Path) -> bool:
    return (
        any(out.rglob("manifest.json"))
        and not any(out.rglob("*.part"))
        and not (out / ".pack" / "begun" / "plan.json").exists()
    )


def _check_unfinished(out: Path, expected: dict[str, str]) -> str:
    """Check that files which look complete are complete, and return a description of the progress before the kill."""
    held = _digests(out) if out.exists() else {}
    folders = {name.rpartition("/")[0] for name in held if name.endswith(".tar")}
    for folder in folders:
        marks = {f"{folder}/manifest.json".lstrip("/"), f"{folder}/manifest.json.part".lstrip("/")}
        if not marks & held.keys():
            raise RuntimeError(f"{out / folder} holds tars, but no file marks the set as unfinished")
    for name, digest in held.items():
        if not name.startswith(".pack/") and not name.endswith(".part") and expected.get(name) != digest:
            raise RuntimeError(f"{out / name} looks finished, but differs from the undisturbed run")
    if _finished(out):
        return "with all finished"
    return "with some shards finished" if folders else "before the first shard"


def _check_finished(out: Path, expected: dict[str, str], *, kill: int) -> None:
    held = _digests(out)
    if held != expected:
        different = sorted(name for name in held.keys() | expected.keys() if held.get(name) != expected.get(name))
        raise RuntimeError(f"after kill {kill}, {len(different)} files differ: {', '.join(different[:5])}")


if __name__ == "__main__":
    main()
