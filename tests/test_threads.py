"""Parts that many threads use: the pure ones keep nothing, and accounts stay whole."""

import functools
import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from mps_shards.errors import DecodeError
from mps_shards.reading.bad_samples import BadSamples, SkipRules
from mps_shards.sampling.rank import Share

PURE = (
    "shards.*",
    "sampling.order",
    "sampling.rank_sharding",
    "sampling.mixing",
    "sampling.cursor",
    "vision.decoding",
    "errors",
    "metrics",
    "reading.bad_samples",
)
PACKAGE = Path(__file__).parents[1] / "mps_shards"
MODULES = [
    ".".join(("mps_shards", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for pattern in PURE
    for file in sorted(PACKAGE.glob(pattern.replace(".", "/") + ".py"))
]


@pytest.mark.parametrize("name", MODULES)
def test_a_pure_module_keeps_nothing_that_changes(name: str):
    module = importlib.import_module(name)

    kept = {key: value for key, value in vars(module).items() if not key.startswith("__") and changes(value)}

    assert not kept


def changes(value: object) -> bool:
    cached = isinstance(value, functools._lru_cache_wrapper)
    return cached or (isinstance(value, list | dict | set | bytearray) and not isinstance(value, ModuleType))


def test_an_account_is_whole_whichever_threads_write_to_it(tmp_path: Path):
    log = tmp_path / "bad.jsonl"
    rules = SkipRules(max_bad=None, log=log)
    bad = BadSamples(rules, share=Share(rank=0, world_size=1), epoch=0, samples=800)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            done = list(
                pool.map(lambda n: bad.leave_out(DecodeError("x" * n), shard="s", key=str(n), position=n), range(800))
            )
    finally:
        sys.setswitchinterval(interval)

    assert all(done) and bad.report().count == 800 and len(bad.report().first) == 100
    assert len({line for line in log.read_text().splitlines()}) == 800
