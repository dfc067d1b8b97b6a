"""Options for time-outs and retries of requests to stores."""

import math
import random
from dataclasses import dataclass, fields, replace

from mps_shards.errors import ConfigError

__all__ = ["StoreOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Time-outs in seconds, and retries with exponential back-off and jitter, for all folders that are not local.

    Example:
        options = ReadOptions(store=StoreOptions(attempts=3, read_timeout_s=60, give_up_s=180))
        ShardDataset("s3://bucket/imgs-shards", batch_size=64, read_options=options)

    Attributes:
        attempts: Number of failed attempts in a row, without progress, after which a request is given up.
        first_wait_s: Wait before the second attempt. Each further wait is twice as long.
        longest_wait_s: Upper bound of a wait. Every wait is shortened at random by up to a half.
        connect_timeout_s: Longest time for making a connection.
        read_timeout_s: Time without a byte after which an attempt has failed.
        give_up_s: Time without progress after which a request is given up, whatever the number of attempts. Uploads,
            whose progress is not known, are limited by the number of attempts alone.
        request_timeout_s: Longest time for one ranged request of at most 8 MiB, or for one part of an upload.
    """

    attempts: int = 8  # the waits add up to 23 s, longer than a store's usual burst of 503s
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
        """Return the default options with another time-out and another number of attempts, as commands take them.

        Args:
            timeout_s: Sets `read_timeout_s`, bounds `connect_timeout_s`, and three times this value is `give_up_s`.
        """
        options = cls() if attempts is None else cls(attempts=attempts)
        if timeout_s is None:
            return options
        connect_s = min(timeout_s, options.connect_timeout_s)
        return replace(options, connect_timeout_s=connect_s, read_timeout_s=timeout_s, give_up_s=3 * timeout_s)

    def wait_s(self, failures: int) -> float:
        """Return the seconds to wait before the next attempt, after this many failures in a row."""
        full = min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)
        return full * random.uniform(0.5, 1.0)
