"""A limit for the number of pixels that all threads of a process hold decoded at the same time.

A small file can hold an image of `MAX_PIXELS` pixels, which takes more than 1 GB while a thread decodes it. So large
images wait for each other: together they never have more than `LIMIT` pixels, except for a single image that is larger.
Images with fewer than `COUNTED_FROM` pixels are not counted.
"""

import os
import threading
import time

from mps_shards.vision.image_files import MAX_PIXELS

__all__ = ["COUNTED_FROM", "LIMIT", "PixelBudget", "budget"]

LIMIT = MAX_PIXELS
COUNTED_FROM = 1 << 24  # pixels, 50 MB as RGB: photographs of most cameras never wait

_POLL_S = 0.005  # interval at which a waiting thread tries again; decoding a large image takes seconds


class PixelBudget:
    """A number of pixels that threads share. No lock stays locked after a KeyboardInterrupt or in a forked child."""

    def __init__(self, limit: int):
        self._limit = limit
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._in_use = 0
        self._thread = threading.local()

    def begin_sample(self) -> None:
        """Count the pixels that this thread takes from now on, until `end_sample`."""
        self._thread.taken = 0

    def end_sample(self) -> None:
        """Give back the pixels that this thread has taken since `begin_sample`."""
        taken, self._thread.taken = self._thread.taken, None
        if taken:
            with self._lock:
                self._in_use -= taken

    def take(self, pixels: int) -> None:
        """Wait until an image with this number of pixels may be decoded.

        The method does nothing for small images, or outside of a sample.
        A thread that already holds pixels never waits, because other threads could be waiting for these pixels.
        """
        taken = getattr(self._thread, "taken", None)
        if taken is None or pixels < COUNTED_FROM:
            return
        while not self._try_take(pixels, must=bool(taken)):
            time.sleep(_POLL_S)
        self._thread.taken += pixels

    def _try_take(self, pixels: int, *, must: bool) -> bool:
        with self._lock:
            fits = must or not self._in_use or self._in_use + pixels <= self._limit
            if fits:
                self._in_use += pixels
            return fits


budget = PixelBudget(LIMIT)
