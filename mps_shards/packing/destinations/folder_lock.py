"""A lock on a folder, held by one process or shared by a group of processes."""

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from mps_shards.errors import ConfigError
from mps_shards.storage.disk_sync import make_folder

__all__ = ["locked"]

# NFS without lockd, Lustre without -o flock and most mounted object stores cannot lock files.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool, what: str) -> Iterator[None]:
    """Lock a folder, which is made if it is absent. The system releases the lock when this process ends.

    Args:
        shared: allow other processes to hold a shared lock at the same time.
        what: name of the locked place, for the error message.

    Raises:
        ConfigError: another process holds the lock.
    """
    path = folder / "lock"
    while True:
        make_folder(folder)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another process finished meanwhile and removed the folder
            continue
        try:
            _lock(descriptor, shared=shared, what=what)
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
                yield
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, shared: bool, what: str) -> None:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 1000, 0).decode("utf-8", "replace") or "another process"
        raise ConfigError(
            f"{what} is being packed by {owner}; wait until it has finished, or name another place"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the locked file still has this path. Otherwise it was removed, and others may lock a new file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
