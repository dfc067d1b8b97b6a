"""The command line: one file a command.

Monopoly: printing and parsing arguments (click, rich). Commands load what they need when they run, so that ``--help``
answers at once. May import: everything below.
"""

import sys
from importlib import import_module
from typing import Any

import click

from mps_shards.errors import ShardsError

__all__ = ["main"]

# command -> one line of help; the file of the same name holds the rest
_COMMANDS = {
    "doctor": "Check torch, the device, and the way batches get there.",
    "info": "Show what a shard set holds.",
    "pack": "Pack a folder of images into WebDataset shards.",
}


class _Commands(click.Group):
    """Finds commands by file name; loads one only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"mps_shards.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ShardsError as error:
            if ctx.params.get("debug"):
                raise
            notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
            click.echo(f"Error: {error}{notes}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mps-shards")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Pack images into WebDataset shards and stream them to Apple's MPS, CUDA or the CPU.

    \b
    Examples:
      mps-shards pack ./imgs                 class folders -> ./imgs-shards
      mps-shards info ./imgs-shards          what is in there
      mps-shards doctor                      will batches arrive right on this machine?
    """


def main() -> None:
    """Entry point of the console script ``mps-shards``."""
    cli.main(prog_name="mps-shards", args=sys.argv[1:])
