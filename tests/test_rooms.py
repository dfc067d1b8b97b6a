"""The house stands as DESIGN says: the room table, the monopolies, and what starts without torch."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.rooms import sources, violations

ROOT = Path(__file__).parents[1]
MOST_LINES = 400

# A small house in order; each planted violation replaces or adds one module.
ORDERLY = {
    "mps_shards.__init__": "def __getattr__(name):\n    from mps_shards.loader import DeviceLoader",
    "mps_shards.__main__": "from mps_shards.cli import main",
    "mps_shards.errors": "",
    "mps_shards.metrics": "",
    "mps_shards.shards.__init__": '"""Charter."""',
    "mps_shards.shards.manifest": "from pathlib import PurePath\nimport io",
    "mps_shards.storage.__init__": '"""Charter."""',
    "mps_shards.storage.local": "import os\nfrom threading import Lock\nfrom ..errors import StorageError",
    "mps_shards.pack.__init__": '"""Charter."""',
    "mps_shards.pack.run": "import concurrent.futures\nfrom mps_shards.storage.local import RangeReader",
    "mps_shards.read.__init__": '"""Charter."""',
    "mps_shards.read.order": "from . import cursor\nfrom mps_shards.shards import manifest",
    "mps_shards.read.cursor": "if TYPE_CHECKING:\n    import torch",
    "mps_shards.read.foreign": "import webdataset",
    "mps_shards.vision.__init__": '"""Charter."""',
    "mps_shards.vision.decode": "import numpy\nfrom PIL import Image\ndef later():\n    import torch",
    "mps_shards.feed.__init__": '"""Charter."""',
    "mps_shards.feed.workers": "import threading\nimport torch",
    "mps_shards.dataset": "from mps_shards.read import order\nfrom mps_shards.vision import decode",
    "mps_shards.loader": "from mps_shards.dataset import ShardDataset\nfrom mps_shards.feed import workers",
    "mps_shards.cli.__init__": '"""Charter."""\nimport click\nprint("hello")',
}


def test_the_house_is_in_order():
    assert violations(sources(ROOT)) == []


def test_the_whole_house_is_read():
    read = sources(ROOT)

    assert len(read) == sum(1 for _ in (ROOT / "mps_shards").rglob("*.py"))
    assert {"mps_shards.__init__", "mps_shards.errors", "mps_shards.shards.manifest"} <= read.keys()


def test_an_orderly_house_draws_no_complaint():
    assert violations(ORDERLY) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        # the table
        ("errors", "from mps_shards.metrics import Count", "errors imports mps_shards.metrics.Count, beside it"),
        ("shards.tar", "from mps_shards.storage import local", "imports mps_shards.storage.local, beside it"),
        ("storage.open", "import mps_shards.read.order", "storage imports mps_shards.read.order, above it"),
        ("read.tar", "from mps_shards.vision import decode", "imports mps_shards.vision.decode, beside it"),
        ("read.tar", "from ..feed.workers import Pool", "read imports mps_shards.feed.workers.Pool, beside it"),
        ("read.tar", "from .. import pack", "read imports mps_shards.pack, beside it"),
        ("feed.batch", "def f():\n    from mps_shards import loader", "feed imports mps_shards.loader, above it"),
        ("dataset", "from .loader import DeviceLoader", "dataset imports mps_shards.loader.DeviceLoader, beside it"),
        ("loader", "from mps_shards import cli", "loader imports mps_shards.cli, above it"),
        ("read.tar", "from mps_shards import ShardDataset", "mps_shards.ShardDataset, no room below it"),
        ("read.tar", "import mps_shards", "read imports mps_shards, no room below it"),
        ("pack.plan", "if TYPE_CHECKING:\n    from mps_shards.read import order", "mps_shards.read.order, beside it"),
        ("utils", "", "no room is called utils"),
        # the monopolies
        ("read.tar", "import click", "read imports click: only cli may"),
        ("loader", "from rich.progress import track", "loader imports rich.progress.track: only cli may"),
        ("metrics", "def f():\n    print('x')", "metrics calls print: only cli may"),
        ("__main__", "print('x')", "front door calls print: only cli may"),
        ("pack.layouts.folders", "from PIL import Image", "pack imports PIL.Image: only vision may"),
        ("feed.batch", "import simplejpeg", "feed imports simplejpeg: only vision may"),
        ("dataset", "from torchvision import io", "dataset imports torchvision.io: only vision may"),
        ("upkeep.verify", "import webdataset", "upkeep imports webdataset: only dataset and read may"),
        ("read.tar", "import obstore", "read imports obstore: only storage may"),
        ("read.tar", "import threading", "read imports threading: only feed and policy and storage may"),
        (
            "metrics",
            "from threading import Lock",
            "metrics imports threading.Lock: only feed and policy and storage may",
        ),
        ("storage.open", "from threading import Thread", "threading.Thread: of threading only locks"),
        ("storage.open", "import threading\nthreading.Event()", "threading.Event: of threading only locks"),
        (
            "read.tar",
            "from concurrent.futures import Future",
            "concurrent.futures.Future: only feed and pack and storage and upkeep may",
        ),
        ("dataset", "import multiprocessing.pool", "multiprocessing.pool: only feed and pack and read may"),
        # shards: values only
        ("shards.index", "def f():\n    import torch", "shards imports torch: it has no tensors"),
        ("shards.index", "import os.path", "shards imports os.path: it has no I/O"),
        ("shards.index", "from pathlib import Path", "shards imports pathlib.Path: it has no I/O"),
        ("shards.index", "import pathlib", "shards imports pathlib: it has no I/O"),
        ("shards.index", "import io\nio.open('x')", "shards calls io.open: it has no I/O"),
        ("shards.index", "def f(path):\n    return open(path)", "shards calls open: it has no I/O"),
        # what starts without torch
        ("pack.plan", "import torch", "loads torch, by importing torch"),
        ("read.order", "try:\n    import torch.fx\nexcept ImportError: ...", "loads torch, by importing torch.fx"),
        ("read.place", "from .foreign import x", "-> mps_shards.read.foreign:1: loads torch, by importing webdataset"),
        ("vision.__init__", '"""Charter."""\nimport torch', "mps_shards.vision.decode -> mps_shards.vision.__init__:2"),
        ("__init__", "import torch", "mps_shards.read.order -> mps_shards.__init__:1: loads torch"),
        # charters
        ("read.__init__", "import numpy", "no docstring, so no charter"),
    ],
)
def test_a_planted_violation_is_named(module, source, complaint):
    house = ORDERLY | {f"mps_shards.{module}": dedent(source)}

    found = violations(house)

    assert any(f"mps_shards.{module}" in line and complaint in line for line in found), found


def test_a_room_without_an_init_is_named():
    house = {name: source for name, source in ORDERLY.items() if name != "mps_shards.feed.__init__"}

    assert "mps_shards.feed: a folder without an __init__" in violations(house)


@pytest.mark.parametrize("module", ["mps_shards", "mps_shards.cli"])
def test_the_command_line_starts_without_heavy_imports(module):
    heavy = ["numpy", "torch", "torchvision", "webdataset"]
    program = f"import json, sys, {module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"

    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout) == []


def test_no_file_is_long():
    lengths = {file.relative_to(ROOT): file.read_text("utf-8").count("\n") for file in ROOT.glob("mps_shards/**/*.py")}

    assert {file: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}
