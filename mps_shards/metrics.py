"""What a loader measured: plain numbers, added up by those who did the work.

Nothing here locks. A `StageTimes` belongs to one thread; a `LoaderStats` is written by `feed.workers` under its lock
and by the one thread that takes batches, each its own fields, and is read as a copy; the rest are constants.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["STAGES", "Bottleneck", "LoaderStats", "Skip", "SkipReport", "StageTimes", "scalars_to"]

Stage: TypeAlias = Literal["read", "decode", "transform", "assemble"]
Bottleneck: TypeAlias = Literal["nothing", "loop", "transfer"] | Stage

STAGES: tuple[Stage, ...] = ("read", "decode", "transform", "assemble")

_WAITS = 0.05  # of the time: a loop that waits less is fed well enough
_SENDS = 0.3  # of the time: a loop that spends more in sending is held up by it


class Skip(NamedTuple):
    """A bad sample that was left out.

    Attributes:
        key: None where it could not be read.
        shard: name of its tar.
        position: in the epoch's sequence; None for the rest of a foreign tar.
        reason: the error's message.
    """

    key: str | None
    shard: str
    position: int | None
    reason: str

    def __str__(self) -> str:
        what = f"sample {self.key!r}" if self.key is not None else f"the sample at position {self.position}"
        return f"{what if self.position is not None else 'the rest'} of shard {self.shard}: {self.reason}"


@dataclass(frozen=True, slots=True)
class SkipReport:
    """What an iteration left out: how many, and the first hundred of them."""

    count: int = 0
    first: tuple[Skip, ...] = ()


@dataclass(slots=True)
class StageTimes:
    """Seconds that one worker spent in each stage. Not shared: each worker has its own, and hands it over."""

    read: float = 0.0
    decode: float = 0.0
    transform: float = 0.0
    assemble: float = 0.0
    bytes_read: int = 0

    def take(self) -> "StageTimes":
        """The figures so far; this object starts again from nothing."""
        taken = StageTimes(*(getattr(self, field.name) for field in fields(self)))
        self.read = self.decode = self.transform = self.assemble = 0.0
        self.bytes_read = 0
        return taken


@dataclass(slots=True, kw_only=True)
class LoaderStats:
    """What a `DeviceLoader` did since its current (or last) iteration began. Times in seconds.

    Attributes:
        batches, images: delivered.
        skipped: samples left out by ``on_bad_sample``, of batches that are still to come too.
        skips: the first hundred of them.
        elapsed_s: since the iteration began, up to its end.
        starved_s: of that, the training loop waited for a batch.
        blocked_s: workers, added up, waited for a free slot: the training loop is slower than the loader.
        read_s, decode_s, transform_s, assemble_s: of the workers, added up. What is decided before pixels are known
            (an image's size, its class, the crop) counts as reading.
        bytes_read: of shards.
        requests, bytes_fetched: asked of stores, and received; `request_retries` of the requests were repeats.
        cache_hits: files that the cache had already.
        waited_s: of `read_s`, for bytes of a store that were not there yet.
        bytes_sent: host memory that went to the device (or was handed over, on the CPU).
        send_s: the training loop's thread spent issuing transfers.
        flight_s: from issuing a copy to seeing it finished, added up over the batches.
        retries: copies issued again after the device ran out of memory.
        ready, filling, in_flight: batches in that state now.
        workers: threads.
    """

    batches: int = 0
    images: int = 0
    skipped: int = 0
    skips: tuple[Skip, ...] = ()
    elapsed_s: float = 0.0
    starved_s: float = 0.0
    blocked_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0
    transform_s: float = 0.0
    assemble_s: float = 0.0
    bytes_read: int = 0
    requests: int = 0
    bytes_fetched: int = 0
    request_retries: int = 0
    cache_hits: int = 0
    waited_s: float = 0.0
    bytes_sent: int = 0
    send_s: float = 0.0
    flight_s: float = 0.0
    retries: int = 0
    ready: int = 0
    filling: int = 0
    in_flight: int = 0
    workers: int = 0

    @property
    def images_per_s(self) -> float:
        """Delivered per second of the iteration."""
        return self.images / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def starved(self) -> float:
        """Share of the time, 0..1, that the training loop waited for a batch."""
        return self.starved_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def blocked(self) -> float:
        """Share of the workers' time, 0..1, that they waited for a free slot."""
        return self.blocked_s / (self.elapsed_s * self.workers) if self.elapsed_s and self.workers else 0.0

    def add(self, times: StageTimes) -> None:
        """Add a worker's figures."""
        for stage in STAGES:
            name = f"{stage}_s"
            setattr(self, name, getattr(self, name) + getattr(times, stage))
        self.bytes_read += times.bytes_read

    def since(self, earlier: "LoaderStats") -> "LoaderStats":
        """What came after an earlier snapshot of the same iteration; levels and workers as they are now."""
        left = replace(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and field.name not in ("ready", "filling", "in_flight", "workers"):
                setattr(left, field.name, value - getattr(earlier, field.name))
        return left

    def shares(self) -> dict[str, float]:
        """Of the time that workers were busy, 0..1, by stage."""
        spent = {stage: float(getattr(self, f"{stage}_s")) for stage in STAGES}
        busy = sum(spent.values()) or 1.0
        return {stage: seconds / busy for stage, seconds in spent.items()}

    def bottleneck(self) -> Bottleneck:
        """What limits the speed: a stage of the workers, the transfer, or the training loop."""
        if not self.batches:
            return "nothing"
        if self.starved < _WAITS:
            sending = self.send_s / self.elapsed_s if self.elapsed_s else 0.0
            return "transfer" if sending > _SENDS else "loop"
        if self.blocked > 0.5:  # workers wait for slots, the loop waits for batches: copies hold the slots
            return "transfer"
        shares = self.shares()
        return max(STAGES, key=lambda stage: shares[stage])

    def verdict(self) -> str:
        """One line: what limits the speed, the loader (and which of its stages) or the training loop."""
        found = self.bottleneck()
        waited = f"the training loop waited {self.starved:.0%} of the time"
        if found == "nothing":
            return "nothing was delivered yet"
        if found == "loop":
            return f"device-bound: {waited} for batches"
        if found == "transfer":
            sending = self.send_s / self.elapsed_s if self.elapsed_s else 0.0
            return f"transfer-bound: {waited}, and spent {sending:.0%} of it sending batches"
        return f"loader-bound: {waited}; {self.shares()[found]:.0%} of the workers' time went into {found}"


def scalars_to(writer: Any, *, tag: str = "loader") -> Callable[[LoaderStats], None]:
    """For ``DeviceLoader(on_stats=…)``: writes speed and waiting of each interval as scalars.

    Args:
        writer: anything with ``add_scalar(name, value, step)``, as TensorBoard's SummaryWriter has it; a step is a
            delivered batch, counted on over the epochs.
    """
    last, done = LoaderStats(), 0

    def write(stats: LoaderStats) -> None:
        nonlocal last, done
        new = stats.since(last if stats.batches >= last.batches else LoaderStats())
        last, done = stats, done + new.batches
        if not new.batches:
            return
        values = {"images_per_s": new.images_per_s, "starved": new.starved, "blocked": new.blocked, **new.shares()}
        for name, value in values.items():
            writer.add_scalar(f"{tag}/{name}", value, done)

    return write
