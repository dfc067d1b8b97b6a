"""Types of the C module; binding.c documents it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

passes: str
libjpeg_turbo: str

def decoder(portable: bool, /) -> object: ...
def render(
    decoder: object,
    images: Sequence[bytes | memoryview | None],
    views: npt.NDArray[np.int32],
    destination: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
    layout: int,
    height: int,
    width: int,
    table: npt.NDArray[np.float32] | None,
    max_pixels: int,
    /,
) -> bytes: ...
def load(
    decoder: object,
    spans: npt.NDArray[np.int64],
    positions: npt.NDArray[np.uint64],
    geometry: npt.NDArray[np.float64],
    seed: int,
    epoch: int,
    most_label: int,
    scaled: bool,
    destination: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
    layout: int,
    height: int,
    width: int,
    table: npt.NDArray[np.float32] | None,
    max_pixels: int,
    /,
) -> tuple[bytes, list[str], list[int], int, float]: ...
def rewrite(image: bytes | memoryview, note: bytes, /) -> bytes | None: ...
