"""Every error that this package raises on purpose, as one tree.

    ShardsError
    ├── ConfigError (ValueError)        an argument or option is invalid
    ├── DataError                       content that was read is wrong
    │   ├── ManifestError               manifest, index or labels are wrong
    │   ├── ShardError                  a tar file is missing or damaged
    │   └── DecodeError                 an image or target cannot be decoded
    ├── StorageError (OSError)          a disk or an object store failed
    ├── ResumeMismatch                  a cursor belongs to another data set
    └── ShutdownTimeout (TimeoutError)  a thread or device did not end in time

A message names the thing, both numbers and the next step: ``shard train-000012.tar holds 998 samples, but its manifest
says 1000: run 'mps-shards verify imgs-shards'``. Errors of other libraries are translated with ``raise … from`` where
the package calls those libraries. Errors of a user's own code keep their type and gain a note.
"""

__all__ = [
    "ConfigError",
    "DataError",
    "DecodeError",
    "ManifestError",
    "ResumeMismatch",
    "ShardError",
    "ShardsError",
    "ShutdownTimeout",
    "StorageError",
]


class ShardsError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigError(ShardsError, ValueError):
    """An argument or option is invalid; the message names it and the accepted values."""


class DataError(ShardsError):
    """Content that was read is missing, damaged or inconsistent."""


class ManifestError(DataError):
    """``manifest.json``, ``index.npy`` or ``labels.npy`` is missing, malformed, or disagrees with the shards."""


class ShardError(DataError):
    """A tar file is missing, damaged, or not the one that the manifest describes."""


class DecodeError(DataError):
    """The image, label map or target of one sample cannot be decoded."""


class StorageError(ShardsError, OSError):
    """A disk or an object store failed or refused an operation."""


class ResumeMismatch(ShardsError):
    """A cursor belongs to another data set, seed, order or remainder, so resuming is refused."""


class ShutdownTimeout(ShardsError, TimeoutError):
    """A thread or a device did not finish within its time limit."""
