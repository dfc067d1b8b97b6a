"""A limit for the number of pixels that all threads of a process hold decoded at the same time.

A small file can hold an image of `MAX_PIXELS`, which takes 1 GB and more while it is decoded, in each thread. So
large images wait for each other: together they never have more pixels than `LIMIT`, except for a single image that is
larger. Images below `COUNTED_FROM` pixels are not counted.
"""

import os
import threading
import time

from mps_shards.vision.image_files import MAX_PIXELS

__all__ = ["COUNTED_FROM", "LIMIT", "PixelBudget", "budget"]

LIMIT = MAX_PIXELS
COUNTED_FROM = 1 << 24  # pixels, 50 MB as RGB: photographs of most cameras never wait

_POLL_S = 0.005  # short beside the seconds for which a large image is decoded


class PixelBudget:
    """A number of pixels that threads share. It has no lock that a KeyboardInterrupt or a fork could leave locked."""

    def __init__(self, limit: int):
        self._limit = limit
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._in_use = 0
        self._thread = threading.local()

    def begin_sample(self) -> None:
        """Begin to count the large images of this thread, until `end_sample`."""
        self._thread.taken = 0

    def end_sample(self) -> None:
        """Return the pixels that this thread took since `begin_sample`."""
        taken, self._thread.taken = self._thread.taken, None
        if taken:
            with self._lock:
                self._in_use -= taken

    def take(self, pixels: int) -> None:
        """Wait until so many pixels may be decoded. Does nothing for small images, or outside of a sample.

        A thread that already holds pixels never waits, since other threads could be waiting for these pixels.
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
