"""The command line, one file per command.

Only this package parses arguments and prints. A command imports what it needs when it runs, so that ``--help`` answers
at once.
"""

import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

import click

from mps_shards.cli.failures import EXPECTED, message_of
from mps_shards.cli.standard_streams import OutputError, prepare_streams

__all__ = ["main"]

# command -> one line of help; the file of the same name holds the command
_COMMANDS = {
    "bench": "Measure how fast a shard set streams, and what limits the speed.",
    "doctor": "Check torch, the device, and the transfer of batches to it.",
    "index": "Write a manifest and an index for existing WebDataset tars.",
    "info": "Show what a shard set holds.",
    "ls": "List the samples of a shard set.",
    "pack": "Pack a folder of images into WebDataset shards.",
    "preview": "Draw a contact sheet of a shard set.",
    "repair": "Rebuild a damaged shard set from its sound samples.",
    "report": "Write a report on a shard set as one HTML page.",
    "reshard": "Merge, split, filter or resize shards of existing sets.",
    "stats": "Measure the images, labels and masks of a shard set.",
    "unpack": "Write the samples of a shard set as files.",
    "verify": "Check every byte of a shard set against its manifest and index.",
}


class _Commands(click.Group):
    """Group of commands that finds a command by its file name and imports it on first use."""

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
        except EXPECTED as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {message_of(error)}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mps-shards")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Pack images into WebDataset shards and stream them to Apple's MPS, CUDA or the CPU.

    \b
    Examples:
      mps-shards pack ./imgs                 pack class folders into ./imgs-shards
      mps-shards info ./imgs-shards          show what the set holds
      mps-shards verify ./imgs-shards        check every byte
      mps-shards doctor                      check this machine and its device

    \b
    To complete commands and options with TAB in bash (in zsh or fish, replace bash in bash_source):
      eval "$(_MPS_SHARDS_COMPLETE=bash_source mps-shards)"
    """


def main() -> None:
    """Entry point of the console script ``mps-shards``."""
    prepare_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, which must stay so
            signal.signal(number, _stop)
    try:
        os.getcwd()
    except OSError:  # torch cannot be imported without a current directory
        sys.exit("Error: the current directory was removed; change to another one (cd)")
    try:
        cli.main(prog_name="mps-shards", args=sys.argv[1:])
    except OutputError as error:  # raised by --help and --version: commands report their own
        sys.exit(f"Error: {error}")


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # raises SystemExit, so that every `with` block can clean up
