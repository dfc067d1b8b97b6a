"""The shard of each sample is a pure function of the listing and the options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ConfigError
from mps_shards.packing.option_values import parse_size
from mps_shards.packing.plan import key_of, plan_shards, shard_name
from mps_shards.packing.sources.listing import Entries, Entry
from mps_shards.shards.key_names import key_to_path
from mps_shards.shards.tar import END

sizes = st.lists(st.integers(1, 3000), min_size=1, max_size=60)
seeds = st.none() | st.integers(0, 2**64 - 1)


def entries(found: list[int], *, label: int = -1) -> list[Entry]:
    return [Entry(f"{n:03d}.jpg", size, label) for n, size in enumerate(found)]


def planned(found: list[Entry], **options) -> list[list[Entry]]:
    given = {"prefix": "s", "shard_bytes": 4096, "shard_samples": None, "shuffle_seed": None, **options}
    plans = plan_shards(Entries(found), **given)
    assert [plan.name for plan in plans] == [f"s-{number:06d}.tar" for number in range(len(plans))]
    return [list(plan.entries) for plan in plans]


def tar_bytes(cut: list[Entry]) -> int:
    """Return the bytes of labelled samples in a tar: an image and a label in whole blocks, each with a header."""
    whole = sum(512 + -(-entry.size // 512) * 512 + (1024 if entry.label >= 0 else 0) for entry in cut)
    return whole + len(END)


@given(sizes, seeds, st.integers(1, 30000))
def test_every_sample_is_in_exactly_one_shard(found: list[int], seed: int | None, shard_bytes: int):
    cuts = planned(entries(found), shuffle_seed=seed, shard_bytes=shard_bytes)

    assert sorted(entry for cut in cuts for entry in cut) == entries(found)
    assert all(cuts)


@given(sizes, seeds, st.integers(2048, 30000), st.sampled_from([-1, 0]))
def test_shards_are_as_full_as_their_size_allows(found: list[int], seed: int | None, shard_bytes: int, label: int):
    cuts = planned(entries(found, label=label), shuffle_seed=seed, shard_bytes=shard_bytes)

    for cut, behind in zip(cuts, [*cuts[1:], None], strict=True):
        assert tar_bytes(cut) <= shard_bytes or len(cut) == 1
        assert behind is None or tar_bytes([*cut, behind[0]]) > shard_bytes


@pytest.mark.parametrize(("shard_bytes", "each"), [(5119, 3), (5120, 4), (6143, 4), (6144, 5)])
def test_a_shard_that_fits_to_the_byte_is_filled(shard_bytes: int, each: int):
    cuts = planned(entries([512] * 12), shard_bytes=shard_bytes)

    assert [len(cut) for cut in cuts[:2]] == [each, each]


@given(sizes, st.integers(1, 20))
def test_a_number_of_samples_fills_shards_whatever_their_size(found: list[int], count: int):
    cuts = planned(entries(found), shard_samples=count, shard_bytes=1)

    assert {len(cut) for cut in cuts[:-1]} <= {count} and 1 <= len(cuts[-1]) <= count


def test_without_shuffling_the_order_is_that_of_the_paths():
    assert planned(entries([1] * 9), shard_samples=4) == [entries([1] * 9)[at : at + 4] for at in (0, 4, 8)]


def test_a_seed_always_gives_the_same_order_which_mixes_classes():
    found = [Entry(f"{label}/{n}.jpg", 1, label) for label in range(4) for n in range(50)]

    one, again, other = (planned(found, shuffle_seed=seed, shard_samples=20) for seed in (1, 1, 2))

    assert one == again != other
    assert all({entry.label for entry in cut} == {0, 1, 2, 3} for cut in one)


def test_the_order_of_a_seed_never_changes():
    [cut] = planned(entries([1] * 8), shuffle_seed=7, shard_bytes=10**6)

    assert [entry.path for entry in cut] == [f"{n:03d}.jpg" for n in (2, 5, 7, 1, 3, 4, 0, 6)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MB", 256_000_000),
        ("256 mb", 256_000_000),
        ("1GiB", 2**30),
        ("1g", 10**9),
        ("1.5kB", 1500),
        ("2Ki", 2048),
        ("0.5TB", 5 * 10**11),
        ("500000000", 500_000_000),
        (4096, 4096),
        ("12b", 12),
        ("9007199254740993", 2**53 + 1),
        ("1.000000000000000001TiB", 2**40),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str | int, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "-1MB", "0", "0.1", "1e6", "256 apples", "1PB", "0x10", "1,000", "٣MB²", "9" * 400, None]
)
def test_a_malformed_size_is_refused_with_an_example(text: str):
    with pytest.raises(ConfigError, match="is not a size; write it like 256MB, 1GiB or 500000000"):
        parse_size(text)


@pytest.mark.parametrize(
    ("path", "keys", "key"),
    [
        ("cat/x.jpg", "stem", "cat/x"),
        ("cat/x.JPG", "stem", "cat/x"),
        ("cat/v1.2.jpg", "stem", "cat/v1%2E2"),
        ("a.b/x.png", "stem", "a%2Eb/x"),
        ("cat/x.jpg", "name", "cat/x%2Ejpg"),
    ],
)
def test_keys_can_be_turned_back_into_paths(path: str, keys, key: str):
    assert key_of(path, keys) == key
    assert key_to_path(key) == (path if keys == "name" else path.rpartition(".")[0])


def test_shard_names_sort_as_their_numbers():
    assert shard_name("train", 12) == "train-000012.tar"
    assert sorted(shard_name("s", n) for n in (10, 9, 123456)) == [shard_name("s", n) for n in (9, 10, 123456)]
