"""Fuzz target: arbitrary texts as options of the command line."""

import atexit
import contextlib
import os
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TextIO

import click

from mps_shards.cli import cli
from mps_shards.errors import ConfigError
from mps_shards.packing.option_values import parse_size
from tools.fuzz.examples import folder

__all__ = ["check", "seeds"]

_leaving = contextlib.ExitStack()
atexit.register(_leaving.close)
_OPTIONS = ("--shard-size", "--seed", "--shard-samples", "--keys", "--layout", "--workers")


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses the option, then the option's text."""
    sizes = ["256MB", "1GiB", " 1.5 tib ", "500000000", "0", "1e9", "9" * 30, "٣kb"]
    others = ["stem", "auto", "-1", "18446744073709551616"]
    return [b"\0" + text.encode() for text in sizes] + [bytes([n]) + t.encode() for n in range(1, 6) for t in others]


def check(data: bytes) -> None:
    """Check that a size is parsed exactly or refused, and that the command refuses the option without a traceback."""
    text = data[1:].decode("utf-8", "surrogateescape")
    with contextlib.suppress(ConfigError):
        size = parse_size(text)
        assert size > 0
        with contextlib.suppress(InvalidOperation):
            assert size == int(Decimal(text.strip()))
    option = _OPTIONS[(data[0] if data else 0) % len(_OPTIONS)]
    with contextlib.redirect_stderr(_nowhere()):
        try:
            code = cli.main(["pack", str(folder() / "not here"), f"{option}={text}"], standalone_mode=False)
        except click.UsageError as error:
            code = error.exit_code
    assert code in (1, 2)


@cache
def _nowhere() -> TextIO:
    """Return the same stream at every call, because click keeps data for every stream."""
    return _leaving.enter_context(open(os.devnull, "w"))
