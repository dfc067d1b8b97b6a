"""Shards made by many processes that know nothing of each other: array jobs of SLURM, PBS or Kubernetes.

Each task lists the source itself, comes to the same plan, and makes its share on threads of its own machine.
``pack --commit`` makes the sets when all are done.
"""

__all__ = ["share"]


def share(numbers: range, index: int, count: int) -> range:
    """Those of the shards that task `index` of `count` makes: every n-th, so that all are done at about one time."""
    return numbers[index::count]
