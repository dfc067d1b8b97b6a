"""How many rows of a batch a worker takes at once."""

from hypothesis import given
from hypothesis import strategies as st

from mps_shards.batching.worker_threads import _rows_at_once


@given(rows=st.integers(1, 4096), workers=st.integers(1, 256), batches=st.integers(1, 2))
def test_so_many_batches_keep_all_workers_busy(rows: int, workers: int, batches: int):
    count = _rows_at_once(rows, workers, batches=batches)

    assert 1 <= count <= 16
    assert count == 1 or count * workers <= batches * rows


@given(rows=st.integers(32, 4096), workers=st.integers(1, 256))
def test_a_few_workers_share_one_batch_and_many_take_no_tiny_pieces(rows: int, workers: int):
    count = _rows_at_once(rows, workers, batches=2)

    if workers <= 2:
        assert count >= 8 and count * workers <= rows
    elif workers <= rows // 4:
        assert count >= 8
