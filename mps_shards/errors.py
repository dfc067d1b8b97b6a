"""Every error that this package raises on purpose, as one tree.

    ShardsError
    ├── ConfigError (ValueError)         an argument or option that cannot work
    ├── DataError                        what was read is not what it should be
    │   ├── ManifestError                manifest.json or index.npy
    │   ├── ShardError                   a tar file
    │   └── DecodeError                  an image, a mask or a label
    ├── StorageError (OSError)           a disk or a store did not do what was asked
    ├── ResumeMismatch                   a cursor of another data set, seed or shape
    └── ShutdownTimeout (TimeoutError)   a thread or a device did not finish in time

A message names the thing and both numbers: ``shard train-000012.tar holds 998 samples, its manifest says 1000``.
Foreign errors are translated at a room's edge with ``raise … from``; context is added with ``add_note``.
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
    """Root of the tree: catch it to catch all that this package raises on purpose."""


class ConfigError(ShardsError, ValueError):
    """An argument or option cannot work; the message says which and what would."""


class DataError(ShardsError):
    """What was read is not what it should be."""


class ManifestError(DataError):
    """``manifest.json`` or ``index.npy`` is missing, malformed, or disagrees with the shards."""


class ShardError(DataError):
    """A tar file is damaged, or not the one that the manifest describes."""


class DecodeError(DataError):
    """The image, mask or label of one sample cannot be decoded."""


class StorageError(ShardsError, OSError):
    """A disk or a store did not do what was asked."""


class ResumeMismatch(ShardsError):
    """A cursor belongs to another data set, seed, order or remainder."""


class ShutdownTimeout(ShardsError, TimeoutError):
    """A thread or a device did not finish in the time that it was given."""
