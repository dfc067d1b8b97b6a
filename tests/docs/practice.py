"""Make the data that a page of the documentation starts from: ``make practice PAGE=class-folders``.

The data lies in ``practice/PAGE`` below the checkout. What a page needs is said in its ``setup`` comments (see
`run_page`). Packages that the page needs and that are missing are installed into the checkout's ``.venv``.
"""

import importlib.util
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tests.docs import setups
from tests.docs.run_page import BLOCK

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "practice"


def pages() -> dict[str, list[list[str]]]:
    """Setups of each page that has any, by the page's name in lower case."""
    found = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        matches = BLOCK.finditer(page.read_text("utf-8"))
        wanted = [shlex.split(match["argument"]) for match in matches if match["directive"] == "setup"]
        if wanted:
            found[page.stem.lower()] = wanted
    return found


def main(arguments: list[str]) -> None:
    """Make the data of the page, and say how to go there."""
    known = pages()
    name = "".join(arguments[:1]).lower()
    if name not in known:
        sys.exit(f"make practice PAGE=…, where PAGE is one of {', '.join(known)}")
    folder = FOLDER / name
    if folder.exists():
        sys.exit(f"{folder} exists: remove it to start again")
    folder.mkdir(parents=True)
    lines = [f"cd {shlex.quote(str(folder))}", f"source {shlex.quote(str(ROOT / '.venv/bin/activate'))}"]
    serves = False
    for kind, *rest in known[name]:
        if kind == "packages":
            install(missing(rest))
        elif kind == "s3":
            lines += [f"export {variable}={value}" for variable, value in setups.s3().items()]
            serves = True
        else:
            getattr(setups, kind)(str(folder / rest[0]), *rest[1:])
    where = "in another terminal" if serves else "in this terminal"
    print(f"The data of this page is ready. To follow the page {where}, run", *lines, sep="\n    ")
    print("Paste the page's Python blocks in order into one session of python.")
    if serves:
        print("An S3 server runs here until Ctrl-C.", flush=True)
        _wait()


def missing(requirements: list[str]) -> list[str]:
    """Return the requirements, such as ``moto[server]``, whose package cannot be imported."""
    return [each for each in requirements if importlib.util.find_spec(re.split(r"\W", each)[0]) is None]


def install(requirements: list[str]) -> None:
    """Install the packages where this program runs."""
    if requirements:
        print(f"This page needs {' and '.join(requirements)}: pip installs it now.", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)


def _wait() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main(sys.argv[1:])
