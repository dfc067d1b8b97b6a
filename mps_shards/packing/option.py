"""The declaration of an option: one place that the command line, the Python API and the checks derive from."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from mps_shards.errors import ConfigError

__all__ = ["Declared", "check_values", "declared", "declared_in", "option_name"]

T = TypeVar("T")

_KEY = "declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is known of an option beside its name, type and default.

    Attributes:
        help: what the option does, as one or more sentences.
        metavar: the placeholder of its value in ``--help``.
        choices: the values that it accepts; empty if they are not a fixed list.
        least: the smallest number that it accepts.
        most: the largest number that it accepts.
        shown_default: the default in words, where the value itself would not explain it.
        several: whether it is given once for each of several values.
        joined: what joins the values of an option that may be given several times and is one text.
        positive: whether a flag also has a negative form, as ``--check/--no-check``.
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


def declared(default: T, help: str, *, choices: Any = None, **about: Any) -> T:
    """Declare an option as the field of a dataclass.

    Args:
        choices: a `Literal` whose values the option accepts.
    """
    names = get_args(choices) if choices is not None else ()
    return field(default=default, metadata={_KEY: Declared(help=help, choices=names, **about)})


def declared_in(bundle: Any) -> Iterator[tuple[dataclasses.Field[Any], Declared]]:
    """The options of a bundle, in the order in which they are declared."""
    for each in dataclasses.fields(bundle):
        if _KEY in each.metadata:
            yield each, each.metadata[_KEY]


def option_name(name: str) -> str:
    """``"max_size"`` as the command line spells it: ``--max-size``."""
    return "--" + name.replace("_", "-")


def check_values(bundle: Any) -> None:
    """Refuse values outside of the choices and limits that are declared.

    Raises:
        ConfigError: naming the option, its value and what it accepts.
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
    """The error for an option that does not exist, with the nearest name that does."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return TypeError(f"pack() has no option {name!r}{hint}")
