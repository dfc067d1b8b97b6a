"""Soak test: many epochs with the failures of long runs, to find growth, hangs and wrong results.

    python -m tools.scripts.soak                      ten minutes and at least 200 epochs
    python -m tools.scripts.soak --minutes 60

One process with a low limit of open files reads several sets. It leaves epochs early, meets errors in transforms and
broken images, resumes with other batch sizes, pads images of mixed sizes under a memory budget, sends to the CPU and to
a fake device, forks in the middle of an epoch, reads after a process that filled the same cache was killed, and reads
from a store that fails. All keys are compared with the set's own order. Other programs are interrupted by Ctrl-C. The
exit code is 1 if a problem was found.

To find leaks, the bytes that malloc has allocated (with host buffers) and the blocks that Python has allocated are
compared. Resident memory (PSS) is printed but not checked: each epoch starts new threads, whose arenas hold
freed memory in fragments, and pages move between processes. In one hour, PSS varied from 588 to 815 MB while
152 MB were in use throughout. The expected orders are computed first, so that the soak's own memory does not grow.
"""

import argparse
import contextlib
import gc
import itertools
import logging
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from mps_shards import Collate, DeviceLoader, ReadOptions, ShardDataset, SkipRules, classify, pack
from tools.scripts.growth import Held, growth, quarters
from tools.scripts.interrupt import seconds_to_end
from tools.scripts.photos import make_photos
from tools.support.fake_device import FakeDevice

__all__ = ["main"]

FILES = 128  # limit of open files; macOS allows 256 by default, of which a training program needs some
EPOCHS = 12  # number of different epochs, whose orders are computed in advance
INTERRUPT_S = 2.0  # longest time that a program may take to end after Ctrl-C
ENGINES = ("cpu", "inline", "thread", "fake-inline", "fake-thread")


@dataclass(frozen=True, slots=True)
class Sets:
    """Shard sets of photographs: val has broken images, mixed has images of many sizes, many has a shard per image."""

    train: Path
    val: Path
    test: Path
    mixed: Path
    many: Path


def make_sets(folder: Path, *, shards: int) -> Sets:
    """Pack real photographs into the sets."""

    def packed(name: str, *parts: tuple[int, tuple[int, int]], samples: int, broken: int = 0) -> Path:
        source = folder / f"{name}-files"
        for number, (count, size) in enumerate(parts):
            made = folder / f"{name}-{number}"
            make_photos(made, count=count, size=size, classes=["brick", "cat", "coffee", "flower"])
            for image in sorted(made.rglob("*.jpg")):
                place = source / image.parent.name / f"{number}-{image.name}"
                place.parent.mkdir(parents=True, exist_ok=True)
                image.rename(place)
        pack(source, folder / name, shard_samples=samples)
        for tar in sorted((folder / name).glob("*.tar"))[:broken]:  # because packing refuses broken images
            tar.write_bytes(tar.read_bytes().replace(b"\xff\xd8\xff", b"\0\0\0", 1))
        return folder / name

    return Sets(
        train=packed("train", (240, (96, 80)), samples=8),
        val=packed("val", (60, (96, 80)), samples=5, broken=3),
        test=packed("test", (60, (96, 80)), samples=5),
        mixed=packed("mixed", (40, (32, 24)), (40, (96, 80)), (20, (300, 200)), (4, (1200, 900)), samples=16),
        many=packed("many", (shards, (24, 24)), samples=1),
    )


class Broken(Exception):
    """Error that a transform raises on purpose."""


class Soak:
    """Runs random episodes over the sets, and records problems in `problems`."""

    def __init__(self, sets: Sets, chance: random.Random):
        self.sets, self.chance = sets, chance
        self.epochs = self.samples = 0
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._orders: dict[tuple[Path, int], list[str]] = {}
        self.store = ""
        self.often: list[Callable[[int], None]] = [self.whole, self.left_early, self.resumed, self.failing]
        self.often += [self.at_once, self.padded, self.thousands, self.from_store]
        self.seldom: list[Callable[[int], None]] = [self.forked, self.killed]

    def episode(self) -> None:
        """Run a random episode."""
        self.read(self.chance.choice(self.often + self.seldom * (self.chance.random() < 0.2)))

    def warm_up(self) -> None:
        """Compute all orders that episodes need, and run every episode once."""
        for folder in (self.sets.train, self.sets.val, self.sets.test, self.sets.mixed, self.sets.many):
            for epoch in range(EPOCHS):
                self.order(folder, epoch)
        for kind in self.often + self.seldom:
            self.read(kind)

    def read(self, kind: Callable[[int], None]) -> None:
        """Run one episode, and record its errors and the threads that it left running."""
        epoch = self.chance.randrange(EPOCHS)
        try:
            kind(epoch)
        except Exception as error:
            self.problems.append(f"{kind.__name__} of epoch {epoch}: {error!r}")
        self.done[kind.__name__] += 1
        gc.collect()
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("mps-shards")]
        if left:
            self.problems.append(f"{kind.__name__} left threads: {', '.join(left)}")

    def whole(self, epoch: int) -> None:
        """Read an epoch from start to end."""
        folder = self.chance.choice([self.sets.train, self.sets.val, self.sets.test])
        with self.loader(folder, epoch) as loader:
            self.expect(folder, epoch, keys_of(loader))

    def left_early(self, epoch: int) -> None:
        """Leave an epoch after a few batches."""
        folder, count = self.sets.train, self.chance.randrange(1, 9)
        with self.loader(folder, epoch) as loader:
            self.expect(folder, epoch, keys_of(itertools.islice(loader, count)), part=True)

    def resumed(self, epoch: int) -> None:
        """Leave an epoch twice, and resume it with another loader each time."""
        folder, found, state = self.sets.val, [], None
        for count in (3, 2, None):
            with self.loader(folder, epoch) as loader:
                if state is not None:
                    loader.load_state_dict(state)
                found += keys_of(itertools.islice(loader, count))
                state = loader.state_dict()
            if state["epoch"] != epoch:  # the epoch has ended already
                break
        self.expect(folder, epoch, found)

    def failing(self, epoch: int) -> None:
        """Read an epoch with a transform that raises for some samples."""
        fatal = self.chance.random()

        def transform(image: Any, target: Any, rng: Any) -> tuple[Any, Any]:
            if rng.random() < 0.05 + fatal / 5:
                raise Broken
            return image[:, :16, :16], target

        with self.loader(self.sets.train, epoch, transform=transform) as loader:
            try:
                keys_of(loader)
            except Broken:
                return
        raise AssertionError("the transform's error did not arrive")

    def at_once(self, epoch: int) -> None:
        """Read three sets at the same time, one batch of each in turn."""
        folders = (self.sets.train, self.sets.val, self.sets.test)
        found: list[list[str]] = [[], [], []]
        with contextlib.ExitStack() as open_sets:
            loaders = [open_sets.enter_context(self.loader(folder, epoch, engine="cpu")) for folder in folders]
            for batches in itertools.zip_longest(*loaders):
                for keys, batch in zip(found, batches, strict=True):
                    keys += batch[-1] if batch is not None else []
        for folder, keys in zip(folders, found, strict=True):
            self.expect(folder, epoch, keys)

    def padded(self, epoch: int) -> None:
        """Read padded batches of images from 32 to 1,200 pixels wide, with memory for 1.5 of the largest batches."""
        folder = self.sets.mixed
        with self.loader(
            folder, epoch, transform=None, collate=Collate(pad=16), batch_size=4, memory=80 << 20
        ) as loader:
            self.expect(folder, epoch, keys_of(loader))

    def thousands(self, epoch: int) -> None:
        """Read a set with far more shards than files may be open."""
        folder = self.sets.many
        with self.loader(folder, epoch, batch_size=64) as loader:
            self.expect(folder, epoch, keys_of(itertools.islice(loader, 20)), part=True)

    def forked(self, epoch: int) -> None:
        """Fork in the middle of an epoch: the child reads an epoch, and the parent continues its own."""
        folder = self.sets.test
        with self.loader(folder, epoch, engine="cpu") as loader:
            batches = iter(loader)
            found = keys_of(itertools.islice(batches, 2))
            child = os.fork()
            if not child:
                status = 1
                try:
                    with self.loader(folder, epoch, engine="cpu") as inside:
                        status = 0 if keys_of(inside) == self.order(folder, epoch) else 2
                finally:
                    os._exit(status)
            found += keys_of(batches)
            self.expect(folder, epoch, found)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise AssertionError(f"the forked child ended with exit code {code}")

    def killed(self, epoch: int) -> None:
        """Kill a child that fills a cache, and read from the cache that it left behind."""
        folder = self.sets.train
        cache = folder.with_name("cache")
        shutil.rmtree(cache, ignore_errors=True)
        reading = ReadOptions(cache=cache)
        child = os.fork()
        if not child:
            try:
                with self.loader(folder, epoch, engine="cpu", read_options=reading) as inside:
                    keys_of(inside)
            finally:
                os._exit(0)
        time.sleep(self.chance.random() / 5)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with self.loader(folder, epoch, engine="cpu", read_options=reading) as loader:
            self.expect(folder, epoch, keys_of(loader))

    def from_store(self, epoch: int) -> None:
        """Read a set from a store that fails sometimes, and truncates some responses."""
        folder = self.sets.test
        with self.loader(f"{self.store}/{folder.name}", epoch) as loader:
            self.expect(folder, epoch, keys_of(loader))

    @contextmanager
    def loader(
        self, folder: Path | str, epoch: int, *, engine: str | None = None, memory: int | None = None, **options: Any
    ) -> Iterator[DeviceLoader]:
        """Open a new loader over a set, with a random engine unless one is given."""
        engine = engine or self.chance.choice(ENGINES)
        options = {"transform": classify.train(32), "batch_size": self.chance.choice([4, 8, 12, 20]), **options}
        data = ShardDataset(folder, shuffle=True, keys=True, epoch=epoch, on_bad_sample=SkipRules(max_bad=9), **options)
        kind, workers = engine.removeprefix("fake-"), self.chance.randrange(1, 4)
        with DeviceLoader(data, device="cpu", num_threads=workers, transfer=kind, memory=memory) as loader:
            if kind == engine:
                yield loader
                return
            with FakeDevice(transfer_thread=kind == "thread") as device:
                loader._checked_device = device
                yield loader
                loader.close()  # before the device ends

    def order(self, folder: Path, epoch: int) -> list[str]:
        """Return the keys of an epoch in the set's own order, without the keys of broken images."""
        if (folder, -1) not in self._orders:
            data = ShardDataset(folder, batch_size=None, keys=True, on_bad_sample=SkipRules(max_bad=9))
            self._orders[folder, -1] = [key for *_, key in data]
            data.close()
        if (folder, epoch) not in self._orders:
            data = ShardDataset(folder, batch_size=64, shuffle=True, epoch=epoch)
            whole = set(self._orders[folder, -1])
            iteration = data.iteration()
            iteration.begin()
            found = [plan.read(row).key for plan in iteration.plans() for row in range(len(plan))]
            self._orders[folder, epoch] = [key for key in found if key in whole]
            data.close()
        return self._orders[folder, epoch]

    def expect(self, folder: Path, epoch: int, found: list[str], *, part: bool = False) -> None:
        """Record a problem unless these are the keys of the epoch, or of its beginning with `part`, in order."""
        expected = self.order(folder, epoch)
        if part:
            expected = expected[: len(found)]
        if found != expected or not found:
            self.problems.append(
                f"{folder.name}, epoch {epoch}: {len(found)} keys differ from the {len(expected)} expected keys"
            )
        self.epochs += 1
        self.samples += len(found)


def keys_of(batches: Iterable[Any]) -> list[str]:
    """Return the keys of all batches, in order."""
    return [key for *_, keys in batches for key in keys]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak test, print a report, and return the exit code: 1 if a problem was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="shortest time (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=200, help="smallest number of epochs (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=3000, help="shards of the largest set (default: %(default)s)")
    parser.add_argument("--interrupts", type=int, default=24, help="programs to interrupt (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random episodes (default: %(default)s)")
    given = parser.parse_args(arguments)
    chance = random.Random(given.seed)
    logging.getLogger("mps_shards").setLevel(logging.ERROR)  # hides the warnings about broken images
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            soak = Soak(make_sets(Path(folder), shards=given.shards), chance)
            with faulty_store(Path(folder), given.seed) as soak.store:
                soak.warm_up()
                seen = run(soak, minutes=given.minutes, epochs=given.epochs)
            slowest = interrupted(soak, given.interrupts)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    report(soak, seen, slowest)
    return 1 if soak.problems else 0


@contextmanager
def faulty_store(folder: Path, seed: int) -> Iterator[str]:
    """Run a faulty store of the sets in another process, and yield its address."""
    command = [sys.executable, "-m", "tools.scripts.faulty_store", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as store:
        try:
            assert store.stdout is not None
            yield store.stdout.readline().strip()
        finally:
            store.kill()


def run(soak: Soak, *, minutes: float, epochs: int) -> list[Held]:
    """Run episodes, print a line per minute, and return the measurement after each episode."""
    numbers = array("d")  # not a list of objects, which would add to the counted blocks
    began = last = time.monotonic()
    while time.monotonic() - began < 60 * minutes or soak.epochs < epochs:
        soak.episode()
        held = Held.now()
        numbers.extend(astuple(held))
        if time.monotonic() - last >= 60:
            last = time.monotonic()
            print(f"{(last - began) / 60:5.1f} min  {soak.epochs:>6,} epochs  {held}", flush=True)
    size = len(fields(Held))
    seen = [
        Held(first, int(second), third, *map(int, others))
        for first, second, third, *others in (numbers[n : n + size] for n in range(0, len(numbers), size))
    ]
    soak.problems += growth(seen)
    return seen


def interrupted(soak: Soak, count: int) -> list[float]:
    """Interrupt `count` programs, and return the seconds that each took to end."""
    took = []
    for number in range(count):
        transfer = ("cpu", "inline", "thread")[number % 3]
        try:
            took.append(seconds_to_end(soak.sets.train, transfer, soak.chance.random()))
        except RuntimeError as error:
            soak.problems.append(str(error))
    if took and max(took) >= INTERRUPT_S:
        soak.problems.append(f"Ctrl-C took {max(took):.1f} s, but {INTERRUPT_S:.0f} s are allowed")
    return took


def report(soak: Soak, seen: Sequence[Held], took: Sequence[float]) -> None:
    """Print the figures and the problems."""
    print(f"{soak.epochs:,} epochs or parts of them, {soak.samples:,} samples; files allowed: {FILES}")
    print("  " + ", ".join(f"{name} {count}" for name, count in soak.done.most_common()))
    print(f"{'quarter':<9} {'in use':>10} {'Python blocks':>14} {'resident':>10} {'threads':>8} {'files':>6}")
    for number, part in enumerate(quarters(seen[len(seen) // 10 :]), 1):
        memory = f"{part.in_use_mb:>7.1f} MB {part.blocks:>14,} {part.resident_mb:>7.1f} MB"
        print(f"{number:<9} {memory} {part.threads:>8} {part.files:>6}")
    if took:
        print(
            f"Ctrl-C: {len(took)} programs ended in {statistics.median(took):.2f} s (median), {max(took):.2f} s at most"
        )
    for line in soak.problems[:20]:
        print(f"PROBLEM: {line}")
    print("no problem was found" if not soak.problems else f"{len(soak.problems)} problems were found")


if __name__ == "__main__":
    sys.exit(main())
