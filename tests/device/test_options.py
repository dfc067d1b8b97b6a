"""Options that change pixels give the same batches from a data set, from a loader on the CPU, and from a device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as kernels

from mps_shards import Collate, DeviceLoader, ReadOptions, ShardDataset, classify, pack
from mps_shards.batching.tree import leaves
from mps_shards.errors import ConfigError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def everywhere(shards: Path, **options: Any) -> list[list[torch.Tensor]]:
    """Return the tensors of every batch, after checking that every way of reading gives the same."""
    data = ShardDataset(shards, **{"batch_size": 7, "shuffle": True, **options})
    wanted = [leaves(batch) for batch in data]
    for transfer in ("cpu", "inline", "thread"):
        loader = DeviceLoader(data, device="cpu", transfer=transfer, num_threads=3, verify_transfer=2)
        loader.set_epoch(0)
        for here, there in zip(wanted, loader, strict=True):
            for one, other in zip(here, leaves(there), strict=True):
                assert torch.equal(one, other), transfer
                assert one.stride() == other.stride() and one.dtype == other.dtype
    return wanted


def test_normalization_equals_torchvision_s_bit_for_bit(shard_set: Path) -> None:
    plain = everywhere(shard_set, transform=classify.train(32))
    normal = everywhere(shard_set, transform=classify.train(32), normalize=IMAGENET)

    for (images, _), (normalised, _) in zip(plain, normal, strict=True):
        assert torch.equal(normalised, kernels.normalize(images, *map(list, IMAGENET)))


@pytest.mark.parametrize("normalize", [None, IMAGENET])
def test_channels_last_changes_the_memory_layout_but_no_value(shard_set: Path, normalize: Any) -> None:
    plain = everywhere(shard_set, transform=classify.train(32), normalize=normalize)
    last = everywhere(shard_set, transform=classify.train(32), normalize=normalize, collate=Collate(channels_last=True))

    for (images, _), (turned, _) in zip(plain, last, strict=True):
        assert torch.equal(images, turned)
        assert turned.is_contiguous(memory_format=torch.channels_last) and not turned.is_contiguous()


def test_float_images_in_channels_last_layout_pass_verification(shard_set: Path) -> None:
    def transform(image: torch.Tensor, target: int, rng: np.random.Generator) -> Any:
        return image[:, :9, :7].float(), target

    batches = everywhere(shard_set, transform=transform, collate=Collate(channels_last=True))

    assert batches[0][0].shape == (7, 3, 9, 7)


def test_mixing_gives_class_probabilities_that_depend_on_the_position(shard_set: Path) -> None:
    state = torch.random.get_rng_state()
    mixed = everywhere(shard_set, transform=classify.train(32), collate=Collate(mix=classify.mix(4)))

    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random generator is not used
    assert all(torch.allclose(labels.sum(dim=1), torch.ones(len(labels))) for _, labels in mixed)
    assert {labels.shape[1] for _, labels in mixed} == {4}
    assert any((labels.max(dim=1).values < 1).any() for _, labels in mixed)

    resumed = ShardDataset(
        shard_set, batch_size=7, shuffle=True, transform=classify.train(32), collate=Collate(mix=classify.mix(4))
    )
    resumed.load_state_dict(resumed.state_dict() | {"position": 14})
    images, labels = next(iter(resumed))
    assert torch.equal(images, mixed[2][0]) and torch.equal(labels, mixed[2][1])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uneven")
    (folder / "imgs" / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        size = (int(rng.integers(5, 60)), int(rng.integers(5, 60)), 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / "imgs" / "a" / f"{number}.png")
    return pack(folder / "imgs", folder / "set").out


def test_padding_keeps_every_pixel_and_returns_the_sizes(uneven: Path) -> None:
    alone = list(ShardDataset(uneven, batch_size=None, shuffle=True))
    padded = everywhere(uneven, batch_size=4, collate=Collate(pad=16))

    seen = 0
    for images, labels, sizes in padded:
        assert sizes.dtype == torch.int64 and sizes.shape == (len(images), 2) and len(labels) == len(images)
        assert images.shape[2] % 16 == 0 and images.shape[3] % 16 == 0
        assert images.shape[2] - sizes[:, 0].max() < 16 and images.shape[3] - sizes[:, 1].max() < 16
        for image, (height, width) in zip(images, sizes.tolist(), strict=True):
            assert torch.equal(image[:, :height, :width], alone[seen][0])
            assert not image[:, height:].any() and not image[:, :, width:].any()
            seen += 1
    assert seen == 10


def test_the_error_about_unequal_images_names_both_sizes_and_the_remedies(uneven: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"is 3x\d+x\d+ .* of the same batch is 3x\d+x\d+ .*classify.train.* collate=Collate.pad=1"
    ):
        list(ShardDataset(uneven, batch_size=4))


def large_photographs(folder: Path) -> Path:
    from tools.scripts.photos import make_photos

    make_photos(folder / "imgs", count=6, size=(1024, 768), classes=["coffee", "cat"])
    return pack(folder / "imgs", folder / "set").out


def test_scaled_decoding_of_large_images_is_close_to_exact_decoding(tmp_path: Path) -> None:
    shards = large_photographs(tmp_path)

    for transform in (classify.evaluate(64), classify.train(64, scale=(0.5, 1.0))):
        exact = everywhere(shards, transform=transform)
        scaled = everywhere(shards, transform=transform, read_options=ReadOptions(decode="scaled"))
        for (one, labels), (other, same) in zip(exact, scaled, strict=True):
            error = (one - other).abs().mul(255)
            assert one.shape == other.shape and torch.equal(labels, same)
            assert 0 < error.mean() < 4 and error.max() > 0


def test_scaled_decoding_is_exact_if_the_image_is_not_decoded_smaller(shard_set: Path) -> None:
    exact = everywhere(shard_set, transform=classify.evaluate(64))
    scaled = everywhere(shard_set, transform=classify.evaluate(64), read_options=ReadOptions(decode="scaled"))

    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(exact, scaled, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"read_options": ReadOptions(decode="scaled")}, "decode='scaled' needs a transform whose crop"),
        ({"batch_size": None, "collate": Collate(pad=1)}, "mix and pad are for batches"),
        ({"normalize": "imagenot"}, "normalize must be 'imagenet', "),
        ({"normalize": 0.5}, "or three means and three positive"),
        ({"normalize": ((0.5,), (0.5,))}, "three means and three positive standard deviations"),
        ({"normalize": ((0, 0, 0), (1, 1, 0))}, "three means and three positive standard deviations"),
    ],
)
def test_invalid_options_are_refused(shard_set: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShardDataset(shard_set, **{"batch_size": 4, **options})


def test_invalid_option_values_are_refused() -> None:
    for make, message in (
        (lambda: ReadOptions(decode="fast"), "decode must be 'exact' or 'scaled'"),
        (lambda: ReadOptions(cache_bytes=1), "needs a folder"),
        (lambda: Collate(pad=0), "pad must be a whole number"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_mixing_needs_two_classes_and_an_alpha() -> None:
    for wrong in ({"classes": 1}, {"classes": 4, "mixup": 0.0, "cutmix": 0.0}, {"classes": 4, "mixup": -1.0}):
        with pytest.raises(ConfigError, match="mix needs at least two classes"):
            classify.mix(**wrong)


def test_samples_with_different_structures_in_one_batch_are_an_error(shard_set: Path) -> None:
    def transform(image: torch.Tensor, target: int, rng: np.random.Generator) -> Any:
        return {"a" if target % 2 else "b": image[:, :8, :8]}, target

    with pytest.raises(ConfigError, match="differ in structure"):
        list(ShardDataset(shard_set, batch_size=20, transform=transform, shuffle=True))
