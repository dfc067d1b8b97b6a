"""Commands run in a process of their own that has a terminal for one of its streams."""

import os
import subprocess
import sys
from typing import Literal

__all__ = ["shown_on_terminal"]


def shown_on_terminal(*arguments: object, stream: Literal["stdout", "stderr"] = "stderr", columns: int = 140) -> str:
    """What ``mps-shards`` with these arguments writes to a terminal; its other stream goes nowhere."""
    terminal, ours = os.openpty()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: ours}
    with subprocess.Popen(
        [sys.executable, "-m", "mps_shards", *map(str, arguments)],
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns)},
        **streams,
    ):
        os.close(ours)
        seen = b""
        while True:
            try:
                seen += (more := os.read(terminal, 4096))
            except OSError:  # Linux says so when the other side is closed
                break
            if not more:
                break
    os.close(terminal)
    return seen.decode()
