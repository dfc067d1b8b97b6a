"""Measure how loading and training overlap: total time against the longer of the two alone, on a simulated device.

    python -m tools.bench.overlap [--batches 200] [--rounds 3] [--json]

The device is the simulated device of the tests: it works in order and with a delay, and reads a host buffer when it
executes the copy. Each sample costs a worker a pause, in which other threads can run, as in JPEG decoding. Each step
costs the device a pause, and the training loop reads a value back after each step, as `loss.item()` does. The ratio of
perfect overlap is 1.0. For comparison, "in turn" is the ratio of a loop that loads and then trains.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator

import torch

from mps_shards.batching.host_batch import Sample
from mps_shards.device.engines.inline import InlineEngine
from mps_shards.device.engines.thread import ThreadEngine
from tools.support.fake_device import FakeDevice
from tools.support.feeding import deliveries, drafts

ROWS = 8
THREADS = 2
ENGINES: dict[str, type[InlineEngine] | type[ThreadEngine]] = {"inline": InlineEngine, "thread": ThreadEngine}
# seconds for loading a batch (by all threads together) and for a training step
CASES = {"balanced": (0.008, 0.008), "device dominates": (0.004, 0.012), "loader dominates": (0.012, 0.004)}


def loading(device: FakeDevice, engine: str, batches: int, load_s: float) -> Iterator[object]:
    """Iterate over batches whose samples each cost a worker its share of `load_s` seconds."""
    pause = load_s * THREADS / ROWS

    def make(number: int) -> Sample:
        time.sleep(pause)
        return Sample(torch.full((3, 8, 8), number % 256, dtype=torch.uint8), number, str(number))

    kind = ENGINES[engine](device, device_batches=1, non_blocking=True)
    return deliveries(kind, drafts(batches, ROWS), make=make, threads=THREADS)


def timed(engine: str, batches: int, load_s: float, step_s: float) -> float:
    """Return the seconds from the first to the last batch, so that starting up does not count."""
    began = 0.0
    with FakeDevice(transfer_thread=engine == "thread") as device:
        for number, _ in enumerate(loading(device, engine, batches + 1, load_s)):
            if not number:
                began = time.perf_counter()
            if step_s:
                device.compute(step_s)
                device.drain()  # the loop reads the loss
        return time.perf_counter() - began


def measure(engine: str, case: str, batches: int) -> dict[str, float]:
    """Measure one round: loading alone, training alone, and both."""
    load_s, step_s = CASES[case]
    load, both = timed(engine, batches, load_s, 0.0), timed(engine, batches, load_s, step_s)
    step = timed(engine, batches, 0.0, step_s)
    return {
        "load_s": load,
        "step_s": step,
        "both_s": both,
        "ratio": both / max(load, step),
        "in_turn": (load + step) / max(load, step),
    }


def main() -> None:
    """Print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="batches per measurement (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which medians are shown (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    options = parser.parse_args()
    if not options.json:
        print(f"{'engine':<8} {'case':<18} {'load s':>7} {'step s':>7} {'both s':>7} {'ratio':>6} {'in turn':>8}")
    for engine in ENGINES:
        for case in CASES:
            rounds = [measure(engine, case, options.batches) for _ in range(options.rounds)]
            found = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
            if options.json:
                print(json.dumps({"engine": engine, "case": case, "batches": options.batches, **found}))
            else:
                print(
                    f"{engine:<8} {case:<18} {found['load_s']:7.2f} {found['step_s']:7.2f} {found['both_s']:7.2f} "
                    f"{found['ratio']:6.3f} {found['in_turn']:8.2f}"
                )


if __name__ == "__main__":
    main()
