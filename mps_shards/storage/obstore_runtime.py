"""The obstore module of this process, and a thread that runs obstore's requests so that they can be cancelled.

obstore's blocking functions cannot be interrupted (0.12.1: Ctrl-C waits for the request's time-out). So its
asynchronous functions are used: a caller can stop waiting, and the request is cancelled.

The threads of obstore do not survive a fork, and a child that uses them waits for ever (seen with 0.12.1). The child of
a process that has used obstore therefore imports a copy of the package from another folder, which starts new threads.
A thread of obstore that waits for the GIL when the interpreter ends would abort the process: Python before 3.14 ends
such a thread by unwinding its stack, which Rust does not allow. So the process waits for these threads before it ends.

Only public names are used. tests/storage/test_obstore_runtime.py tests both.
"""

import atexit
import contextlib
import importlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from mps_shards.storage.folder import Stop
from mps_shards.storage.interrupts import uninterrupted
from mps_shards.storage.ordered_map import raise_if_stopped
from mps_shards.storage.store_backend import Transient

if TYPE_CHECKING:
    import asyncio

__all__ = ["POLL_S", "answer_of", "obstore_module"]

_T = TypeVar("_T")

_FINISH_S = 2.0  # seconds to wait for the threads of obstore when the process ends
POLL_S = 0.1  # seconds between two checks of whether a wait is still needed


def obstore_module() -> Any:
    """Return the obstore module that this process may use."""
    return _of_this_process().module


def answer_of(
    request: Callable[[], Awaitable[_T]], *, timeout_s: float | None = None, stopped: Stop | None = None
) -> _T:
    """Return the response to a request. Ctrl-C, a stopped `ordered_map` and `stopped` cancel the request.

    Args:
        request: Calls an asynchronous function of obstore. The call runs on the thread for requests.

    Raises:
        Transient: There was no answer in time.
        Exception: Any error that the request raises.
    """
    runtime = _of_this_process()
    outcome: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()
    task: list[asyncio.Task[None]] = []

    async def run() -> None:
        try:
            outcome.put((await request(), None))
        except BaseException as error:
            outcome.put((None, error))

    def begin() -> None:
        task.append(runtime.loop.create_task(run()))
        runtime.tasks.add(task[0])
        task[0].add_done_callback(runtime.tasks.discard)

    runtime.loop.call_soon_threadsafe(begin)
    until = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        while True:
            with contextlib.suppress(Empty):
                result, error = outcome.get(timeout=POLL_S)
                if error is not None:
                    raise error
                return result  # type: ignore[return-value]  # None only if None is the result
            raise_if_stopped()
            if stopped is not None and stopped.done():
                raise Transient("reading was stopped")
            if until is not None and time.monotonic() > until:
                raise Transient(f"no answer in {timeout_s:g} s")
    except BaseException:
        runtime.loop.call_soon_threadsafe(lambda: [each.cancel() for each in task])
        raise


class _Runtime:
    """The obstore module and the request thread of one process. The thread is a daemon and ends with the process.

    Attributes:
        tasks: the requests that wait for an answer.
    """

    def __init__(self, *, copied: bool) -> None:
        self.module = _copy_of_obstore() if copied else importlib.import_module("obstore")
        self.loop = _new_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        atexit.register(self._finish, os.getpid())
        thread = threading.Thread(target=self.loop.run_forever, name="obstore-requests", daemon=True)
        with uninterrupted():
            thread.start()

    def _finish(self, pid: int) -> None:
        """Cancel the requests, and wait until the threads of obstore have delivered what they are delivering."""
        if pid != os.getpid():  # a forked child, in which the threads do not exist
            return
        until = time.monotonic() + _FINISH_S
        was_waiting = bool(self.tasks)
        self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in list(self.tasks)])
        while (self.tasks or self.loop.deliveries) and time.monotonic() < until:
            time.sleep(0.001)
        if was_waiting:  # a thread notices the cancellation after its task has ended
            time.sleep(POLL_S)


def _new_loop() -> Any:
    """Return an event loop that counts the calls from other threads that have not returned yet, as `deliveries`."""
    import asyncio  # only where a store is used, since the import takes 15 ms

    class Loop(asyncio.SelectorEventLoop):
        deliveries = 0

        def call_soon_threadsafe(self, callback: Any, *arguments: Any, context: Any = None) -> Any:  # type: ignore[override]
            self.deliveries += 1  # with the GIL: no other thread runs between reading and writing the number
            try:
                return super().call_soon_threadsafe(callback, *arguments, context=context)
            finally:
                self.deliveries -= 1

    return Loop()


_making = threading.Lock()
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)
_runtimes: dict[int, _Runtime] = {}  # by process id; those of parents are kept, as their modules must stay loaded


def _of_this_process() -> _Runtime:
    pid = os.getpid()
    runtime = _runtimes.get(pid)
    if runtime is None:
        with _making:
            runtime = _runtimes.get(pid)
            if runtime is None:
                runtime = _runtimes[pid] = _Runtime(copied=bool(_runtimes))
    return runtime


def _copy_of_obstore() -> Any:
    """Import obstore once more, from a copy of its folder, because a library is loaded again only from another file."""
    import obstore

    names = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "obstore"}
    with tempfile.TemporaryDirectory(prefix="mps-shards-") as folder:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(obstore.__path__[0], Path(folder) / "obstore", ignore=ignored)
        for name in names:
            del sys.modules[name]
        sys.path.insert(0, folder)
        try:
            importlib.invalidate_caches()
            copy = importlib.import_module("obstore")
            importlib.import_module("obstore.store")
            importlib.import_module("obstore.exceptions")
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
                del sys.modules[name]
            sys.modules.update(names)
    return copy
