"""Ctrl-C at every location of a program where CPython may raise KeyboardInterrupt, one after the other.

CPython checks for signals when a Python function begins, after each call, and when a loop jumps back. A trace function
is called at all these locations, and raises KeyboardInterrupt there.
"""

import _weakrefset
import dis
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import mps_shards

__all__ = ["Place", "interrupted", "places_of"]

_LOOKS_AFTER = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"}
_BEGIN = -1
_PACKAGE = f"{Path(mps_shards.__file__).parent}{os.sep}"

# Location of a function and of its caller: (code, offset of the instruction) of both.
Place = tuple[tuple[CodeType, int], tuple[CodeType, int] | None]


class _Tracer:
    """Calls `at` at each location."""

    def __init__(self, at: Callable[[Place, FrameType], None]):
        self._at = at
        self._last: dict[FrameType, int] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._last[frame] = _BEGIN
        self._look(frame, _BEGIN)
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            last, self._last[frame] = self._last.get(frame, _BEGIN), frame.f_lasti
            if last >= 0 and dis.opname[frame.f_code.co_code[last]] in _LOOKS_AFTER:
                self._look(frame, last)
        elif event == "return":
            self._last.pop(frame, None)
        return self._step

    def _look(self, frame: FrameType, offset: int) -> None:
        caller = frame.f_back
        self._at(((frame.f_code, offset), caller and (caller.f_code, caller.f_lasti)), frame)


@contextmanager
def _traced(at: Callable[[Place, FrameType], None]) -> Iterator[None]:
    gc.collect()
    gc.disable()  # so that finalizers of other tests do not run in this program
    sys.settrace(_Tracer(at))
    try:
        yield
    finally:
        sys.settrace(None)
        gc.enable()


def places_of(program: Callable[[], object]) -> list[Place]:
    """Return the locations in the package and in code that it calls, in the order of the first visit."""
    found: dict[Place, bool] = {}
    with _traced(lambda place, frame: found.setdefault(place, _is_ours(frame))):
        program()
    return [place for place, ours in found.items() if ours]


@contextmanager
def interrupted(at: Place) -> Iterator[list[str]]:
    """Raise KeyboardInterrupt at the first visit of a location, and put the stack, innermost first, into the list."""
    where: list[str] = []

    def look(place: Place, frame: FrameType) -> None:
        if place != at or where or not _is_ours(frame):
            return
        outer: FrameType | None = frame
        while outer is not None and len(where) < 6:
            where.append(f"{outer.f_code.co_filename}:{outer.f_lineno} {outer.f_code.co_name}")
            outer = outer.f_back
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)
        handler(signal.SIGINT, frame)  # Python's default handler raises KeyboardInterrupt

    with _traced(look):
        yield where


def _is_ours(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_code.co_filename == _weakrefset.__file__:
        return False  # `threading` has such sets, and Python loses exceptions in their finalizers
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame is not None
