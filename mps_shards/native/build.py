"""Whether the kernel is built and used, and how to get it."""

import os
from typing import Any

from mps_shards.errors import ConfigError

__all__ = ["advice", "is_available", "module", "require"]

try:
    from mps_shards.native import _kernel
except ImportError:
    _built: Any = None
else:
    _built = _kernel

_SWITCH = "MPS_SHARDS_KERNEL"  # "off" leaves the kernel unused, to compare with the slower way

_HEADERS = {
    "darwin": "brew install jpeg-turbo",
    "linux": "apt-get install gcc libjpeg-dev (Debian, Ubuntu) or dnf install gcc libjpeg-turbo-devel (Fedora)",
}


def is_available() -> bool:
    """Whether the kernel is built for this Python and not switched off by ``MPS_SHARDS_KERNEL=off``."""
    return _built is not None and os.environ.get(_SWITCH) != "off"


def module() -> Any:
    """The C module.

    Raises:
        ConfigError: it is not available.
    """
    require()
    return _built


def require() -> None:
    """Do nothing where the kernel is available.

    Raises:
        ConfigError: it is not; the message says how to get it.
    """
    if not is_available():
        raise ConfigError(advice())


def advice() -> str:
    """One line: which kernel is used, or why none is and what to do."""
    if _built is None:
        import sys

        headers = _HEADERS.get(sys.platform, "install a C compiler and the headers of libjpeg-turbo")
        return f"the native kernel is not built: {headers}, then install mps-shards again from its source"
    if not is_available():
        return f"the native kernel is switched off: unset {_SWITCH}"
    return f"native kernel with {_built.passes} passes and libjpeg-turbo {_built.libjpeg_turbo}"
