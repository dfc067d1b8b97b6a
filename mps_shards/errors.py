"""Every error that this package raises on purpose, as one tree.

    ShardsError
    ├── ConfigError (ValueError)         invalid argument or option
    ├── DataError                        content that was read is wrong
    │   ├── ManifestError                missing or wrong manifest.json, index.npy or labels.npy
    │   ├── ShardError                   missing or damaged tar file
    │   └── DecodeError                  image, label map or target that cannot be decoded
    ├── StorageError (OSError)           disk or object store failed
    ├── ResumeMismatch                   cursor of another data set, seed or shuffle
    └── ShutdownTimeout (TimeoutError)   thread or device that did not finish in time

A message names the thing, both numbers and the next step: ``shard train-000012.tar holds 998 samples, but its manifest
says 1000: run 'mps-shards verify imgs-shards'``. Errors of other libraries are translated with ``raise … from`` where
they enter the package. Errors of a user's own code keep their type and gain a note.
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
    """An argument or option is invalid; the message names it and what is accepted."""


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
