"""Commands that run in this process with the output that a shell without a terminal gets."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from mps_shards.cli import cli


class Output(NamedTuple):
    """Output and exit code of a command."""

    stdout: str
    stderr: str
    code: int

    def lines(self, folder: Path) -> list[str]:
        """Return the lines of stdout, with DIR for the folder and # for digests and checksums."""
        return re.sub(r"\b[0-9a-f]{8,}\b", "#", self.stdout.replace(str(folder), "DIR")).splitlines()

    def json(self) -> Any:
        """Return the parsed JSON of stdout."""
        return json.loads(self.stdout)


def run(*arguments: object) -> Output:
    """Run ``mps-shards`` with these arguments."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="mps-shards")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Output(result.stdout, result.stderr, result.exit_code)


def refused(*arguments: object) -> str:
    """Return the error of a command that must fail with one line and its notes on stderr, and exit code 1."""
    said = run(*arguments)
    assert (said.code, said.stdout) == (1, ""), said
    assert said.stderr.startswith("Error: ")
    return said.stderr.removeprefix("Error: ").rstrip("\n")


def damage(folder: Path, shard: str, old: bytes, new: bytes) -> None:
    """Overwrite bytes of a shard without changing its length."""
    content = (folder / shard).read_bytes()
    assert len(old) == len(new) and old in content
    (folder / shard).write_bytes(content.replace(old, new, 1))
