"""`ShardSamples` behaves like a list, works with torch's loaders and samplers, and reads from disk and from stores."""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler, random_split
from torch.utils.data import Subset as TorchSubset

from mps_shards import ReadOptions, ShardDataset, ShardSamples, StoreOptions, Subset, classify
from mps_shards.errors import ConfigError, DecodeError, StorageError
from tests.support.sets import foreign_tars, keys, shard_set
from tests.support.web import web

SET = shard_set([5, 0, 9, 3])


def same(one: tuple, other: tuple) -> bool:
    return torch.equal(one[0], other[0]) and one[1] == other[1]


def test_shard_samples_equal_those_of_the_data_set():
    samples = ShardSamples(SET)
    streamed = list(ShardDataset(SET, batch_size=None))

    assert len(samples) == 17
    assert all(same(samples[number], sample) for number, sample in enumerate(streamed))
    assert same(samples[-1], streamed[16]) and same(samples[-17], streamed[0])
    assert len(list(samples)) == 17 and type(samples[0][1]) is int
    for beyond in (17, -18):
        with pytest.raises(IndexError, match=rf"sample {beyond} does not exist: there are 17"):
            samples[beyond]


def test_slices_and_subsets_are_samples_again():
    samples = ShardSamples(SET)

    part = samples[2:12:3]

    assert [part.key(number) for number in range(len(part))] == keys([2, 5, 8, 11])
    assert part[-1:].key(0) == "s00011" and part.targets == [2, 2, 2, 2]
    few = ShardSamples(SET, subset=Subset(per_class=2))
    assert Counter(few.targets) == {0: 2, 1: 2, 2: 2} and len(few) == 6


def test_classes_targets_and_keys_are_known_without_reading_images():
    samples = ShardSamples(shard_set([4, 5], broken=[0, 7]))

    assert samples.classes == ["cat", "dog", "fox"] and samples.class_to_idx == {"cat": 0, "dog": 1, "fox": 2}
    assert samples.targets == [number % 3 for number in range(9)]
    assert [samples.key(number) for number in (0, 7)] == keys([0, 7])
    assert repr(samples).endswith(", classification, 3 classes, 9 samples)")
    with pytest.raises(DecodeError) as raised:
        samples[7]
    assert "in sample 7 of shard s-000001.tar" in raised.value.__notes__


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_s_loaders_splits_and_samplers_work(workers):
    samples = ShardSamples(SET, classify.train(8))
    method = "fork" if workers else None

    train, held_out = random_split(samples, [0.75, 0.25], generator=torch.Generator().manual_seed(0))
    batches = list(DataLoader(train, batch_size=4, num_workers=workers, multiprocessing_context=method))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 8, 8)] * 3 + [(1, 3, 8, 8)]
    assert len(train) + len(held_out) == 17

    counts = np.bincount(samples.targets)
    sampler = WeightedRandomSampler([1 / counts[target] for target in samples.targets], 30)
    labels = torch.cat([labels for _, labels in DataLoader(samples, batch_size=5, sampler=sampler)])
    assert len(labels) == 30 and labels.dtype == torch.int64
    assert len(DataLoader(TorchSubset(samples, [3, 1, 16]), batch_size=2)) == 2


def test_a_transform_draws_new_numbers_at_each_access_unless_a_seed_is_given():
    drawing, seeded = ShardSamples(SET, classify.train(8)), ShardSamples(SET, classify.train(8), seed=3)

    torch.manual_seed(0)
    first = [drawing[4][0] for _ in range(8)]
    torch.manual_seed(0)
    again = [drawing[4][0] for _ in range(8)]

    assert all(map(torch.equal, first, again)) and len({image.sum().item() for image in first}) > 1
    assert torch.equal(seeded[4][0], seeded[4][0])
    assert torch.equal(seeded[4][0], pickle.loads(pickle.dumps(seeded))[4][0])


def test_several_threads_read_the_same_samples_as_one():
    samples = ShardSamples(SET, classify.train(8), seed=1)
    numbers = list(range(17)) * 6

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(samples.__getitem__, numbers))

    assert all(same(sample, samples[number]) for number, sample in zip(numbers, found, strict=True))


def test_consecutive_samples_of_a_store_are_read_by_one_request():
    local = ShardSamples(SET)
    with web(SET) as server:
        samples = ShardSamples(server.url)
        samples.__getitems__([0, 5])
        before = len(server.of_tars())

        found = samples.__getitems__([11, 6, 7, 8, 2, 6, -1])

        assert len(server.of_tars()) - before == 4  # 2; 6 to 8; 11; and 16
        assert all(map(same, found, local.__getitems__([11, 6, 7, 8, 2, 6, -1])))
        assert same(samples[12], local[12]) and samples.key(3) == "s00003" and samples.targets == local.targets


def test_a_failed_request_is_repeated_as_often_as_the_store_options_say():
    options = ReadOptions(store=StoreOptions(attempts=2, first_wait_s=0.01))

    with (
        web(SET, fault=lambda asked, number: 503) as server,
        pytest.raises(StorageError, match=r"gave up after 2 attempts"),
    ):
        ShardSamples(server.url, read_options=options)


def test_shards_without_an_index_cannot_be_read_by_number():
    with pytest.raises(ConfigError, match=r"needs a shard set with an index, .* run 'mps-shards index'"):
        ShardSamples(foreign_tars([3]))
    with pytest.raises(ConfigError, match="a list of sets, without weights"):
        ShardSamples({SET: 1})
    with pytest.raises(ConfigError, match="decodes exactly"):
        ShardSamples(SET, read_options=ReadOptions(decode="scaled"))
