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
    "bench": "Stream a shard set as training would, and say what limits the speed.",
    "doctor": "Check torch, the device, and the way batches get there.",
    "index": "Make tars of others a shard set.",
    "info": "Show what a shard set holds.",
    "ls": "List the samples of a shard set.",
    "pack": "Pack a folder of images into WebDataset shards.",
    "preview": "Draw a contact sheet of a shard set.",
    "repair": "Save what is sound in a damaged shard set.",
    "report": "Write all about a shard set as one HTML page.",
    "reshard": "Merge, split, filter or cut shard sets anew.",
    "stats": "Measure the images, labels and masks of a shard set.",
    "unpack": "Turn a shard set back into files.",
    "verify": "Check a shard set, byte by byte.",
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
      mps-shards verify ./imgs-shards        is every byte as it was packed?
      mps-shards doctor                      will batches arrive right on this machine?

    \b
    Completion of commands and options by TAB, for bash (zsh, fish: another word before _source):
      eval "$(_MPS_SHARDS_COMPLETE=bash_source mps-shards)"
    """


def main() -> None:
    """Entry point of the console script ``mps-shards``."""
    cli.main(prog_name="mps-shards", args=sys.argv[1:])
