"""Measurements of a loader, which are plain numbers that the threads of the loader add up.

Nothing in this module takes a lock. A `StageTimes` belongs to one thread. The fields of a `LoaderStats` are written
either by the worker threads, under their lock, or by the thread that takes batches; users get a copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from html import escape
from typing import Any, Literal, NamedTuple, TypeAlias

from mps_shards.wording import counted, megabytes

__all__ = ["STAGES", "Bottleneck", "LoaderStats", "Skip", "SkipReport", "StageTimes", "html_table", "scalars_to"]

Stage: TypeAlias = Literal["read", "decode", "transform", "assemble"]
Bottleneck: TypeAlias = Literal["nothing", "loop", "transfer"] | Stage

STAGES: tuple[Stage, ...] = ("read", "decode", "transform", "assemble")

_WAITS = 0.05  # a training loop that waits for less than this share of the time is not limited by the loader
_SENDS = 0.3  # a training loop that spends more than this share of the time on sending batches is limited by sending


class Skip(NamedTuple):
    """A bad sample that was skipped, or the rest of a foreign shard.

    Attributes:
        key: key of the sample; None if it could not be read.
        shard: name of the tar that holds the sample.
        position: position in the epoch's sequence; None for the rest of a foreign shard.
        reason: message of the error.
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
    """The samples that an iteration skipped.

    Attributes:
        count: number of skipped samples.
        first: the first hundred of them.
    """

    count: int = 0
    first: tuple[Skip, ...] = ()


@dataclass(slots=True)
class StageTimes:
    """Seconds that one worker thread spent in each stage, and the number of bytes that it read."""

    read: float = 0.0
    decode: float = 0.0
    transform: float = 0.0
    assemble: float = 0.0
    bytes_read: int = 0

    def take(self) -> "StageTimes":
        """Return a copy of the times so far, and reset this object to 0."""
        taken = StageTimes(self.read, self.decode, self.transform, self.assemble, self.bytes_read)
        self.read = self.decode = self.transform = self.assemble = 0.0
        self.bytes_read = 0
        return taken


@dataclass(slots=True, kw_only=True)
class LoaderStats:
    """Statistics of the current or last iteration of a `DeviceLoader`. Times are in seconds.

    ``print(stats)`` prints a short table; `verdict` names in one line what limits the speed.

    Attributes:
        batches, images: numbers of delivered batches and images.
        skipped: number of samples that ``on_bad_sample`` skipped, also of batches that are not delivered yet.
        skips: the first hundred of the skipped samples.
        elapsed_s: time since the iteration began, up to its end.
        starved_s: time for which the training loop waited for batches.
        blocked_s: time for which workers waited for a free host buffer, because the training loop was slower, added up
            over all workers.
        read_s, decode_s, transform_s, assemble_s: time that workers spent in each stage, added up over all workers.
            Work before pixels are decoded (finding the size of an image, its class, the crop) counts as reading. One
            call of the native kernel decodes, transforms and assembles, and counts as decoding.
        bytes_read: number of bytes of samples that were read.
        requests, bytes_fetched, request_retries: number of requests to object stores, of bytes received, and of
            requests that were repeated.
        cache_hits: number of files that the cache already held.
        waited_s: the part of `read_s` in which workers waited for bytes from an object store.
        bytes_sent: number of bytes of host memory that were sent to the device, or delivered on the CPU.
        send_s: time that the training loop's thread spent on issuing transfers.
        flight_s: time from issuing a transfer until its end was noticed, added up over all batches.
        retries: number of transfers that were repeated after the device ran out of memory.
        ready, filling, in_flight: number of batches that are now ready, being filled, or being transferred.
        workers: number of worker threads.
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
        """Delivered images per second of the iteration."""
        return self.images / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def starved(self) -> float:
        """Share of the time, 0..1, for which the training loop waited for a batch."""
        return self.starved_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def blocked(self) -> float:
        """Share of the workers' time, 0..1, for which they waited for a free host buffer."""
        return self.blocked_s / (self.elapsed_s * self.workers) if self.elapsed_s and self.workers else 0.0

    def add(self, times: StageTimes) -> None:
        """Add the times and the bytes of a worker."""
        self.read_s += times.read
        self.decode_s += times.decode
        self.transform_s += times.transform
        self.assemble_s += times.assemble
        self.bytes_read += times.bytes_read

    def since(self, earlier: "LoaderStats") -> "LoaderStats":
        """Return the statistics since an earlier copy of the same iteration.

        The numbers of workers and of ready, filling and in-flight batches are not subtracted.
        """
        left = replace(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and field.name not in ("ready", "filling", "in_flight", "workers"):
                setattr(left, field.name, value - getattr(earlier, field.name))
        return left

    def shares(self) -> dict[str, float]:
        """Return the share, 0..1, that each stage has in the time for which workers were busy."""
        spent = {stage: float(getattr(self, f"{stage}_s")) for stage in STAGES}
        busy = sum(spent.values()) or 1.0
        return {stage: seconds / busy for stage, seconds in spent.items()}

    def bottleneck(self) -> Bottleneck:
        """Return what limits the speed: a stage of the workers, "transfer", or "loop" for the training loop."""
        if not self.batches:
            return "nothing"
        if self.starved < _WAITS:
            sending = self.send_s / self.elapsed_s if self.elapsed_s else 0.0
            return "transfer" if sending > _SENDS else "loop"
        if self.blocked > 0.5:  # workers wait for buffers and the loop waits for batches, so copies hold the buffers
            return "transfer"
        shares = self.shares()
        return max(STAGES, key=lambda stage: shares[stage])

    def verdict(self) -> str:
        """Return one line that names what limits the speed: a stage of the workers, the transfer, or the loop."""
        limit = self.bottleneck()
        waited = f"the training loop waited {self.starved:.0%} of the time"
        if limit == "nothing":
            return "nothing was delivered yet"
        if limit == "loop":
            return f"device-bound: {waited} for batches"
        if limit == "transfer":
            sending = self.send_s / self.elapsed_s if self.elapsed_s else 0.0
            return f"transfer-bound: {waited}, and spent {sending:.0%} of it sending batches"
        return f"loader-bound: {waited}; {self.shares()[limit]:.0%} of the workers' busy time went into {limit}"

    def summary(self) -> str:
        """Return one line with the number of images, the speed, the share of waiting, and the skipped samples."""
        skipped = f", {counted(self.skipped, 'sample')} skipped" if self.skipped else ""
        return (
            f"{counted(self.images, 'image')} in {self.elapsed_s:.1f} s, {self.images_per_s:,.0f} images/s, "
            f"waited {self.starved:.0%}{skipped}"
        )

    def rows(self) -> list[tuple[str, str]]:
        """Return the names and values of the table that ``print(stats)`` prints, without events that did not occur."""
        rows = [
            ("delivered", f"{counted(self.images, 'image')} in {counted(self.batches, 'batch')}"),
            ("time", f"{self.elapsed_s:.1f} s, {self.images_per_s:,.0f} images/s"),
            ("training loop", f"waited for batches {self.starved:.0%} of the time"),
            (
                counted(self.workers, "worker"),
                ", ".join(f"{stage} {share:.0%}" for stage, share in self.shares().items())
                + f"; waited for a free host buffer {self.blocked:.0%} of the time",
            ),
            ("read", f"{megabytes(self.bytes_read)} of samples"),
            ("sent", f"{megabytes(self.bytes_sent)} of batches"),
        ]
        if self.requests or self.cache_hits:
            repeated = f", {self.request_retries:,} repeated" if self.request_retries else ""
            requests = f"{megabytes(self.bytes_fetched)} in {counted(self.requests, 'request')}{repeated}"
            rows.append(("object store", f"{requests}; {counted(self.cache_hits, 'file')} in the cache"))
        if self.retries:
            rows.append(("device memory", f"ran out; {counted(self.retries, 'batch')} sent again"))
        if self.skipped:
            first = f"; the first is {self.skips[0]}" if self.skips else ""
            rows.append(("skipped", f"{counted(self.skipped, 'sample')}{first}"))
        return [*rows, ("verdict", self.verdict())]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return html_table(self.rows())


def html_table(rows: list[tuple[str, str]]) -> str:
    """Return an HTML table with a row for each name and its value."""
    lines = (
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows
    )
    return f"<table>{''.join(lines)}</table>"


def scalars_to(writer: Any, *, tag: str = "loader") -> Callable[[LoaderStats], None]:
    """Return a callback for ``DeviceLoader(on_stats=...)`` that writes speed and waiting of each interval as scalars.

    Args:
        writer: object with a method ``add_scalar(name, value, step)``, such as TensorBoard's SummaryWriter. Each
            delivered batch is a step; steps continue over the epochs.
        tag: prefix of the names of the scalars.
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
