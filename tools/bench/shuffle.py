"""Measure how well a class-sorted set is mixed by our order, a full permutation, and webdataset's shuffle buffer.

python -m tools.bench.shuffle --sets 1000x1000 10x100
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from webdataset import filters

from mps_shards.sampling.order import Shuffle, order_of
from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, headline, machine, table

__all__ = ["main"]

Numbers = npt.NDArray[np.int64]
LAGS = 100


def ours(counts: Sequence[int], epoch: int) -> Numbers:
    """Return the order of `ShardDataset(…, shuffle=True)`."""
    order = order_of(counts, Shuffle(), seed=0, epoch=epoch)
    return order.at(np.arange(order.samples))


def permutation(counts: Sequence[int], epoch: int) -> Numbers:
    """Return a full permutation, which mixes as well as possible: every order is equally likely."""
    return np.random.default_rng(epoch).permutation(sum(counts))


def webdataset(buffer: int) -> Callable[[Sequence[int], int], Numbers]:
    """Return a function for the order of shards in random order, read through webdataset's shuffle buffer."""

    def order(counts: Sequence[int], epoch: int) -> Numbers:
        rng = random.Random(epoch)
        starts = np.cumsum([0, *counts])
        shards = list(range(len(counts)))
        rng.shuffle(shards)
        samples = (number for shard in shards for number in range(starts[shard], starts[shard + 1]))
        shuffled = filters.shuffle(buffer, initial=buffer, rng=rng)(samples)
        return np.fromiter(shuffled, dtype=np.int64, count=sum(counts))

    return order


ORDERS: dict[str, Callable[[Sequence[int], int], Numbers]] = {
    "full permutation": permutation,
    "mps-shards": ours,
    "webdataset, buffer 1000": webdataset(1000),
    "webdataset, buffer 5000": webdataset(5000),
}


def judge(
    order: Callable[[Sequence[int], int], Numbers], *, classes: int, per_class: int, shard: int, batch: int
) -> dict[str, float]:
    """Return figures of one order of one set, over the full batches of two epochs.

    Returns:
        distinct: mean number of classes in a batch.
        lag_1, lag_worst: correlation of the classes of samples at distance 1, and the largest at distances 1 to 100.
        travelled: mean distance of a sample from its packed position, divided by that of a full permutation.
        together_again: how often two samples of one batch are in one batch again in the next epoch, divided by chance.

    Raises:
        ValueError: an epoch does not hold each sample once, or two epochs are equal.
    """
    samples = classes * per_class
    counts = [min(shard, samples - start) for start in range(0, samples, shard)]
    epochs = [order(counts, epoch) for epoch in range(2)]
    if any(not np.array_equal(np.sort(epoch), np.arange(samples)) for epoch in epochs):
        raise ValueError("an epoch does not hold each sample once")
    if np.array_equal(epochs[0], epochs[1]):
        raise ValueError("two epochs have the same order")
    first = epochs[0]
    label = first // per_class
    whole = samples // batch * batch
    by_batch = np.sort(label[:whole].reshape(-1, batch), axis=1)
    lags = [correlation(label[:-lag], label[lag:]) for lag in range(1, min(LAGS, samples // 2) + 1)]
    return {
        "distinct": float(1 + (np.diff(by_batch, axis=1) > 0).sum(axis=1).mean()),
        "lag_1": lags[0],
        "lag_worst": max(lags, key=abs),
        "travelled": float(np.abs(first - np.arange(samples)).mean() / (samples / 3)),
        "together_again": together(epochs, batch) / ((batch - 1) / (samples - 1)),
    }


def correlation(one: Numbers, other: Numbers) -> float:
    """Return Pearson's correlation coefficient."""
    return float(np.corrcoef(one, other)[0, 1])


def together(epochs: Sequence[Numbers], batch: int) -> float:
    """Return the share of pairs in one batch of the first epoch that are in one batch of the second epoch as well."""
    samples = len(epochs[0])
    batch_later = np.empty(samples, dtype=np.int64)
    batch_later[epochs[1]] = np.arange(samples) // batch
    pairs = same = 0
    for lag in range(1, batch):
        near = np.arange(samples - lag)[np.arange(samples - lag) // batch == np.arange(lag, samples) // batch]
        pairs += len(near)
        same += int((batch_later[epochs[0][near]] == batch_later[epochs[0][near + lag]]).sum())
    return same / pairs


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print a table for each set and batch size, write JSON lines, and return the figures."""
    parser = bench_parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=["1000x1000", "10x100"], help="sets as CLASSESxSAMPLES_PER_CLASS")
    parser.add_argument("--shard", type=int, default=1000, help="samples per shard (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 64, 8], help="batch sizes")
    given = parser.parse_args(arguments)
    print(headline(machine()))
    found = []
    with Lines(given.out / "bench_shuffle.jsonl", shard=given.shard) as lines:
        for each in given.sets:
            classes, per_class = map(int, each.split("x"))
            for batch in given.batches:
                rows = []
                for name, order in ORDERS.items():
                    figures = judge(order, classes=classes, per_class=per_class, shard=given.shard, batch=batch)
                    found.append({"order": name, "set": each, "batch": batch, **figures})
                    lines.write(found[-1])
                    rows.append([name, *cells(figures)])
                print(
                    f"\n{classes} classes of {per_class} samples, sorted by class, in shards of {given.shard}, "
                    f"batches of {batch}"
                )
                print(table(TITLES, rows))
    return found


TITLES = ("order", "classes in a batch", "correlation, lag 1", "worst lag", "distance moved", "together again")


def cells(figures: dict[str, float]) -> list[str]:
    """Return the figures of one order as cells of the table."""
    return [
        f"{figures['distinct']:.1f}",
        f"{figures['lag_1']:+.3f}",
        f"{figures['lag_worst']:+.3f}",
        f"{figures['travelled']:.2f}",
        f"{figures['together_again']:.1f} x",
    ]


if __name__ == "__main__":
    main()
