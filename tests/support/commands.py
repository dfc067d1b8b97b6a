"""Commands run in this process, as a shell without a terminal would see them."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from mps_shards.cli import cli


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    stdout: str
    stderr: str
    code: int

    def lines(self, folder: Path) -> list[str]:
        """Lines of stdout; the folder is written DIR, digests and checksums are written #."""
        return re.sub(r"\b[0-9a-f]{8,}\b", "#", self.stdout.replace(str(folder), "DIR")).splitlines()

    def json(self) -> Any:
        """What was printed, as JSON."""
        return json.loads(self.stdout)


def run(*arguments: object) -> Said:
    """Run ``mps-shards`` with these arguments."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="mps-shards")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.stdout, result.stderr, result.exit_code)


def refused(*arguments: object) -> str:
    """What is said of input that cannot work: one line, and notes under it; exit code 1, nothing on stdout."""
    said = run(*arguments)
    assert (said.code, said.stdout) == (1, ""), said
    assert said.stderr.startswith("Error: ")
    return said.stderr.removeprefix("Error: ").rstrip("\n")


def damage(folder: Path, shard: str, old: bytes, new: bytes) -> None:
    """Overwrite bytes of a shard without changing its length."""
    content = (folder / shard).read_bytes()
    assert len(old) == len(new) and old in content
    (folder / shard).write_bytes(content.replace(old, new, 1))
