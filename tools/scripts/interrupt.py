"""Measurement of the time that a training loop and its threads take to end after Ctrl-C."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__ = ["seconds_to_end"]

_ENDLESS = """
import itertools, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes of a shell ignore SIGINT
from mps_shards import DeviceLoader, ShardDataset, classify
data = ShardDataset(sys.argv[1], batch_size=8, transform=classify.train(64), shuffle=True)
loader = DeviceLoader(data, device="cpu", num_threads=3, transfer=sys.argv[2])
sys.unraisablehook = lambda lost: print(f"lost in {getattr(lost.object, '__module__', lost.object)}", flush=True)
try:
    print("ready", flush=True)
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        for batch in loader:
            pass
except KeyboardInterrupt:
    print(threading.active_count(), flush=True)
    raise
"""


def seconds_to_end(shards: Path, transfer: str, after_s: float) -> float:
    """Return the seconds from Ctrl-C until the training loop and its threads have ended.

    The time in which the interpreter ends is not included; torch alone takes about 0.1 s on an idle machine.

    Args:
        transfer: transfer engine of the loader.
        after_s: seconds between the first batches and Ctrl-C.

    Raises:
        RuntimeError: the program ended without KeyboardInterrupt, left threads, or took over a minute.
    """
    command = [sys.executable, "-c", _ENDLESS, str(shards), transfer]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        alarm = threading.Timer(60 + after_s, program.kill)
        alarm.start()
        try:
            program.stdout.readline()
            time.sleep(after_s)
            pressed = time.monotonic()
            program.send_signal(signal.SIGINT)
            threads = program.stdout.readline().strip()
            took = time.monotonic() - pressed
            _, said = program.communicate()
        finally:
            alarm.cancel()
            alarm.join()
    if program.returncode != -signal.SIGINT or threads != "1" or "KeyboardInterrupt" not in said:
        raise RuntimeError(f"{transfer}: {threads or 'no'} threads and code {program.returncode} after Ctrl-C: {said}")
    return took
