"""Texts of the package and the tools are plain English: complete sentences without banned words or fragments."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mps_shards.cli import cli

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("mps_shards", "tools") for path in (ROOT / folder).rglob("*.py"))
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in FILES}
# An entry of Args: or Attributes: names its noun first: "folder: folder of the tars", not "folder: of the tars".
FRAGMENT = re.compile(r" {4}\w+(, \w+)*: (of|told|who|whose|where|(for|by|in|at) (what|which))\b", re.I)
BANNED = re.compile(
    r"\b(treacherous|twins?|patience|heed|hurr(y|ied)|told|knocks?|strangers?|alike to|farewell)\b"
    r"|, (its|the) (manifest|index|header|shard|file) says\b"  # a comma splice lacks "but": "has 5, its index says 4"
    r"|\A *See `[\w.]+`\. *\Z",  # says nothing to a reader who has only this text
    re.I,
)
HELP = re.compile(r"(?!(?:Of|Or|For|In|At|By|Told|Also|Whose|Those|The same)\b)(?:[A-Z'\"]|JPEG).*[.\])]\Z", re.DOTALL)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(tree: ast.AST) -> Iterator[str]:
    yield from (ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, DOCUMENTED))


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string with a space in it: docstrings, errors, help texts and output; no names or formats."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def test_texts_use_no_banned_word_or_comma_splice():
    found = [f"{path}: {text.strip()}" for path, tree in TREES.items() for text in texts(tree) if BANNED.search(text)]

    assert not found, "\n".join(found)


def test_entries_of_docstrings_name_their_noun():
    found = [
        f"{path}: {line}"
        for path, tree in TREES.items()
        for text in docstrings(tree)
        for line in text.splitlines()
        if FRAGMENT.match(line)
    ]

    assert not found, "\n".join(found)


def test_public_methods_have_a_docstring_or_implement_a_documented_contract():
    owners = [node for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = [(owner, each) for owner in owners for each in owner.body if isinstance(each, ast.FunctionDef)]
    contracts = {each.name for _, each in methods if ast.get_docstring(each)}

    missing = [
        f"{owner.name}.{method.name}"
        for owner, method in methods
        if not owner.name.startswith("_") and not method.name.startswith("_") and method.name not in contracts
        if f"{method.name}:" not in (ast.get_docstring(owner) or "")  # an attribute that the class describes
    ]

    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_help_texts_of_options_are_complete_phrases(name):
    command = cli.get_command(click.Context(cli), name)

    weak = [option for option in command.params if isinstance(option, click.Option) and not HELP.match(option.help)]

    assert not weak, "\n".join(f"{option.opts[0]}: {option.help}" for option in weak)


def test_weak_texts_are_found():
    assert FRAGMENT.match("    max_pixels: of an image") and FRAGMENT.match("    folder, index: Where it lies")
    assert BANNED.search("The reader is told so.") and BANNED.search("it has 5 bytes, its manifest says 4")
    assert BANNED.search("See `Folder`.") and not BANNED.search("See `Folder`. A relative path stays relative.")
    assert not FRAGMENT.match("    folder: folder of the tars")
    assert not HELP.match("Or then.") and not HELP.match("of the crops") and HELP.match("Stop after 3 batches.  [x]")
