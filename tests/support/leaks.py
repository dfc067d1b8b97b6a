"""What this process holds open now: threads that someone must join, and regular files that someone must close."""

import fcntl
import os
import stat
import sys
import threading


def threads() -> set[str]:
    """Live threads that are ours or keep the process alive; daemons of libraries are theirs to mind."""
    return {
        f"thread {thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if thread.is_alive() and (not thread.daemon or thread.name.startswith("mps-shards"))
    }


def files() -> set[str]:
    """Open regular files. Not pipes, sockets or devices, nor what libraries keep: shared memory, matplotlib's fonts."""
    found = set()
    for descriptor in map(int, os.listdir("/dev/fd")):
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                found.add(f"file {_path(descriptor)} (descriptor {descriptor})")
        except OSError:  # closed since it was listed, as is the one that lists
            continue
    return {file for file in found if not file.startswith("file /dev/shm/") and ".ttf (" not in file}


def _path(descriptor: int) -> str:
    if sys.platform == "darwin":
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{descriptor}")
