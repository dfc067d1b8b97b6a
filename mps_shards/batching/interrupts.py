"""What keeps Ctrl-C from doing harm in the training loop's thread, wherever it falls.

Python raises KeyboardInterrupt in the main thread, between any two of its steps: also inside of `threading.Condition`
and `Event`, which are Python and then keep their lock for ever; and inside of finalizers, where it is lost. So the code
that the training loop's thread runs enters locks of C only, waits by a `Bell`, has no finalizers of Python, and tidies
up once more where Ctrl-C fell into tidying up. tests/feed/test_interrupts.py tries all places.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Bell", "uninterrupted"]


class Bell:
    """Wakes a thread that waits, or else the next that does. Rung twice before somebody waits, it has rung once."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # rung already
            self._silence.release()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it rang in time (None: ever)."""
        return self._silence.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block ends: for short work that cannot be left half-done, as starting a thread.

    In another thread than the main one it does nothing, and nothing is needed.
    """
    handler = signal.getsignal(signal.SIGINT)
    # else it is ignored, or ends the process
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(signal.SIGINT, held[0])
