"""The classes and their order as ``--classes`` gives them: by a text file, or by a shard set with these classes."""

from pathlib import Path

from mps_shards.errors import ConfigError, StorageError
from mps_shards.shards.manifest import MANIFEST_NAME, parse_manifest

__all__ = ["read_class_list"]


def read_class_list(given: str) -> tuple[str, ...]:
    """Return the class names in order.

    Args:
        given: a text file with one name per line, a shard set, or a folder of the sets of several splits.

    Raises:
        ConfigError: there is no such file or set, it names no classes, or it names one twice.
    """
    path = Path(given)
    try:
        if path.is_dir():
            names = _of_sets(path)
        else:
            lines = path.read_text("utf-8-sig").splitlines()
            names = [line.strip() for line in lines if line.strip()]
    except OSError as error:
        raise StorageError(f"cannot read the classes from {given}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{given} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if not names:
        raise ConfigError(f"{given} names no classes; write one name per line, or name a shard set with classes")
    repeated = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if repeated is not None:
        raise ConfigError(f"{given} names the class {repeated!r} twice")
    return tuple(names)


def _of_sets(folder: Path) -> list[str]:
    manifests = sorted([*folder.glob(MANIFEST_NAME), *folder.glob(f"*/{MANIFEST_NAME}")])
    found = {parse_manifest(path.read_bytes(), where=str(path)).classes for path in manifests}
    if not manifests:
        raise ConfigError(f"{folder} is not a shard set: it has no {MANIFEST_NAME}")
    if len(found) > 1:
        raise ConfigError(f"the sets in {folder} have different classes; name one of the sets")
    return list(found.pop())
