"""Common usage of other data sets, loaders and packages works, or gives an error that says what to do instead."""

import copy
import pickle
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ChainDataset, ConcatDataset, DataLoader, default_collate, random_split
from torchvision.transforms import v2

from mps_shards import DeviceLoader, ShardDataset, ShardSamples, Subset, classify
from mps_shards.errors import ConfigError
from tests.support.batches import assert_same
from tests.support.sets import shard_set

SET = shard_set([20, 20])


def dataset(**options: Any) -> ShardDataset:
    return ShardDataset(SET, **{"batch_size": 4, "transform": classify.train(16), "shuffle": True, **options})


def loader(**options: Any) -> DeviceLoader:
    return DeviceLoader(dataset(), **{"device": "cpu", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": "4"}, "batch_size must be a whole number from 1, or None for single samples, not '4'"),
        ({"drop_last": "no"}, "drop_last must be True or False, not 'no'"),
        ({"keys": 1}, "keys must be True or False, not 1"),
        ({"collate": default_collate}, r"collate must be Collate\(…\), .*; map\(\) applies a function to batches"),
        ({"read_options": {"decode": "scaled"}}, r"read_options must be ReadOptions\(…\) from mps_shards"),
        ({"transform": [classify.train(8)]}, r"transform is a list: Compose\(\[…\]\) .* and a tuple gives a view"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_with_the_accepted_types(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        dataset(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_threads": "2"}, "num_threads must be a whole number from 1, not '2'"),
        ({"host_batches": 1.5}, "host_batches must be a whole number from 1, not 1.5"),
        ({"memory": "1G"}, "memory must be a whole number from 1, not '1G'"),
        ({"on_stats": 3}, "on_stats must be a function of the statistics, not 3"),
    ],
)
def test_loader_options_of_a_wrong_type_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        loader(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": "a"}, "fraction must be from 0 to 1, not 'a'"),
        ({"fold": 3}, r"fold must be \(number, count\)"),
        ({"classes": 0}, "classes must be a list of names or class indices, not 0"),
        ({"keys": 5}, "keys must be a list of keys, or the path of a text file, not 5"),
    ],
)
def test_subsets_of_a_wrong_type_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        Subset(**options)


def test_integers_of_numpy_are_accepted_as_integers():
    data = dataset(batch_size=np.int64(4), seed=np.int32(3), epoch=np.int64(1), keys=True)

    assert_same(list(data), list(dataset(seed=3, epoch=1, keys=True)))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda data: data[0], r"ShardSamples to read samples by number, .* subset=Subset\(…\) to split"),
        (lambda data: random_split(data, [30, 10])[0][0], "ShardSamples to read samples by number"),
        (lambda data: data.shuffle(1000), "pass shuffle=True"),
        (lambda data: data.decode("pil"), "samples are already decoded"),
        (lambda data: data.to_tuple("jpg", "cls"), r"yields \(images, targets\)"),
        (lambda data: data.batched(8), "pass batch_size="),
    ],
)
def test_methods_of_other_data_sets_say_what_to_use_instead(use: Callable[[ShardDataset], Any], message: str):
    with pytest.raises(ConfigError, match=message):
        use(dataset(batch_size=None))


def test_samples_accept_only_integers_as_index_and_have_class_names():
    samples = ShardSamples(SET)

    assert samples.num_classes == 3 and samples.task == "classification"
    assert samples[np.int64(3)][1] == samples[torch.tensor(3)][1] == 0
    for index in ("s00003", [1, 2], 1.0):
        with pytest.raises(TypeError, match="samples are read by number, not by"):
            samples[index]


def test_a_loader_can_be_pickled_and_copied_in_the_middle_of_an_epoch():
    original = loader()
    iterator = iter(original)
    next(iterator)

    for copied in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        assert copied.stats().batches == 0
        assert len(list(copied)) == 10
    assert len(list(iterator)) == 9


def test_chained_and_concatenated_data_sets_of_torch_work():
    chained = ChainDataset([dataset(), dataset(subset=Subset(fraction=0.5))])

    assert len(chained) == len(list(DataLoader(chained, batch_size=None))) == 15
    assert len(ConcatDataset([ShardSamples(SET), ShardSamples(SET)])) == 80


def test_mixup_and_cutmix_of_torchvision_apply_in_collation_and_in_map():
    mix = v2.RandomChoice([v2.MixUp(num_classes=3), v2.CutMix(num_classes=3)])
    single = DataLoader(
        dataset(batch_size=None), batch_size=4, collate_fn=lambda samples: mix(*default_collate(samples))
    )
    mapped = dataset().map(lambda batch: mix(*batch))

    for batches in (single, mapped, DeviceLoader(mapped, device="cpu")):
        _, labels = next(iter(batches))
        assert labels.shape == (4, 3) and torch.allclose(labels.sum(1), torch.ones(4))


def test_timm_s_transform_trains_and_is_reproducible():
    data = pytest.importorskip("timm.data", reason="timm is not installed (make install does)")
    transform = data.create_transform(16, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.5)

    one, four = (
        list(DeviceLoader(dataset(transform=transform), device="cpu", num_threads=threads)) for threads in (1, 4)
    )

    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, four, strict=True))


def test_evaluation_in_the_middle_of_an_epoch_does_not_change_the_epoch():
    training, evaluation = loader(), DeviceLoader(dataset(shuffle=False), device="cpu")
    seen, evaluated = [], []

    for number, batch in enumerate(training):
        seen.append(batch)
        if number % 4 == 3:
            evaluated.append(list(islice(evaluation, 2)))

    assert all(torch.equal(a[0], b[0]) for a, b in zip(seen, dataset(), strict=True))
    assert torch.equal(evaluated[0][0][1], evaluated[1][0][1])


def test_an_interrupted_notebook_cell_can_run_again_with_the_next_epoch():
    training = loader()

    def cell(stop: bool) -> int:
        for number, _ in enumerate(training):
            if stop and number == 3:
                raise KeyboardInterrupt
        return number + 1

    with pytest.raises(KeyboardInterrupt):
        cell(True)

    assert cell(False) == 10 and training.dataset.position.epoch == 2


def test_taking_the_first_batch_only_advances_the_epoch():
    data = dataset()
    next(iter(data))

    assert len(list(data)) == 10
