"""Keeps KeyboardInterrupt from doing harm in the training loop's thread, wherever it is raised.

Python raises KeyboardInterrupt in the main thread, between any two of its steps: also inside `threading.Condition` and
`threading.Event`, which are written in Python and then stay locked for ever, and inside finalizers, where it is lost.
So the code that the training loop's thread runs takes only locks written in C, waits on a `WakeUp`, has no finalizers
written in Python, and cleans up a second time where the interrupt fell into the first. tests/device/test_interrupts.py
tries every place.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["WakeUp", "uninterrupted"]


class WakeUp:
    """Wakes one thread that waits, or else the next one that does. Several calls of `set` before a wait count once."""

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake the thread that waits. Called from any thread."""
        with contextlib.suppress(RuntimeError):  # set already
            self._unset.release()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait, and say whether it was set in time. None waits for ever."""
        return self._unset.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay KeyboardInterrupt until the block ends, for short work that must not be left half-done.

    Does nothing in any thread but the main one, where Python raises no KeyboardInterrupt.
    """
    handler = signal.getsignal(signal.SIGINT)
    # otherwise the signal is ignored, or ends the process
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    delayed: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: delayed.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if delayed:
            handler(signal.SIGINT, delayed[0])
