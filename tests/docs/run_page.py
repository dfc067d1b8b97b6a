"""Run the code blocks of one page in order: ``python run_page.py PAGE`` in an empty folder.

Blocks of ``bash`` and ``python`` are run; the Python blocks of a page share their names. A ``text`` block after one of
them shows lines of its output, where ``…`` stands for what differs from run to run: every line must have been printed.
What a page needs is said in comments that a reader does not see:

    <!-- setup: photos imgs 60 -->      60 photographs in class folders ./imgs (see setups.py)
    <!-- setup: packages pyarrow -->    a package besides those of the project, which practice.py installs
    <!-- not run: needs a cluster -->   the next block is not run, for this reason

Commands that change the machine (pip, git, make, brew) are left out.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs import setups

BLOCK = re.compile(
    r"^<!-- (?P<directive>setup|not run): (?P<argument>.+?) -->$"
    r"|^```(?P<language>bash|python|text)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MACHINE = ("pip ", "git ", "make ", "brew ", "cd mps-shards")


def main(page: Path) -> None:
    """Run the page's blocks; the first that fails, or prints something else, ends the program with its error."""
    names: dict[str, object] = {"__name__": "__main__"}
    skip, printed = False, ""
    for match in BLOCK.finditer(page.read_text("utf-8")):
        line = page.read_text("utf-8")[: match.start()].count("\n") + 1
        if match["directive"] == "setup":
            kind, *arguments = shlex.split(match["argument"])
            if kind != "packages":
                getattr(setups, kind)(*arguments)
        elif match["directive"] == "not run":
            skip = True
        elif skip:
            skip = False
        elif match["language"] == "text":
            missing = [shown for shown in match["code"].splitlines() if not was_printed(shown, printed)]
            assert not missing, f"line {line}: not printed: {missing}\n{printed}"
        else:
            printed = run_bash(match["code"]) if match["language"] == "bash" else run_python(page, match, line, names)
            print(printed)


def run_bash(code: str) -> str:
    """Run the commands and return what they print."""
    lines = [line for line in code.splitlines() if not line.startswith(MACHINE)]
    command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{code}\nexit code {done.returncode}\n{done.stdout}")
    return done.stdout


def run_python(page: Path, match: re.Match[str], line: int, names: dict[str, object]) -> str:
    """Run the code, so that an error names the line of the page, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * line + match["code"], str(page), "exec"), names)
    return printed.getvalue()


def was_printed(shown: str, printed: str) -> bool:
    """Whether a line of a page is among the lines that were printed; ``…`` is any text, also none."""
    pattern = ".*".join(map(re.escape, shown.strip().split("…")))
    return any(re.fullmatch(pattern, line.strip()) for line in printed.splitlines())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
