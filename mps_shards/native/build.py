"""Availability of the kernel, and advice on how to build it."""

import os
from array import array
from typing import Any

from mps_shards.errors import ConfigError

__all__ = ["advice", "is_available", "module", "require"]

try:
    from mps_shards.native import _kernel
except ImportError:
    _built: Any = None
else:
    _built = _kernel

_SWITCH = "MPS_SHARDS_KERNEL"  # "off" disables the kernel, for comparisons with simplejpeg and torch

# A gray JPEG of 8 x 8 pixels: quantisation table, frame, one Huffman code for DC and one for AC, two bits of data.
_GRAY = b"".join(
    [
        *(b"\xff\xd8", b"\xff\xdb\0\x43\0", 64 * b"\1", b"\xff\xc0\0\x0b\x08\0\x08\0\x08\1\1\x11\0"),
        *(b"\xff\xc4\0\x14" + table + b"\1" + 16 * b"\0" for table in (b"\0", b"\x10")),
        *(b"\xff\xda\0\x08\1\1\0\0\x3f\0", b"\x3f", b"\xff\xd9"),
    ]
)

_HEADERS = {
    "darwin": "brew install jpeg-turbo",
    "linux": "apt-get install gcc libjpeg-dev (Debian, Ubuntu) or dnf install gcc libjpeg-turbo-devel (Fedora)",
}


def is_available() -> bool:
    """Whether the kernel is built for this Python and not switched off by ``MPS_SHARDS_KERNEL=off``."""
    return _built is not None and os.environ.get(_SWITCH) != "off"


def module() -> Any:
    """Return the C module.

    Raises:
        ConfigError: the kernel is not available.
    """
    require()
    return _built


def require() -> None:
    """Raise an error unless the kernel is available.

    Raises:
        ConfigError: the kernel is not available; the message says how to build it.
    """
    if not is_available():
        raise ConfigError(advice())


def advice() -> str:
    """Return one line that says which kernel is used, or why none is used and what to do."""
    if _built is None:
        import sys

        headers = _HEADERS.get(sys.platform, "install a C compiler and the headers of libjpeg-turbo")
        return f"the native kernel is not built: {headers}, then install mps-shards again from its source"
    if not is_available():
        return f"the native kernel is switched off: unset {_SWITCH}"
    return f"native kernel with {_built.passes} passes, {_huffman()}"


def _huffman() -> str:
    version = f"libjpeg-turbo {_built.libjpeg_turbo}"
    view = array("i", [0, 0, 8, 8, 8, 8, 0, 0, 8, 8, 0, 1])  # all of the image; see `struct view` in kernel.h
    if _built.render(_built.decoder(False), [_GRAY], view, bytearray(3 * 8 * 8), 2, 8, 8, None, 64) == b"\2":
        return f"a Huffman decoder of its own and {version}"
    return f"and {version}, whose Huffman decoder it cannot replace: decoding JPEGs takes about 1.5 times as long"
