"""Arguments and options that several commands take, each declared once."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

from mps_shards.cli.usage_errors import checked

if TYPE_CHECKING:
    from mps_shards.storage.store_options import StoreOptions

__all__ = [
    "FOLDER",
    "device_options",
    "given_options",
    "json_option",
    "read_options",
    "sample_options",
    "seed_option",
    "store_options",
    "store_options_given",
    "workers_option",
]

_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

_GIVEN = "mps_shards.store_options"  # key under which a click context keeps the values of `store_options`


class _Folder(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Parameter type that opens the folder of a path or URL with the options for stores that were given."""

    name = "set"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mps_shards.errors import ConfigError
        from mps_shards.storage.location import open_folder

        try:
            folder = open_folder(value, options=store_options_given(ctx))
        except ConfigError as error:
            if isinstance(param, click.Option):
                self.fail(str(error), param, ctx)
            raise
        if folder.path is not None and folder.path.is_file():
            raise ConfigError(f"{value} is a file; name the folder of a shard set")
        return folder


FOLDER = _Folder()


def device_options(task: str) -> _Decorator:
    """Add ``--device`` and ``--transfer`` to a command that does this task: "check" or "use"."""

    def known(device: str) -> None:
        from mps_shards.device.device_choice import parse_device

        if device != "auto":
            parse_device(device)

    device = click.option(
        "--device",
        default="auto",
        show_default=True,
        callback=checked(known),
        help=f"Device to {task}: auto, mps, cuda, cuda:1 or cpu.",
    )
    transfer = click.option(
        "--transfer",
        type=click.Choice(["inline", "inline-blocking", "thread", "thread-blocking", "cpu"]),
        metavar="ENGINE",
        help=f"Transfer engine to {task} instead of the device's default: inline, thread or cpu; inline-blocking and "
        "thread-blocking wait for each copy.",
    )
    return lambda command: device(transfer(command))


def json_option(what: str) -> _Decorator:
    """Add ``--json``, which prints `what` as JSON."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON.")


def workers_option(what: str = "Number of threads", *, default: str = "available cores") -> _Decorator:
    """Add ``--workers``, the number of threads."""
    return click.option("--workers", type=click.IntRange(min=1), help=f"{what}.  [default: {default}]")


def seed_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--seed``, the seed of a random choice of samples."""
    return click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random choice of samples."
    )(command)


def sample_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--samples`` and ``--seed``, the number of samples to decode and the seed of their choice."""
    samples = click.option(
        "--samples",
        type=click.IntRange(min=1),
        help="Decode only this many samples, drawn with --seed.  [default: all]",
    )
    return samples(seed_option(command))


def _remember(ctx: click.Context, param: click.Parameter, value: float | None) -> None:
    if value is not None:
        ctx.meta.setdefault(_GIVEN, {})[param.name] = value


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--store-timeout`` and ``--store-attempts``, for commands that read or write stores.

    They are parsed before all other parameters, so that `FOLDER` can open stores with them, wherever they are on the
    command line. The command gets them from `store_options_given`.
    """
    options: dict[str, Any] = {"callback": _remember, "expose_value": False, "is_eager": True}
    timeout = click.option(
        "--store-timeout",
        "timeout_s",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        help="Repeat a request to a store after this many seconds without a byte, and give up after three times as "
        "long.  [default: 10]",
        **options,
    )
    attempts = click.option(
        "--store-attempts",
        "attempts",
        metavar="N",
        type=click.IntRange(min=1),
        help="Give up a request to a store after this many failed attempts in a row.  [default: 8]",
        **options,
    )
    return timeout(attempts(command))


def store_options_given(ctx: click.Context | None = None) -> "StoreOptions":
    """Return the options for stores of the running command, with defaults for options that were not given."""
    from mps_shards.storage.store_options import StoreOptions

    return StoreOptions.limited(**(ctx or click.get_current_context()).meta.get(_GIVEN, {}))


def given_options(*, leave_out: Sequence[str]) -> list[str]:
    """Return the options that the user gave to the running command, so that a suggested command measures the same.

    Args:
        leave_out: names of parameters that the suggested command changes or does not need.
    """
    ctx, words = click.get_current_context(), []
    values = {**ctx.params, **ctx.meta.get(_GIVEN, {})}
    for param in ctx.command.params:
        name = param.name or ""
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and name in values
        if isinstance(param, click.Option) and given and name not in leave_out:
            words += [param.opts[0]] if param.is_flag else [param.opts[0], str(values[name])]
    return words


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--index``, ``--cache`` and the options for stores, which are passed as `ReadOptions` in ``reading``."""

    @functools.wraps(command)
    def run(*args: Any, index: Path | None, cache: Path | None, **others: Any) -> Any:
        from mps_shards.reading.read_options import ReadOptions

        return command(*args, reading=ReadOptions(index=index, cache=cache, store=store_options_given()), **others)

    folder = click.Path(path_type=Path, file_okay=False)
    index = click.option("--index", metavar="DIR", type=folder, help="Folder that mps-shards index --out wrote to.")
    cache = click.option("--cache", metavar="DIR", type=folder, help="Folder for a cache of whole shards from stores.")
    return index(cache(store_options(run)))
