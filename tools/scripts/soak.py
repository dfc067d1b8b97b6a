"""Many epochs with all that goes wrong in a long run: does anything grow, hang, or come out otherwise?

    python -m tools.scripts.soak                      ten minutes, 200 epochs at least
    python -m tools.scripts.soak --minutes 60

One process, allowed few open files, reads several sets: leaving early, meeting errors in transforms and broken images,
resuming with other batch sizes, padding images of mixed sizes under a memory budget, sending to the CPU and to a fake
device, forking in the middle, reading after a process that filled the same cache was killed, and reading from a store
that fails. Each stream of keys is compared with the set's own order. Beside it, programs of their own are interrupted
by Ctrl-C. Exit code 1 where anything is amiss.

A leak is looked for in what is in use: the bytes that malloc has handed out (host buffers are among them), and the
blocks that Python has allocated. Both stay level. Resident memory (PSS) is printed beside them but not judged: each
epoch starts new threads, whose arenas keep freed memory in fragments, and pages move between processes. In an hour PSS
moved between 588 and 815 MB while 152 MB were in use throughout. The expected orders are computed before anything is
measured, so that what the soak itself remembers does not grow.
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

FILES = 128  # that the process may have open: macOS grants 256 by default, and a training program has its own
EPOCHS = 12  # different ones, whose orders are remembered
INTERRUPT_S = 2.0
ENGINES = ("cpu", "inline", "thread", "fake-inline", "fake-thread")


@dataclass(frozen=True, slots=True)
class Sets:
    """Shard sets of photographs: val has broken images, mixed has images of many sizes, many has a shard an image."""

    train: Path
    val: Path
    test: Path
    mixed: Path
    many: Path


def make_sets(folder: Path, *, shards: int) -> Sets:
    """Packed real photographs."""

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
        for tar in sorted((folder / name).glob("*.tar"))[:broken]:  # packing itself would refuse broken images
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
    """Raised by a transform, on purpose."""


class Soak:
    """Episodes over the sets, chosen at random, and what they leave behind."""

    def __init__(self, sets: Sets, chance: random.Random):
        self.sets, self.chance = sets, chance
        self.epochs = self.samples = 0
        self.done: Counter[str] = Counter()
        self.amiss: list[str] = []
        self._orders: dict[tuple[Path, int], list[str]] = {}
        self.store = ""
        self.often: list[Callable[[int], None]] = [self.whole, self.left_early, self.resumed, self.failing]
        self.often += [self.at_once, self.padded, self.thousands, self.from_store]
        self.seldom: list[Callable[[int], None]] = [self.forked, self.killed]

    def episode(self) -> None:
        """One of the things that a long run meets."""
        self.read(self.chance.choice(self.often + self.seldom * (self.chance.random() < 0.2)))

    def warm_up(self) -> None:
        """Compute every order that an episode may ask for, and meet every episode once."""
        for folder in (self.sets.train, self.sets.val, self.sets.test, self.sets.mixed, self.sets.many):
            for epoch in range(EPOCHS):
                self.order(folder, epoch)
        for kind in self.often + self.seldom:
            self.read(kind)

    def read(self, kind: Callable[[int], None]) -> None:
        """One episode of a kind, and what it leaves behind."""
        epoch = self.chance.randrange(EPOCHS)
        try:
            kind(epoch)
        except Exception as error:
            self.amiss.append(f"{kind.__name__} of epoch {epoch}: {error!r}")
        self.done[kind.__name__] += 1
        gc.collect()
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("mps-shards")]
        if left:
            self.amiss.append(f"{kind.__name__} left threads: {', '.join(left)}")

    def whole(self, epoch: int) -> None:
        """An epoch from end to end."""
        folder = self.chance.choice([self.sets.train, self.sets.val, self.sets.test])
        with self.loader(folder, epoch) as loader:
            self.expect(folder, epoch, keys_of(loader))

    def left_early(self, epoch: int) -> None:
        """`break` after a few batches."""
        folder, count = self.sets.train, self.chance.randrange(1, 9)
        with self.loader(folder, epoch) as loader:
            self.expect(folder, epoch, keys_of(itertools.islice(loader, count)), part=True)

    def resumed(self, epoch: int) -> None:
        """Left, and gone on with by another loader, twice."""
        folder, found, state = self.sets.val, [], None
        for count in (3, 2, None):
            with self.loader(folder, epoch) as loader:
                if state is not None:
                    loader.load_state_dict(state)
                found += keys_of(itertools.islice(loader, count))
                state = loader.state_dict()
            if state["epoch"] != epoch:  # it came to its end already
                break
        self.expect(folder, epoch, found)

    def failing(self, epoch: int) -> None:
        """A transform raises somewhere."""
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
        """Three sets, a batch of each in turn."""
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
        """Images of sizes from 32 to 1,200, batches padded, under a budget that holds one and a half of the largest."""
        folder = self.sets.mixed
        with self.loader(
            folder, epoch, transform=None, collate=Collate(pad=16), batch_size=4, memory=80 << 20
        ) as loader:
            self.expect(folder, epoch, keys_of(loader))

    def thousands(self, epoch: int) -> None:
        """A set with far more shards than files may be open."""
        folder = self.sets.many
        with self.loader(folder, epoch, batch_size=64) as loader:
            self.expect(folder, epoch, keys_of(itertools.islice(loader, 20)), part=True)

    def forked(self, epoch: int) -> None:
        """A child that is forked in the middle reads an epoch of its own; the parent goes on."""
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
            raise AssertionError(f"the forked child ended with {code}")

    def killed(self, epoch: int) -> None:
        """A child that fills a cache is killed; the next reader uses what it left there."""
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
        """A set in a store that fails now and then, and cuts answers off."""
        folder = self.sets.test
        with self.loader(f"{self.store}/{folder.name}", epoch) as loader:
            self.expect(folder, epoch, keys_of(loader))

    @contextmanager
    def loader(
        self, folder: Path | str, epoch: int, *, engine: str | None = None, memory: int | None = None, **options: Any
    ) -> Iterator[DeviceLoader]:
        """A loader of its own over the set, by a random engine unless one is named."""
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
                loader.close()  # while the device still answers

    def order(self, folder: Path, epoch: int) -> list[str]:
        """The keys of an epoch by the set's own order, those apart whose images are broken."""
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
        """Note it if these are not the keys, in order."""
        expected = self.order(folder, epoch)
        if part:
            expected = expected[: len(found)]
        if found != expected or not found:
            self.amiss.append(f"{folder.name}, epoch {epoch}: {len(found)} keys are not the {len(expected)} expected")
        self.epochs += 1
        self.samples += len(found)


def keys_of(batches: Iterable[Any]) -> list[str]:
    """The keys of all batches, in order."""
    return [key for *_, keys in batches for key in keys]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where anything is amiss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=200, help="at least, however long that takes (default: 200)")
    parser.add_argument("--shards", type=int, default=3000, help="of the set that has most (default: 3000)")
    parser.add_argument("--interrupts", type=int, default=24, help="programs to interrupt (default: 24)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    chance = random.Random(given.seed)
    logging.getLogger("mps_shards").setLevel(logging.ERROR)  # of every broken image, every time
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
    return 1 if soak.amiss else 0


@contextmanager
def faulty_store(folder: Path, seed: int) -> Iterator[str]:
    """A store of the sets, in a process of its own; gives its address."""
    command = [sys.executable, "-m", "tools.scripts.faulty_store", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as store:
        try:
            assert store.stdout is not None
            yield store.stdout.readline().strip()
        finally:
            store.kill()


def run(soak: Soak, *, minutes: float, epochs: int) -> list[Held]:
    """What was held after each episode; and a line a minute."""
    numbers = array("d")  # not a list of objects, which would be the blocks of Python that are counted
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
    soak.amiss += growth(seen)
    return seen


def interrupted(soak: Soak, count: int) -> list[float]:
    """Seconds that each program took to end."""
    took = []
    for number in range(count):
        transfer = ("cpu", "inline", "thread")[number % 3]
        try:
            took.append(seconds_to_end(soak.sets.train, transfer, soak.chance.random()))
        except RuntimeError as error:
            soak.amiss.append(str(error))
    if took and max(took) >= INTERRUPT_S:
        soak.amiss.append(f"Ctrl-C took {max(took):.1f} s, {INTERRUPT_S:.0f} s are allowed")
    return took


def report(soak: Soak, seen: Sequence[Held], took: Sequence[float]) -> None:
    """The figures, and what is amiss."""
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
    for line in soak.amiss[:20]:
        print(f"AMISS: {line}")
    print("all is well" if not soak.amiss else f"{len(soak.amiss)} things are amiss")


if __name__ == "__main__":
    sys.exit(main())
