"""Measure how evenly ``balance="classes"`` and torch's WeightedRandomSampler use the samples of a long-tailed set.

python -m tools.bench.balance --classes 10 100 --samples 10000 --imbalance 100
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import WeightedRandomSampler

from mps_shards.sampling.balance import Balance
from mps_shards.sampling.order import Shuffle, order_of
from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, headline, machine, table

__all__ = ["main"]

Numbers = npt.NDArray[np.int64]
Sampler = Callable[[npt.NDArray[np.int32], int], Numbers]

TITLES = (
    "sampler",
    "class counts per epoch",
    "spread in a batch",
    "ratio to chance",
    "classes missing in a batch",
    "samples used",
    "repeats within a class",
)


def long_tailed(classes: int, samples: int, imbalance: float) -> npt.NDArray[np.int32]:
    """Return the class of each sample, class by class. The largest class has `imbalance` times the smallest's size."""
    shares = imbalance ** -(np.arange(classes) / max(1, classes - 1))
    sizes = np.maximum(1, (shares / shares.sum() * samples).astype(np.int64))
    return np.repeat(np.arange(classes, dtype=np.int32), sizes)


def ours(labels: npt.NDArray[np.int32], epoch: int) -> Numbers:
    """Return the samples of an epoch of `ShardDataset(…, shuffle=True, balance="classes")`, in order."""
    names = [str(number) for number in range(int(labels.max()) + 1)]
    draws = Balance().draws(labels, len(labels), names=names, seed=0, epoch=epoch)
    order = order_of(draws.counts, Shuffle(), seed=0, epoch=epoch)
    return draws.numbers[order.at(np.arange(order.samples))].astype(np.int64)


def weighted_random(labels: npt.NDArray[np.int32], epoch: int) -> Numbers:
    """Return an epoch's samples of WeightedRandomSampler with inverse class counts, as in torch's tutorials."""
    weights = (1 / np.bincount(labels))[labels]
    sampler = WeightedRandomSampler(weights.tolist(), len(labels), generator=torch.Generator().manual_seed(epoch))
    return np.fromiter(sampler, dtype=np.int64, count=len(labels))


SAMPLERS: dict[str, Sampler] = {"mps-shards": ours, "WeightedRandomSampler": weighted_random}


def judge(sampler: Sampler, labels: npt.NDArray[np.int32], *, batch: int, epochs: int = 4) -> dict[str, float]:
    """Return figures of one sampler over the full batches of some epochs.

    Returns:
        epoch_spread: largest minus smallest number of uses of a class in an epoch, as a share of the mean.
        batch_spread: standard deviation of the number of uses of a class in a batch.
        against_chance: batch_spread divided by the spread of independent draws.
        missing: mean share of the classes that a batch lacks.
        used: number of samples that an epoch uses, divided by the largest possible number.
        repeats: largest minus smallest number of uses of the samples of one class in an epoch.

    Raises:
        ValueError: An epoch is not as long as the set, or two epochs are equal.
    """
    drawn = [sampler(labels, epoch) for epoch in range(epochs)]
    if any(len(numbers) != len(labels) for numbers in drawn):
        raise ValueError("an epoch is not as long as the set")
    if np.array_equal(drawn[0], drawn[1]):
        raise ValueError("two epochs have the same order")
    return {
        name: float(np.mean([figures[name] for figures in (_of_epoch(one, labels, batch) for one in drawn)]))
        for name in ("epoch_spread", "batch_spread", "against_chance", "missing", "used", "repeats")
    }


def _of_epoch(numbers: Numbers, labels: npt.NDArray[np.int32], batch: int) -> dict[str, float]:
    classes = int(labels.max()) + 1
    sizes = np.bincount(labels)
    share = len(numbers) / classes  # samples of each class in a balanced epoch
    in_epoch = np.bincount(labels[numbers], minlength=classes)
    whole = len(numbers) // batch * batch
    cells = labels[numbers[:whole]] + np.arange(whole) // batch * classes
    in_batch = np.bincount(cells, minlength=whole // batch * classes).reshape(-1, classes)
    spread = float(in_batch.std(axis=0).mean())
    uses = np.bincount(numbers, minlength=len(labels))
    starts = np.cumsum(sizes) - sizes
    repeats = np.maximum.reduceat(uses, starts) - np.minimum.reduceat(uses, starts)
    return {
        "epoch_spread": float(np.ptp(in_epoch) / share),
        "batch_spread": spread,
        "against_chance": spread / float(np.sqrt(batch / classes * (1 - 1 / classes))),
        "missing": float((in_batch == 0).mean()),
        "used": float((uses > 0).sum() / np.minimum(sizes, np.ceil(share)).sum()),
        "repeats": float(repeats.max()),
    }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print a table for each number of classes and batch size, write JSON lines, and return the figures."""
    parser = bench_parser(__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="numbers of classes")
    parser.add_argument("--samples", type=int, default=100_000, help="number of samples (default: %(default)s)")
    parser.add_argument(
        "--imbalance", type=float, default=100, help="size of the largest class / smallest (default: %(default)s)"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 32], help="batch sizes")
    given = parser.parse_args(arguments)
    print(headline(machine()))
    found = []
    with Lines(given.out / "bench_balance.jsonl", samples=given.samples, imbalance=given.imbalance) as lines:
        for classes in given.classes:
            labels = long_tailed(classes, given.samples, given.imbalance)
            for batch in given.batches:
                rows = []
                for name, sampler in SAMPLERS.items():
                    figures = judge(sampler, labels, batch=batch)
                    found.append({"sampler": name, "classes": classes, "batch": batch, **figures})
                    lines.write(found[-1])
                    rows.append([name, *_cells(figures)])
                print(f"\n{classes} classes, the largest {given.imbalance:g} times the smallest, batches of {batch}")
                print(table(TITLES, rows))
    return found


def _cells(figures: dict[str, float]) -> list[str]:
    return [
        f"± {figures['epoch_spread'] / 2:.2%}",
        f"{figures['batch_spread']:.2f}",
        f"{figures['against_chance']:.2f} x",
        f"{figures['missing']:.1%}",
        f"{figures['used']:.1%}",
        f"{figures['repeats']:.1f}",
    ]


if __name__ == "__main__":
    main()
