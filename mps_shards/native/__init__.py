"""The native kernel, which decodes JPEGs into rows of a batch, in C, without the GIL.

Only this package uses the C module, which may be missing: it is built if a C compiler and libjpeg-turbo's headers are
found. Without it, simplejpeg and torch do the same work, with the same pixels if torch has uint8 kernels for this
processor. May import: errors.
"""

from mps_shards.native.build import advice, is_available, module, require
from mps_shards.native.kernel import UNLABELED, VIEW_NUMBERS, Decoder, Layout, Loaded, Loading
from mps_shards.native.tiles import is_tiled, tile_fault, tiled

__all__ = [
    "UNLABELED",
    "VIEW_NUMBERS",
    "Decoder",
    "Layout",
    "Loaded",
    "Loading",
    "advice",
    "is_available",
    "is_tiled",
    "module",
    "require",
    "tile_fault",
    "tiled",
]
