"""What may import what (import-linter holds the rest), and how long a file may be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 400


@pytest.mark.parametrize("module", ["mps_shards", "mps_shards.cli"])
def test_the_command_line_starts_without_heavy_imports(module: str):
    heavy = ["numpy", "torch", "torchvision", "webdataset"]
    program = f"import json, sys, {module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"

    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout) == []


def test_no_file_is_long():
    lengths = {file.relative_to(ROOT): file.read_text("utf-8").count("\n") for file in ROOT.glob("mps_shards/**/*.py")}

    assert {file: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}
