"""How well is a class-sorted set mixed? Our order, a full permutation, and webdataset's shard shuffle with a buffer.

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
    """The order of `ShardDataset(…, shuffle=True)`."""
    order = order_of(counts, Shuffle(), seed=0, epoch=epoch)
    return order.at(np.arange(order.samples))


def permutation(counts: Sequence[int], epoch: int) -> Numbers:
    """The ceiling: every order equally likely."""
    return np.random.default_rng(epoch).permutation(sum(counts))


def webdataset(buffer: int) -> Callable[[Sequence[int], int], Numbers]:
    """Shards in random order, read one after the other through webdataset's shuffle buffer."""

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
    """Figures of one order of one set, over the full batches of two epochs.

    Returns:
        distinct: classes in a batch, on average. lag_1, lag_worst: correlation of the classes of samples that follow
        each other by 1, and the largest by 1 to 100. travelled: mean distance of a sample from its packed place, as a
        share of what it is in a full permutation. together_again: how often two samples of one batch share one in the
        next epoch, against chance.

    Raises:
        ValueError: an epoch does not hold each sample once, or two are equal.
    """
    samples = classes * per_class
    counts = [min(shard, samples - start) for start in range(0, samples, shard)]
    epochs = [order(counts, epoch) for epoch in range(2)]
    if any(not np.array_equal(np.sort(epoch), np.arange(samples)) for epoch in epochs):
        raise ValueError("an epoch does not hold each sample once")
    if np.array_equal(epochs[0], epochs[1]):
        raise ValueError("two epochs have one order")
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
    """Pearson's."""
    return float(np.corrcoef(one, other)[0, 1])


def together(epochs: Sequence[Numbers], batch: int) -> float:
    """Share of the pairs of samples with one batch in the first epoch that have one batch in the second, too."""
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
    """Judge, print a table for each set and batch size, leave JSON lines; the figures."""
    parser = bench_parser(__doc__)
    parser.add_argument("--sets", nargs="+", default=["1000x1000", "10x100"], help="classes x samples of each")
    parser.add_argument("--shard", type=int, default=1000, help="samples of a shard (default: %(default)s)")
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
                    f"\n{classes} classes of {per_class}, class by class in shards of {given.shard}, batches of {batch}"
                )
                print(table(TITLES, rows))
    return found


TITLES = ("order", "classes in a batch", "lag 1", "worst lag", "travelled", "together again")


def cells(figures: dict[str, float]) -> list[str]:
    """For the table."""
    return [
        f"{figures['distinct']:.1f}",
        f"{figures['lag_1']:+.3f}",
        f"{figures['lag_worst']:+.3f}",
        f"{figures['travelled']:.2f}",
        f"{figures['together_again']:.1f} x",
    ]


if __name__ == "__main__":
    main()
