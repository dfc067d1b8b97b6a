"""Tars without a manifest are read as webdataset reads them, and divided among ranks without loss."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset
from mps_shards.errors import ConfigError, ResumeMismatch
from mps_shards.reading.foreign_shards import ForeignShards
from mps_shards.storage.location import locate
from tests.support.foreign import MAKERS, by_tarfile, by_webdataset_s_reader, samples
from tests.support.images import encoded, expected, tiny_jpeg


def streamed(
    paths: list[Path], *, buffer: int = 0, seed: int = 0, epoch: int = 0
) -> list[tuple[str, dict[str, bytes]]]:
    shards = ForeignShards(locate(paths), buffer=buffer)
    return [(sample.key, dict(sample.fields)) for sample in shards.sequence(seed=seed, epoch=epoch)]


def keys_of(batches: Iterator) -> list[str]:
    return [key for *_, keys in batches for key in ([keys] if isinstance(keys, str) else keys)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three tars of 7, 1 and 9 samples."""
    first = 0
    for number, count in enumerate((7, 1, 9)):
        by_tarfile(tmp_path / f"set-{number}.tar", samples(count, first=first))
        first += count
    return tmp_path


ALL = list(samples(17))


@pytest.mark.parametrize("maker", MAKERS)
def test_every_kind_of_tar_is_read_as_webdataset_reads_it(tmp_path: Path, maker: str):
    held = samples(12)
    path = MAKERS[maker](tmp_path / "x.tar", held)

    read = streamed([path])

    assert read == by_webdataset_s_reader([path])
    assert {key.removeprefix("./"): fields for key, fields in read} == held


@pytest.mark.parametrize("maker", ["pax", "gnu"])
def test_long_and_unusual_names_are_read_as_webdataset_reads_them(tmp_path: Path, maker: str):
    held = {
        "a/" * 60 + "long": {"jpg": b"1", "cls": b"0"},
        "日本/ü": {"JPG": b"2"},
        "v1.2": {"jpg": b"3"},
        "BZ": {"jpg": b"4"},
        "no-field-before-a-slash.d/x": {"mask.png": b"5"},
    }
    path = MAKERS[maker](tmp_path / "x.tar", held)

    assert streamed([path]) == by_webdataset_s_reader([path])


def test_several_tars_are_one_stream_in_the_order_of_their_names(folder: Path):
    paths = sorted(folder.glob("*.tar"))

    assert streamed([folder]) == streamed(paths) == by_webdataset_s_reader(paths)
    assert [key for key, _ in streamed([folder])] == ALL


def test_images_and_labels_are_delivered(folder: Path):
    data = ShardDataset(folder, batch_size=None, keys=True)

    read = {key: (image, int(target)) for image, target, key in data}

    assert list(read) == ALL
    for key, fields in samples(17).items():
        assert read[key][0].equal(expected(fields["jpg"]))
        assert read[key][1] == int(fields["cls"])


def test_tars_without_labels_deliver_minus_one(tmp_path: Path):
    path = by_tarfile(tmp_path / "x.tar", {key: {"jpg": fields["jpg"]} for key, fields in samples(3).items()})

    [(images, targets)] = ShardDataset(path, batch_size=3)

    assert images.shape == (3, 3, 8, 8) and targets.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("transfer", ["cpu", "inline"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_are_delivered_with_unchanged_label_ids(tmp_path: Path, transfer: str, dtype: type):
    rng = np.random.default_rng(0)
    masks = {f"{n}": rng.integers(0, np.iinfo(dtype).max, (8, 8), dtype=dtype) for n in range(5)}
    held = {
        key: {"jpg": tiny_jpeg(int(key)), "mask.png": encoded(Image.fromarray(mask), "PNG")}
        for key, mask in masks.items()
    }
    path = by_tarfile(tmp_path / "x.tar", held)

    with DeviceLoader(ShardDataset(path, batch_size=2, keys=True), device="cpu", transfer=transfer) as loader:
        delivered = {key: mask for _, batch, keys in loader for key, mask in zip(keys, batch, strict=True)}

    assert delivered.keys() == masks.keys()
    for key, mask in delivered.items():
        assert mask.dtype == torch.int64 and np.array_equal(mask, masks[key])


def test_the_number_of_batches_is_not_known_in_advance(folder: Path):
    with pytest.raises(TypeError, match="of tars without a manifest is not known"):
        len(ShardDataset(folder, batch_size=4))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("remainder", ["pad", "drop", "keep"])
def test_ranks_divide_the_stream_as_the_remainder_option_says(folder: Path, world: int, batch: int | None, remainder):

    shares = [
        keys_of(
            iter(ShardDataset(folder, batch_size=batch, keys=True, rank=rank, world_size=world, remainder=remainder))
        )
        for rank in range(world)
    ]

    stop = {"pad": -(-17 // world) * world, "drop": 17 // world * world, "keep": 17}[remainder]
    sequence = (ALL + ALL)[:stop]
    assert shares == [sequence[rank::world] for rank in range(world)]


def test_more_ranks_than_samples_get_one_each_with_padding(tmp_path: Path):
    by_tarfile(tmp_path / "x.tar", samples(2))

    shares = [
        keys_of(iter(ShardDataset(tmp_path, batch_size=2, keys=True, rank=rank, world_size=5))) for rank in range(5)
    ]

    first, second = samples(2)
    assert shares == [[first], [second], [first], [second], [first]]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch", [None, 4])
def test_dataloader_workers_keep_the_order(folder: Path, workers: int, batch: int | None):
    data = ShardDataset(folder, batch_size=batch, keys=True)

    loader = DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context="fork")

    assert keys_of(iter(loader)) == ALL


@pytest.mark.parametrize("buffer", [1, 5, 16, 17, 1000])
def test_shuffling_keeps_every_sample_and_depends_on_seed_and_epoch(folder: Path, buffer: int):
    def keys(seed: int, epoch: int) -> list[str]:
        return [key for key, _ in streamed([folder], buffer=buffer, seed=seed, epoch=epoch)]

    assert sorted(keys(3, 1)) == sorted(ALL)
    assert keys(3, 1) == keys(3, 1)
    assert len({tuple(keys(seed, epoch)) for seed in range(3) for epoch in range(3)}) > (3 if buffer == 1 else 8)


def test_shuffling_mixes_samples_that_are_far_apart(tmp_path: Path):
    by_tarfile(tmp_path / "x.tar", samples(200))
    order = [int(key[-5:]) for key, _ in streamed([tmp_path], buffer=100)]

    moved = [abs(place - number) for place, number in enumerate(order)]
    assert sum(moved) / len(moved) > 30


def test_ranks_of_a_shuffled_stream_share_one_sequence(folder: Path):
    def share(rank: int, world: int) -> list[str]:
        return keys_of(
            iter(ShardDataset(folder, batch_size=1, shuffle=True, seed=5, keys=True, rank=rank, world_size=world))
        )

    whole = share(0, 1)

    assert sorted(whole) == sorted(ALL) and whole != ALL
    assert [share(rank, 2) for rank in range(2)] == [whole[::2], [*whole, whole[0]][1::2]]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("taken", [0, 1, 2, 4])
def test_a_cursor_resumes_after_the_last_batch(folder: Path, shuffle: bool, batch: int | None, taken: int):
    def fresh() -> ShardDataset:
        return ShardDataset(folder, batch_size=batch, shuffle=shuffle, seed=2, keys=True)

    whole = keys_of(iter(fresh()))
    data = fresh()
    batches = iter(data)
    before = keys_of(next(batches) for _ in range(taken))
    state = data.state_dict()
    batches.close()

    resumed = fresh()
    resumed.load_state_dict(state)

    assert before + keys_of(iter(resumed)) == whole
    assert sorted(keys_of(iter(resumed))) == sorted(ALL)  # and the iteration after that is whole again


def test_a_cursor_resumes_on_another_number_of_ranks(folder: Path):
    def fresh(rank: int, world: int) -> ShardDataset:
        return ShardDataset(
            folder, batch_size=2, keys=True, rank=rank, world_size=world, remainder="keep", shuffle=True
        )

    data = fresh(0, 2)
    batches = iter(data)
    next(batches), next(batches)
    state = data.state_dict()
    batches.close()
    whole = keys_of(iter(fresh(0, 1)))

    rest = []
    for rank in range(3):
        resumed = fresh(rank, 3)
        resumed.load_state_dict(state)
        rest.append(keys_of(iter(resumed)))

    assert rest == [whole[8:][rank::3] for rank in range(3)]


def test_a_cursor_of_other_tars_is_refused(folder: Path):
    data = ShardDataset(folder, batch_size=2)
    next(batches := iter(data))
    state = data.state_dict()
    batches.close()
    by_tarfile(folder / "set-3.tar", samples(1))

    with pytest.raises(ResumeMismatch, match="set was"):
        ShardDataset(folder, batch_size=2).load_state_dict(state)


def test_weights_need_a_manifest(folder: Path):
    with pytest.raises(ConfigError, match=r"weights need shard sets with a manifest\.json"):
        ShardDataset({folder: 1.0}, batch_size=1)
