"""Command-line options made from the options that packing declares."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mps_shards.cli.shared_options import json_option, store_options
from mps_shards.cli.usage_errors import checked, contradictions
from mps_shards.packing.option import option_name
from mps_shards.packing.pack_options import PackOptions

if TYPE_CHECKING:
    from dataclasses import Field

    from mps_shards.packing.option import Declared

__all__ = ["complete_options", "declared_options", "run_options"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def declared_options(
    *bundles: str, defaults: Mapping[str, Any] | None = None, without: tuple[str, ...] = ()
) -> Callable[[FunctionT], FunctionT]:
    """Give a command the options of these bundles of `PackOptions`.

    Args:
        defaults: other defaults, by the name of the option.
        without: names of options that the command does not have.
    """
    chosen = [
        (option, about)
        for bundle, option, about in PackOptions.declared()
        if bundle in bundles and option.name not in without
    ]

    def decorate(function: FunctionT) -> FunctionT:
        for option, about in reversed(chosen):
            default = (defaults or {}).get(option.name, option.default)
            function = _option(option, about, default)(function)
        return function

    return decorate


def _option(option: "Field[Any]", about: "Declared", default: Any) -> Callable[[FunctionT], FunctionT]:
    """Return the command-line option that a declaration describes."""
    flag = option_name(option.name)
    if isinstance(default, bool):
        spelled = f"{flag}/--no-{flag[2:]}" if about.positive else flag
        return click.option(
            spelled, option.name, is_flag=True, default=default, show_default=about.positive, help=about.help
        )
    kind: Any = float if "float" in str(option.type) else str
    if about.choices:
        kind = click.Choice(about.choices)
    elif about.least is not None or about.most is not None:
        kind = click.IntRange(about.least, about.most)
    shown = f"  [default: {about.shown_default}]" if about.shown_default else ""
    return click.option(
        flag,
        option.name,
        type=kind,
        metavar=about.metavar,
        multiple=about.several or bool(about.joined),
        callback=_callback(about),
        default=None if about.joined else default,
        show_default=default not in (None, ()),
        help=about.help + shown,
    )


def _callback(about: "Declared") -> Callable[[click.Context, click.Parameter, Any], Any] | None:
    """Return the callback that joins and checks the values of an option."""
    check = checked(about.parser) if about.parser is not None else None
    if not about.joined:
        return check

    def joined(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
        value = about.joined.join(values) or None
        return value if check is None else check(ctx, param, value)

    return joined


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--dry-run``, ``--json`` and the options for stores to a command that writes shard sets."""
    dry_run = click.option(
        "--dry-run", is_flag=True, help="Write nothing; show the sets, shards, sizes and classes that would result."
    )
    return dry_run(store_options(json_option("the report")(command)))


def complete_options(options: dict[str, Any]) -> None:
    """Take a missing task index and number of tasks from SLURM, and refuse options that contradict each other."""
    if options["executor"] == "array":
        _fill_in_array_task(options)
    known = {option.name for _, option, _ in PackOptions.declared()}
    with contradictions():
        PackOptions.of(**{name: value for name, value in options.items() if name in known})


def _fill_in_array_task(options: dict[str, Any]) -> None:
    """Take the task index and the number of tasks from SLURM, whose arrays may have a start and a step (5-25:10)."""
    if options["task_index"] is None and (given := _of_slurm("ID", least=0)) is not None:
        first, step = _of_slurm("MIN", least=0) or 0, _of_slurm("STEP", least=1) or 1
        options["task_index"] = (given - first) // step
    if options["num_tasks"] is None:
        options["num_tasks"] = _of_slurm("COUNT", least=1)


def _of_slurm(name: str, *, least: int) -> int | None:
    """Return a number about the array job from the environment; None if it is missing or empty."""
    variable = f"SLURM_ARRAY_TASK_{name}"
    given = os.environ.get(variable)
    if not given:
        return None
    if not (given.isascii() and given.isdigit()) or int(given) < least:
        raise click.UsageError(
            f"the environment variable {variable} is {given!r}, not a whole number from {least}: give --task-index and "
            "--num-tasks",
            ctx=click.get_current_context(),
        )
    return int(given)
