"""What may import what (import-linter holds the rest), and the layout of files."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 50  # besides its docstring


@pytest.mark.parametrize("module", ["mps_shards", "mps_shards.cli"])
def test_the_command_line_starts_without_heavy_imports(module: str):
    heavy = ["numpy", "torch", "torchvision", "webdataset"]
    program = f"import json, sys, {module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"

    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout) == []


def test_no_file_is_long():
    files = [file for folder in ("mps_shards", "tests", "tools") for file in ROOT.glob(f"{folder}/**/*.py")]
    lengths = {file.relative_to(ROOT): file.read_text("utf-8").count("\n") for file in files}

    assert {file: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_is_long():
    lengths = {
        f"{file.relative_to(ROOT)}:{function.name}": _code_lines(function)
        for folder in ("mps_shards", "tools")
        for file in ROOT.glob(f"{folder}/**/*.py")
        for function in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
    }

    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def _code_lines(function: ast.FunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0)


def test_no_two_files_of_the_package_share_a_name():
    names = Counter(file.name for file in ROOT.glob("mps_shards/**/[!_]*.py"))

    assert [name for name, count in names.items() if count > 1] == []


def test_tools_run_without_the_tests():
    importing = [
        file.relative_to(ROOT)
        for file in ROOT.glob("tools/**/*.py")
        if re.search(r"^\s*(from|import) tests\b", file.read_text("utf-8"), re.MULTILINE)
    ]

    assert importing == []
