"""How long a store may take to answer, and how often a failed request is repeated."""

import math
import random
from dataclasses import dataclass, fields, replace

from mps_shards.errors import ConfigError

__all__ = ["StoreOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Time-outs in seconds, and retries with exponential back-off and jitter, for everything that is not a local disk.

    Example:
        options = ReadOptions(store=StoreOptions(attempts=3, read_timeout_s=60, give_up_s=180))
        ShardDataset("s3://bucket/imgs-shards", batch_size=64, read_options=options)

    Attributes:
        attempts: Failed attempts in a row, without progress, after which a request is given up.
        first_wait_s: Wait before the second attempt. Each further wait is twice as long.
        longest_wait_s: Upper bound of a wait. Every wait is shortened at random by up to a half.
        connect_timeout_s: Time for making a connection.
        read_timeout_s: Time without a byte after which an attempt has failed.
        give_up_s: Time without progress after which a request is given up, however few the attempts. An upload, whose
            progress is not known, is bounded by the attempts alone.
        request_timeout_s: Time for one ranged request, which asks for 8 MiB at most, or for one part of an upload.
    """

    attempts: int = 8  # waits of 0.2 s and more, 23 s in all: longer than a store's usual burst of 503s
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 10.0
    give_up_s: float = 30.0
    request_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"attempts must be at least 1, not {self.attempts}")
        for name in (field.name for field in fields(self) if field.name.endswith("_s")):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a positive number of seconds, not {value}")

    @classmethod
    def limited(cls, *, timeout_s: float | None = None, attempts: int | None = None) -> "StoreOptions":
        """The options of commands: the defaults, but for a time without a byte and a number of attempts.

        Args:
            timeout_s: Becomes `read_timeout_s`, bounds `connect_timeout_s`, and three times as long is `give_up_s`.
        """
        options = cls() if attempts is None else cls(attempts=attempts)
        if timeout_s is None:
            return options
        connect_s = min(timeout_s, options.connect_timeout_s)
        return replace(options, connect_timeout_s=connect_s, read_timeout_s=timeout_s, give_up_s=3 * timeout_s)

    def wait_s(self, failures: int) -> float:
        """Seconds to wait before the next attempt, after this many failures in a row."""
        full = min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)
        return full * random.uniform(0.5, 1.0)
