"""A function over items on threads: in order, bounded, and gone when left."""

import threading
from itertools import count, islice

import pytest

from mps_shards.batching.map_ahead import mapped


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order(threads: int):
    assert list(mapped(str, range(50), threads=threads)) == [str(number) for number in range(50)]


def test_an_endless_source_is_pulled_no_further_than_a_few_ahead():
    pulled = []

    def numbers():
        for number in count():
            pulled.append(number)
            yield number

    found = list(islice(mapped(lambda number: number, numbers(), threads=2), 10))

    assert found == list(range(10))
    assert len(pulled) <= 10 + 4 * 2


def test_an_error_comes_in_its_place_and_leaves_no_thread():
    results = mapped(lambda number: 10 // (3 - number), range(9), threads=2)

    assert [next(results) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == 1
