"""How long a store is given, and how often it is asked again."""

import random
from dataclasses import dataclass

__all__ = ["PATIENCE", "Patience"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Time-outs in seconds, and retries with exponential back-off and jitter.

    Attributes:
        attempts: in a row without progress, before giving up.
        first_wait_s, longest_wait_s: before the second attempt, and at most; each wait is up to half shorter.
        connect_s: for a connection.
        silence_s: for the next byte.
        request_s: for a whole ranged request, which is of 8 MiB at most.
    """

    attempts: int = 8  # waits of 0.2 s and on, 23 s in all: longer than a store's usual burst of 503s
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0
    connect_s: float = 10.0
    silence_s: float = 30.0
    request_s: float = 300.0

    def wait_s(self, failures: int) -> float:
        """Before trying again after so many failures in a row."""
        full = min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)
        return full * random.uniform(0.5, 1.0)


PATIENCE = Patience()
