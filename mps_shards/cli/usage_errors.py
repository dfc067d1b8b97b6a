"""Usage errors, which exit with code 2, for options that a parser of the package refuses."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from mps_shards.errors import ConfigError

__all__ = ["checked", "contradictions"]


def checked(parser: Callable[[Any], object]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return the callback of an option whose value, or each of whose values, the parser must accept.

    A `ConfigError` of the parser becomes click's error for an invalid value, which names the option.
    """

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        for each in value if isinstance(value, tuple) else (value,):
            try:
                if each is not None:
                    parser(each)
            except ConfigError as error:
                raise click.BadParameter(str(error), ctx=ctx, param=param) from error
        return value

    return callback


@contextlib.contextmanager
def contradictions() -> Iterator[None]:
    """Report a `ConfigError` of the block, which may only check options against each other, as a usage error."""
    try:
        yield
    except ConfigError as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
