"""Protection of the training loop's thread against KeyboardInterrupt at any point.

Python can raise KeyboardInterrupt in the main thread between any two bytecodes: also inside `threading.Condition` and
`threading.Event`, which are written in Python and then stay locked for ever, and inside finalizers, which swallow it.
So code that runs in the training loop's thread takes only locks written in C, waits on a `WakeUp`, has no finalizers
written in Python, and repeats a clean-up that was interrupted. tests/device/test_interrupts.py interrupts every line.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["WakeUp", "uninterrupted"]


class WakeUp:
    """Wakes one waiting thread, or else the next thread that waits. Several calls of `set` before a wait count once."""

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake the waiting thread. Any thread may call this method."""
        with contextlib.suppress(RuntimeError):  # it is set already
            self._unset.release()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until `set` is called; return whether it was called in time. None waits for ever."""
        return self._unset.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay KeyboardInterrupt until the block ends, for short work that must not be left half-done.

    In other threads than the main thread, where Python raises no KeyboardInterrupt, the block is not changed.
    """
    handler = signal.getsignal(signal.SIGINT)
    # without a Python handler, the signal is ignored or ends the process
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
