"""Loading of samples by the native kernel: from open tars to rows of a batch, in one call without the GIL."""

import time
from collections.abc import Sequence

from mps_shards import native
from mps_shards.batching.host_batch import HostBatch
from mps_shards.metrics import StageTimes
from mps_shards.reading.batch_plan import BatchPlan
from mps_shards.reading.rendering import LARGEST_RENDERED, Renderer
from mps_shards.reading.sample_sources import Request
from mps_shards.vision.transforms.sample_transform import SampleTransform

__all__ = ["SampleLoader"]


class SampleLoader:
    """Loads samples in one thread. The kernel declines unusual samples; the caller makes them in Python.

    Args:
        transform: a transform that is a view, see `SampleTransform.is_view`.
        most_label: the highest class number, or `native.UNLABELED`.
        times: stage times to which the loader adds its seconds.
    """

    def __init__(
        self,
        renderer: Renderer,
        transform: SampleTransform,
        request: Request,
        *,
        most_label: int,
        scaled: bool,
        max_pixels: int,
        times: StageTimes,
    ):
        self._renderer, self._shape, self._times = renderer, transform.geometry.shape, times
        self._loading = native.Loading(
            geometry=transform.geometry.numbers(),
            seed=request.seed,
            epoch=request.epoch,
            most_label=most_label,
            scaled=scaled,
            max_pixels=min(max_pixels, LARGEST_RENDERED - 1),
        )

    def __call__(self, batch: HostBatch, plan: BatchPlan, first: int, last: int) -> Sequence[int]:
        """Write rows `first` to `last - 1` of the batch, and return the rows that are left for Python."""
        began = time.perf_counter()
        with plan.opened(first, last) as spans:
            opened = time.perf_counter()
            loaded = spans is not None and self._renderer.load(
                batch, self._shape, spans, first=first, loading=self._loading
            )
        if not loaded:
            return range(first, last)
        self._times.read += opened - began + loaded.read_s
        self._times.decode += time.perf_counter() - opened - loaded.read_s
        self._times.bytes_read += loaded.nbytes
        if all(loaded.outcomes):
            batch.put_rest(first, loaded.keys, loaded.labels)
            return ()
        rest = []
        for row, outcome, key, label in zip(
            range(first, last), loaded.outcomes, loaded.keys, loaded.labels, strict=True
        ):
            if outcome:
                batch.put_rest(row, [key], [label])
            else:
                rest.append(row)
        return rest
