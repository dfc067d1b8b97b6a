"""Packing by an array job of SLURM, PBS or Kubernetes, whose tasks do not communicate.

Each task lists the source itself, comes to the same plan, and makes its share on threads of its own machine.
``pack --commit`` makes the sets when all are done.
"""

__all__ = ["share"]


def share(numbers: range, index: int, count: int) -> range:
    """Return the numbers of the shards that task `index` of `count` makes: every `count`-th, to balance the work."""
    return numbers[index::count]
