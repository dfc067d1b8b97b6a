"""Do loading and training overlap? Total time against the longer of the two alone, on a simulated device.

    python -m tools.bench.overlap [--batches 200] [--rounds 3] [--json]

The device is the one of the tests: it works in order, late, and copies from slots when it gets there. A sample costs
the workers a pause (in which, as in JPEG decoding, others may run); a step costs the device one, and the training loop
reads a value back after each step, as `loss.item()` does. The ceiling is 1.0: perfect overlap. Beside it stands the
loop that loads, then trains, in turn.
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
# seconds of a batch's loading (by all threads together) and of a training step
CASES = {"balanced": (0.008, 0.008), "device dominates": (0.004, 0.012), "loader dominates": (0.012, 0.004)}


def loading(device: FakeDevice, engine: str, batches: int, load_s: float) -> Iterator[object]:
    """Batches whose samples each cost a worker its share of `load_s`."""
    pause = load_s * THREADS / ROWS

    def make(number: int) -> Sample:
        time.sleep(pause)
        return Sample(torch.full((3, 8, 8), number % 256, dtype=torch.uint8), number, str(number))

    kind = ENGINES[engine](device, ahead=1, non_blocking=True)
    return deliveries(kind, drafts(batches, ROWS), make=make, threads=THREADS)


def timed(engine: str, batches: int, load_s: float, step_s: float) -> float:
    """Seconds from the first to the last batch, so that starting up does not count."""
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
    """One round: loading alone, training alone, both."""
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
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
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
