"""Every command and code block of the README and the documentation runs unchanged in an empty folder."""

import code
import os
import re
import subprocess
import sys
from pathlib import Path
from types import CodeType

import pytest

from tests.docs import practice
from tests.docs.run_page import BLOCK

ROOT = Path(__file__).parents[2]
ALL = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RECIPES = ROOT / "docs" / "recipes"  # tests/journeys/test_recipes.py runs these, each with the package that it needs
PAGES = [page for page in ALL if BLOCK.search(page.read_text("utf-8")) and RECIPES not in page.parents]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
    }

    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", str(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, f"{page}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_block_can_be_pasted_into_the_prompt_of_python_and_fits_into_the_column(page: Path):
    prompt = Prompt()

    for match in BLOCK.finditer(page.read_text("utf-8")):
        if match["language"] == "python":
            for line in match["code"].splitlines():
                prompt.push(line)
                assert len(line) <= 80, f"the line needs scrolling: {line}"
            prompt.push("")

    assert prompt.errors == []


class Prompt(code.InteractiveConsole):
    """The prompt of Python 3.11 and 3.12, which ends a loop or function at an empty line. Runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def runcode(self, _: CodeType) -> None:
        pass

    def showsyntaxerror(self, *_: object, **__: object) -> None:
        self.errors.append("\n".join(self.buffer))


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_of_the_repository_are_valid(page: Path):
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text("utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_the_command_that_makes_its_input_data(page: Path):
    text = page.read_text("utf-8")

    assert ("<!-- setup: " in text) == (f"`make practice PAGE={page.stem.lower()}`" in " ".join(text.split()))


def test_the_data_of_every_page_is_made_below_the_checkout_and_never_over_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(practice, "FOLDER", tmp_path)

    for name, wanted in practice.pages().items():
        if ["s3"] in wanted:
            continue  # serves until it is stopped
        practice.main([name])
        assert f"cd {tmp_path / name}\n" in capsys.readouterr().out
        assert all((tmp_path / name / made).exists() for kind, made, *_ in wanted if kind != "packages")

    assert practice.missing(["numpy", "pytest[extra]>=1", "no_such_package"]) == ["no_such_package"]
    with pytest.raises(SystemExit, match="exists: remove it to start again"):
        practice.main(["class-folders"])
    with pytest.raises(SystemExit, match="PAGE is one of readme, "):
        practice.main(["videos"])
