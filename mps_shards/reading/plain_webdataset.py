"""Reading and decoding of tars by webdataset alone, for the comparison in ``mps-shards bench --compare``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import webdataset

__all__ = ["plain_samples"]


def plain_samples(tars: Sequence[str], *, masks: Mapping[str, Callable[[bytes], Any]]) -> Any:
    """Return a webdataset pipeline of decoded samples, whose images are uint8 [height, width, 3].

    The decoder is "rgb8", webdataset's fastest.

    Args:
        tars: paths of the tars.
        masks: decoders of label maps by field, because "rgb8" would decode label maps as images.
    """
    handlers = [webdataset.handle_extension(field, decode) for field, decode in masks.items()]
    return webdataset.WebDataset(list(tars), shardshuffle=False, empty_check=False).decode(*handlers, "rgb8")
