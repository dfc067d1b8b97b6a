"""Read-ahead: the right bytes, as views of a response while memory allows, within the limit of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.storage.folder import Traffic
from mps_shards.storage.read_ahead import Piece, ReadAhead

CONTENT = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()


class Store:
    """A store of one file that records its responses, and which of them are still in use."""

    def __init__(self) -> None:
        self.given: list[bytearray] = []

    def read(self, file: tuple[int, ...], start: int, stop: int, stopped: object) -> memoryview:
        self.given.append(bytearray(CONTENT[start:stop]))
        return memoryview(self.given[-1]).toreadonly()

    def in_use(self) -> int:
        """Return the responses of which views exist."""
        return sum(not _resizable(each) for each in self.given)


def _resizable(array: bytearray) -> bool:
    try:
        array += b"."  # Python refuses while there is a view
    except BufferError:
        return False
    del array[-1]
    return True


@contextmanager
def ahead(store: Store, *, max_bytes: int) -> Iterator[ReadAhead]:
    found = ReadAhead(store.read, max_bytes=max_bytes, traffic=Traffic())
    try:
        yield found
    finally:
        found.close()


def pieces(count: int, size: int, *, unit: int, step: int = 1) -> list[Piece]:
    """Return adjacent pieces, or every `step`-th of them, with `unit` pieces in each unit."""
    return [
        Piece(ticket, ticket // unit, (0,), ticket * step * size, (ticket * step + 1) * size) for ticket in range(count)
    ]


def test_pieces_are_views_of_one_response_which_is_freed_with_the_last_piece():
    store = Store()
    with ahead(store, max_bytes=1 << 20) as found:
        found.plan(pieces(8, 1000, unit=8), known=8)
        for ticket in range(7):
            assert found.take(ticket) == CONTENT[ticket * 1000 : (ticket + 1) * 1000]
        assert len(store.given) == store.in_use() == 1
        found.take(7)
        assert store.in_use() == 0


def test_remaining_pieces_are_copied_out_of_a_response_when_memory_is_needed():
    store = Store()
    with ahead(store, max_bytes=10_000) as found:
        found.plan(pieces(16, 1000, unit=8), known=16)  # two units, of which only one fits into the limit
        for ticket in range(6):
            found.take(ticket)  # copying the last 2,000 of 8,000 bytes makes room for the other unit
        assert found.take(8) == CONTENT[8000:9000]
        assert len(store.given) == 2 and store.in_use() == 1
        assert found.take(6) == CONTENT[6000:7000] and found.take(7) == CONTENT[7000:8000]


def test_a_response_that_is_mostly_gaps_is_not_kept():
    store = Store()
    with ahead(store, max_bytes=1 << 20) as found:
        found.plan(pieces(8, 1000, unit=8, step=10), known=8)
        assert found.take(0) == CONTENT[:1000]

        assert len(store.given) == 1 and store.in_use() == 0
        assert found.take(7) == CONTENT[70_000:71_000]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=60),
    st.integers(1, 8000),
    st.randoms(use_true_random=False),
)
def test_pieces_taken_in_any_order_are_right_with_any_memory_limit(places, max_bytes, random):
    wanted = [
        Piece(ticket, unit, (0,), 64 * start, 64 * (start + size)) for ticket, (start, size, unit) in enumerate(places)
    ]
    tickets = list(range(len(wanted)))
    random.shuffle(tickets)
    with ahead(Store(), max_bytes=max_bytes) as found:
        found.plan(wanted, known=random.randrange(len(wanted) + 1))
        for ticket in tickets:
            if random.random() < 0.2:
                found.prioritise(tickets)
            assert found.take(ticket) == CONTENT[wanted[ticket].start : wanted[ticket].stop]
        found.finish()

        assert (found._bytes, found._spare, found._whole, found.closed) == (0, 0, set(), True)


@pytest.mark.parametrize("failing", [0, 3])
def test_a_failed_request_does_not_change_the_counted_bytes(failing):
    def read(file: tuple[int, ...], start: int, stop: int, stopped: object) -> memoryview:
        if start == failing * 8000:
            raise OSError("gone")
        return memoryview(CONTENT[start:stop])

    found = ReadAhead(read, max_bytes=9000, traffic=Traffic())
    found.plan(pieces(32, 1000, unit=8), known=32)
    for ticket in range(32):
        if ticket // 8 == failing:
            with pytest.raises(OSError, match="gone"):
                found.take(ticket)
        else:
            assert found.take(ticket) == CONTENT[ticket * 1000 : (ticket + 1) * 1000]
    found.finish()

    assert (found._bytes, found._spare, found.closed) == (0, 0, True)
