"""Declarations of options, from which the command line, the Python API and the checks are derived."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from mps_shards.errors import ConfigError

__all__ = ["Declared", "check_values", "declared", "declared_in", "option_name"]

T = TypeVar("T")

_KEY = "declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Properties of an option besides its name, type and default.

    Attributes:
        help: what the option does, as one or more sentences.
        metavar: the placeholder of its value in ``--help``.
        choices: the values that it accepts; empty if they are not a fixed list.
        least: the smallest number that the option accepts.
        most: the largest number that the option accepts.
        shown_default: the default in words, if the value itself would not explain it.
        several: whether the option may be given several times, once for each value.
        joined: separator that joins the values of an option that may be given several times and is stored as one text.
        positive: whether a flag also has a negative form, as ``--check/--no-check``.
        parser: function that raises `ConfigError` for a text that the option does not accept.
    """

    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    shown_default: str | None = None
    several: bool = False
    joined: str = ""
    positive: bool = False
    parser: Callable[[Any], object] | None = None


def declared(default: T, help: str, *, choices: Any = None, **about: Any) -> T:
    """Declare an option as the field of a dataclass.

    Args:
        choices: a `Literal` whose values the option accepts.
    """
    names = get_args(choices) if choices is not None else ()
    return field(default=default, metadata={_KEY: Declared(help=help, choices=names, **about)})


def declared_in(bundle: Any) -> Iterator[tuple[dataclasses.Field[Any], Declared]]:
    """Yield the options of a bundle, in the order in which they are declared."""
    for each in dataclasses.fields(bundle):
        if _KEY in each.metadata:
            yield each, each.metadata[_KEY]


def option_name(name: str) -> str:
    """Return the command-line spelling of an option: ``--max-size`` for ``"max_size"``."""
    return "--" + name.replace("_", "-")


def check_values(bundle: Any) -> None:
    """Check values against the declared choices and limits, and store values of repeatable options as tuples.

    Raises:
        ConfigError: an option does not accept its value; the error names the option, the value and the accepted values.
    """
    for each, about in declared_in(bundle):
        value = getattr(bundle, each.name)
        if about.several:
            object.__setattr__(bundle, each.name, (value,) if isinstance(value, str) else tuple(value))
        if about.choices and value not in about.choices and not (value is None and each.default is None):
            allowed = ", ".join(map(repr, about.choices))
            raise ConfigError(f"{each.name} must be one of {allowed}, not {value!r}")
        if value is None or (about.least is None and about.most is None):
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{each.name} must be a whole number, not {value!r}")
        if (about.least is not None and value < about.least) or (about.most is not None and value > about.most):
            limits = f"at least {about.least}" if about.most is None else f"from {about.least} to {about.most}"
            raise ConfigError(f"{each.name} must be {limits}, not {value}")


def unknown_option(name: str, known: Mapping[str, object]) -> TypeError:
    """Return the error for an unknown option; it suggests the most similar option name."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return TypeError(f"pack() has no option {name!r}{hint}")
