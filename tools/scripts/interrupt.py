"""How long a training program's loop takes to end after Ctrl-C, its threads included."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__ = ["seconds_to_end"]

_ENDLESS = """
import itertools, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it
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
    """From Ctrl-C, pressed so long after the loader was made, until the loop was left and its threads were gone.

    What the interpreter takes to end comes on top: torch alone is some 0.1 s on an idle machine. Python loses a Ctrl-C
    that falls into a finalizer, as `threading` has some; people press again then, and so does this.

    Raises:
        RuntimeError: it ended otherwise than by KeyboardInterrupt, left threads, or took over a minute.
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
