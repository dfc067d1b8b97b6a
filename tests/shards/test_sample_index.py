"""The index is a plain .npy file; a row that cannot be correct is refused by its shard and number."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ManifestError
from mps_shards.shards.sample_index import ROW, check_rows, index_bytes, rows
from mps_shards.shards.tar import END

blocks = st.integers(1, 1000)
samples = st.lists(st.tuples(blocks, st.integers(0, 2**32 - 1)), max_size=12)


def entries(found: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(offset, size, crc32) of samples of these sizes in blocks, one behind the other."""
    result, offset = [], 0
    for count, crc in found:
        result.append((offset, count * 512, crc))
        offset += count * 512
    return result


@given(st.lists(samples, max_size=4))
def test_the_file_holds_every_row_in_the_order_of_the_shards(shards: list[list[tuple[int, int]]]):
    content = index_bytes([rows(entries(shard)) for shard in shards])

    read = np.load(io.BytesIO(content), allow_pickle=False)
    assert read.dtype == ROW and ROW.itemsize == 16
    assert read.tolist() == [row for shard in shards for row in entries(shard)]


def test_equal_rows_are_equal_bytes_whatever_shards_they_come_from():
    one, two = entries([(1, 7), (2, 8)])

    assert index_bytes([rows([one]), rows([two])]) == index_bytes([rows([one, two])])


def test_offsets_beyond_four_gigabytes_are_held():
    [row] = np.load(io.BytesIO(index_bytes([rows([(2**40, 512, 2**32 - 1)])])))

    assert row.item() == (2**40, 512, 2**32 - 1)


@given(samples)
def test_rows_as_packing_makes_them_pass(found: list[tuple[int, int]]):
    made = entries(found)
    size = sum(size for _, size, _ in made) + len(END)

    check_rows("s.tar", rows(made), shard_bytes=size)


@pytest.mark.parametrize(
    ("made", "row"),
    [
        ([(0, 512, 0), (100, 512, 0)], 1),
        ([(0, 500, 0)], 0),
        ([(0, 0, 0)], 0),
        ([(0, 512, 0), (4096, 512, 0)], 1),
        ([(0, 512, 0), (3584, 1024, 0)], 1),
        ([(0, 1024, 0), (512, 512, 0)], 1),
        ([(512, 512, 0), (0, 512, 0)], 1),
        ([(2**64 - 512, 512, 0)], 0),
        ([(2**64 - 512, 1024, 0)], 0),
    ],
    ids=[
        "off a block",
        "part of a block",
        "empty",
        "behind the end",
        "over the end",
        "overlap",
        "backwards",
        "wraps to zero",
        "wraps around",
    ],
)
def test_a_row_that_cannot_be_right_is_named(made: list[tuple[int, int, int]], row: int):
    with pytest.raises(ManifestError, match=f"index row {row} of shard s.tar states bytes .* of 4096 bytes"):
        check_rows("s.tar", rows(made), shard_bytes=4096)
