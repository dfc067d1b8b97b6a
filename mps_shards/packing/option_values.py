"""Parsers of option values that users write as text. Each imports what it needs when it is called."""

import re
from typing import TYPE_CHECKING

from mps_shards.errors import ConfigError

if TYPE_CHECKING:
    from fractions import Fraction

    from mps_shards.packing.label_id_maps import LabelIdMap
    from mps_shards.packing.palette import Palette
    from mps_shards.vision.rgb_conversion import RgbConversion

__all__ = [
    "parse_background",
    "parse_id_map",
    "parse_palette",
    "parse_shares",
    "parse_size",
    "parse_subset",
    "parse_to_8bit",
]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")  # a split's name becomes a folder name and a file name prefix
_FINEST = 10**9  # shares are multiples of 1 / 10**9


def parse_size(text: str | int) -> int:
    """Return the number of bytes of ``"256MB"`` (decimal), ``"256MiB"`` (binary) or a plain number.

    Raises:
        ConfigError: the text is not a size, or the size is not positive.
    """
    from fractions import Fraction

    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([kmgt]i?)?b?\s*", str(text).lower())
    size = int(Fraction(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if size < 1:
        raise ConfigError(f"{text!r} is not a size; write it like 256MB, 1GiB or 500000000")
    return size


def parse_shares(text: str) -> "dict[str, Fraction]":
    """Parse shares by name from ``"train=0.9,val=0.1"``; fractions such as 2/3 and percentages are accepted too.

    ``"80/20"`` and ``"0.8"`` mean train and val, ``"80/10/10"`` train, val and test. The shares may add up to less
    than 1; numbers that add up to 100 are percentages.

    Raises:
        ConfigError: the text is malformed, a name is repeated, or the shares add up to more than 1.
    """
    from fractions import Fraction
    from math import lcm

    shares: dict[str, Fraction] = {}
    for part in _named_shares(text).split(","):
        name, _, number = (side.strip() for side in part.partition("="))
        try:
            share = Fraction(number)
        except (ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"{part!r} is not a part of a split; write the parts like train=0.9,val=0.1") from error
        if not _NAME.fullmatch(name) or share <= 0:
            raise ConfigError(
                f"{part!r} is not a part of a split; write a name of letters and digits and a share above 0"
            )
        if name in shares:
            raise ConfigError(f"the split {text!r} names {name!r} twice")
        shares[name] = share
    total = sum(shares.values(), Fraction(0))
    if total > 1 and (total == 100 or all(share >= 1 for share in shares.values())):
        shares = {name: share / 100 for name, share in shares.items()}
        total /= 100
    if total > 1:
        raise ConfigError(f"the shares of {text!r} add up to {float(total):g}; they must add up to at most 1")
    if lcm(*(share.denominator for share in shares.values())) > _FINEST:
        raise ConfigError(f"the shares of {text!r} have too many digits; write at most nine digits for each")
    return shares


def _named_shares(text: str) -> str:
    """Return ``"80/20"`` or ``"0.8"`` with the names of the splits, as in ``"train=80,val=20"``."""
    from fractions import Fraction

    if match := re.fullmatch(r"\s*(0?\.\d+|\d{1,2}\s*%)\s*", text):
        train = Fraction(match[1].rstrip("% ")) / (100 if "%" in match[1] else 1)
        return f"train={train},val={1 - train}"
    if re.fullmatch(r"\s*[\d.]+(\s*/\s*[\d.]+){1,2}\s*", text):
        return ",".join(
            f"{name}={share}" for name, share in zip(("train", "val", "test"), text.split("/"), strict=False)
        )
    return text.replace("%", "")


def parse_subset(share: float | str) -> "Fraction":
    """Parse a share of all images, such as 0.1.

    Raises:
        ConfigError: the share is not a number above 0 and below 1.
    """
    from fractions import Fraction

    try:
        value = Fraction(str(share))
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"subset must be a share such as 0.1, not {share!r}") from error
    if not 0 < value < 1:
        raise ConfigError(f"subset must be above 0 and below 1, not {share!r}")
    return value


def parse_to_8bit(how: str) -> "RgbConversion":
    """Return the conversion of 16-bit and float images. Raises ConfigError if there is no such conversion."""
    from mps_shards.vision.rgb_conversion import RgbConversion

    return RgbConversion(to_8bit=how)


def parse_background(colour: str) -> "RgbConversion":
    """Return the conversion of transparent pixels. Raises ConfigError if the text is not a colour."""
    from mps_shards.vision.rgb_conversion import RgbConversion

    return RgbConversion(background=colour)


def parse_palette(text: str) -> "Palette":
    """Return a palette by name or from a file. Raises ConfigError if there is no such palette."""
    from mps_shards.packing.palette import find_palette

    return find_palette(text)


def parse_id_map(text: str) -> "LabelIdMap":
    """Return a map of label ids by name, from pairs or from a file. Raises ConfigError if there is no such map."""
    from mps_shards.packing.label_id_maps import find_id_map

    return find_id_map(text)
