"""Run the code blocks of one page in order: ``python run_page.py PAGE`` in an empty folder.

Blocks of ``bash`` and ``python`` are run; the Python blocks of a page share their names. The page's setup is written in
comments that a reader does not see:

    <!-- setup: photos imgs 60 -->      60 photographs in class folders ./imgs (see setups.py)
    <!-- not run: needs a cluster -->   the next block is not run, for this reason

Commands that change the machine (pip, git, make, brew) are left out.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs import setups

BLOCK = re.compile(
    r"^<!-- (?P<directive>setup|not run): (?P<argument>.+?) -->$"
    r"|^```(?P<language>bash|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MACHINE = ("pip ", "git ", "make ", "brew ", "cd mps-shards")


def main(page: Path) -> None:
    """Run the blocks of a page; the first block that fails ends the program with its error."""
    names: dict[str, object] = {"__name__": "__main__"}
    skip = False
    for match in BLOCK.finditer(page.read_text("utf-8")):
        line = page.read_text("utf-8")[: match.start()].count("\n") + 1
        if match["directive"] == "setup":
            kind, *arguments = shlex.split(match["argument"])
            getattr(setups, kind)(*arguments)
        elif match["directive"] == "not run":
            skip = True
        elif skip:
            skip = False
        elif match["language"] == "bash":
            lines = [line for line in match["code"].splitlines() if not line.startswith(MACHINE)]
            subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], check=True)
        else:
            exec(compile("\n" * line + match["code"], str(page), "exec"), names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
