"""Threads and regular files that this process has open, to find threads and files that a test leaves behind."""

import fcntl
import os
import stat
import sys
import threading


def threads() -> set[str]:
    """Return live threads that are ours or keep the process alive; daemon threads of libraries do not count."""
    return {
        f"thread {thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if thread.is_alive() and (not thread.daemon or thread.name.startswith("mps-shards"))
    }


def files() -> set[str]:
    """Return open regular files, without files that libraries keep open: shared memory and matplotlib's fonts."""
    found = set()
    for descriptor in map(int, os.listdir("/dev/fd")):
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                found.add(f"file {_path(descriptor)} (descriptor {descriptor})")
        except OSError:  # closed since the listing, like the descriptor that lists
            continue
    return {file for file in found if not file.startswith("file /dev/shm/") and ".ttf (" not in file}


def _path(descriptor: int) -> str:
    if sys.platform == "darwin":
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{descriptor}")
