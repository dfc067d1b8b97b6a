"""What a loader measured: plain numbers, added up by those who did the work."""

from dataclasses import dataclass, fields

__all__ = ["STAGES", "LoaderStats", "StageTimes"]

STAGES = ("read", "decode", "transform", "assemble")


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
        skipped: samples left out by ``on_bad_sample``.
        elapsed_s: since the iteration began, up to its end.
        starved_s: of that, the training loop waited for a batch.
        blocked_s: workers, added up, waited for a free slot: the training loop is slower than the loader.
        read_s, decode_s, transform_s, assemble_s: of the workers, added up.
        bytes_read: of shards.
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
    elapsed_s: float = 0.0
    starved_s: float = 0.0
    blocked_s: float = 0.0
    read_s: float = 0.0
    decode_s: float = 0.0
    transform_s: float = 0.0
    assemble_s: float = 0.0
    bytes_read: int = 0
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

    def verdict(self) -> str:
        """One line: what limits the speed, the loader (and which of its stages) or the training loop."""
        if not self.batches:
            return "nothing was delivered yet"
        if self.starved < 0.05:
            return f"device-bound: the training loop waited {self.starved:.0%} of the time for batches"
        spent = {stage: getattr(self, f"{stage}_s") for stage in STAGES}
        slowest = max(spent, key=lambda stage: spent[stage])
        share = spent[slowest] / (sum(spent.values()) or 1.0)
        return (
            f"loader-bound: the training loop waited {self.starved:.0%} of the time; "
            f"{share:.0%} of the workers' time went into {slowest}"
        )
