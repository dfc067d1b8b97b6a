"""Docstrings are plain English: no entry begins in the middle of a sentence, and no banned word comes back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# An entry of Args: or Attributes: names its noun first: "folder: folder of the tars", not "folder: of the tars".
FRAGMENT = re.compile(r" {4}\w+(, \w+)*: (of|told|who|whose|where|(for|by|in|at) (what|which))\b", re.I)
BANNED = re.compile(r"\b(treacherous|twins?|patience|heed|hurr(y|ied)|told|knocks?|strangers?|alike to)\b", re.I)


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def findings(path: Path) -> list[str]:
    lines = [line for text in docstrings(path) for line in text.splitlines()]
    entries = [line for line in lines if FRAGMENT.match(line)]
    return [f"{path.relative_to(ROOT)}: {line}" for line in [*entries, *filter(BANNED.search, lines)]]


def test_docstrings_name_the_noun_and_use_no_banned_word():
    found = [line for path in sorted((ROOT / "mps_shards").rglob("*.py")) for line in findings(path)]

    assert not found, "\n".join(found)


def test_a_fragment_and_a_banned_word_are_found():
    assert FRAGMENT.match("    max_pixels: of an image") and FRAGMENT.match("    folder, index: Where it lies")
    assert not FRAGMENT.match("    folder: folder of the tars") and BANNED.search("The reader is told so.")
