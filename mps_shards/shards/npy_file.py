"""Reading of arrays from the bytes of ``.npy`` files, without unpickling."""

import io
import math
import os
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["array_in"]

# NumPy reads a header with ast.literal_eval, which may raise SystemError before CPython 3.11.8 if several threads call
# it at once (python/cpython#106905).
_reading_header = Lock()
os.register_at_fork(
    before=_reading_header.acquire, after_in_parent=_reading_header.release, after_in_child=_reading_header.release
)

_MAX_HEADER = 1 << 16  # bytes; a structured type of a few fields needs far fewer


def array_in(content: bytes | memoryview) -> "npt.NDArray[Any]":
    """Return the array in the bytes of a ``.npy`` file, as a read-only view of the bytes.

    Raises:
        ValueError: the bytes are not a ``.npy`` file, hold Python objects, or are fewer than the header states.
    """
    import numpy as np
    from numpy.lib import format as npy

    header = io.BytesIO(bytes(content[:_MAX_HEADER]))
    try:
        with _reading_header:
            version = npy.read_magic(header)
            if version == (1, 0):
                shape, fortran, dtype = npy.read_array_header_1_0(header)
            elif version == (2, 0):
                shape, fortran, dtype = npy.read_array_header_2_0(header)
            else:
                raise ValueError(f"its format version {version} is unknown")
    except ValueError:
        raise
    except Exception as error:  # NumPy raises TokenError, SyntaxError, TypeError, MemoryError and more
        raise ValueError(f"its header cannot be understood ({type(error).__name__})") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape {shape} has a negative length")
    size = math.prod(shape)
    if not size:
        return np.empty(shape, dtype)
    if size * dtype.itemsize > len(content) - header.tell():
        raise ValueError(f"it has {len(content)} bytes, too few for its shape {shape}")
    return np.frombuffer(content, dtype, count=size, offset=header.tell()).reshape(shape, order="F" if fortran else "C")
