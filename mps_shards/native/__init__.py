"""The native kernel: JPEGs' bytes -> rows of a batch, in C, without the GIL.

Only this package knows the C module. It may be missing: it is built where a C compiler and libjpeg-turbo's headers
are found, and everything works without it through simplejpeg and torch, with the same pixels wherever torch has its
uint8 kernels for this processor. May import: errors.
"""

from mps_shards.native.build import advice, is_available, require
from mps_shards.native.kernel import VIEW_NUMBERS, Decoder, Layout
from mps_shards.native.tiles import is_tiled, tile_fault, tiled

__all__ = ["VIEW_NUMBERS", "Decoder", "Layout", "advice", "is_available", "is_tiled", "require", "tile_fault", "tiled"]
