"""The whole way from shards to a device, the same on every kind: MPS and CUDA where there are such, and the CPU.

The batches that the CPU's own engine delivers, which copies nothing, are the truth for the others.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from mps_shards import Collate, DeviceLoader, ShardDataset, classify, pack, segment
from mps_shards.batching import tree
from mps_shards.errors import DecodeError
from tests.device.test_lifetimes import own_threads
from tests.support.commands import run
from tests.support.sets import shard_set as tiny_set
from tools.scripts.masks import make_masks

VARIANTS: dict[str, dict[str, Any]] = {
    "random crops": {"transform": classify.train(48), "shuffle": True},
    "normalized": {"transform": classify.train(48), "normalize": "imagenet"},
    "channels last": {"transform": classify.evaluate(48), "collate": Collate(channels_last=True)},
    "padded": {"transform": v2.Resize(48), "collate": Collate(pad=16)},
    "floats": {"transform": v2.Compose([v2.RandomResizedCrop(24), v2.ToDtype(torch.float32, scale=True)])},
    "views": {"transform": classify.train(32), "views": 2},
}


class Where(NamedTuple):
    """A device and the transfer engine that sends batches there."""

    device: str
    transfer: str

    def loader(self, batches: Any, **options: Any) -> DeviceLoader:
        return DeviceLoader(batches, device=self.device, transfer=self.transfer, num_threads=2, **options)


@pytest.fixture(
    params=[
        pytest.param(Where("cpu", "thread"), id="cpu"),
        pytest.param(Where("mps", "inline"), id="mps", marks=pytest.mark.mps),
        pytest.param(Where("cuda", "inline"), id="cuda-inline", marks=pytest.mark.cuda),
        pytest.param(Where("cuda", "thread"), id="cuda-thread", marks=pytest.mark.cuda),
    ]
)
def where(request: pytest.FixtureRequest) -> Where:
    found: Where = request.param
    return found


def on_host(batches: Any) -> list[list[Any]]:
    return [
        [leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf for leaf in tree.leaves(batch)] for batch in batches
    ]


def assert_same(found: Any, wanted: Any) -> None:
    found, wanted = on_host(found), on_host(wanted)
    assert len(found) == len(wanted) > 1
    for one, other in zip(found, wanted, strict=True):
        for value, true in zip(one, other, strict=True):
            if isinstance(true, torch.Tensor):
                assert value.dtype == true.dtype and value.stride() == true.stride() and torch.equal(value, true)
            else:
                assert value == true


@pytest.mark.parametrize("variant", VARIANTS)
def test_batches_are_those_of_the_cpu_however_long_they_are_held(shard_set: Path, where: Where, variant: str) -> None:
    def data() -> ShardDataset:
        return ShardDataset(shard_set, batch_size=7, keys=True, **VARIANTS[variant])

    with DeviceLoader(data(), device="cpu") as loader:
        wanted = list(loader)
    with where.loader(data(), verify_transfer=2) as loader:
        held = list(loader)  # all at once: no memory of a delivered batch may be written again

        assert {leaf.device.type for batch in held for leaf in tree.leaves(batch) if torch.is_tensor(leaf)} == {
            where.device
        }
        assert_same(held, wanted)


def test_label_maps_arrive_with_their_images(tmp_path: Path, where: Where) -> None:
    make_masks(tmp_path / "made", count=20, size=(96, 80))
    shards = pack(tmp_path / "made", tmp_path / "set", images="images", masks="masks", ignore_index=255).out

    def data() -> ShardDataset:
        return ShardDataset(shards, batch_size=4, transform=segment.train(64), shuffle=True)

    with DeviceLoader(data(), device="cpu") as truth, where.loader(data()) as loader:
        assert_same(loader, truth)


def test_work_that_changes_batches_in_place_changes_no_later_batch(shard_set: Path, where: Where) -> None:
    def data() -> ShardDataset:
        return ShardDataset(shard_set, batch_size=4, transform=classify.train(64))

    weight = torch.ones(256, 256, device=where.device)
    with DeviceLoader(data(), device="cpu") as truth, where.loader(data(), device_batches=3) as loader:
        for (images, targets), (true_images, true_targets) in zip(loader, truth, strict=True):
            for _ in range(20):
                weight = (weight @ weight).clamp_(0, 1)  # the device falls behind the host
            kept = images.clone()
            images.fill_(-1)
            assert torch.equal(kept.cpu(), true_images) and torch.equal(targets.cpu(), true_targets)


@pytest.mark.cuda
@pytest.mark.parametrize("transfer", ["inline", "thread"])
def test_a_stream_of_the_caller_sees_finished_batches(shard_set: Path, transfer: str) -> None:
    def data() -> ShardDataset:
        return ShardDataset(shard_set, batch_size=4, transform=classify.train(64))

    with DeviceLoader(data(), device="cpu") as loader:
        wanted = list(loader)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream), Where("cuda", transfer).loader(data()) as loader:
        copies = [(images.clone(), targets.clone()) for images, targets in loader]

        assert_same(copies, wanted)


def test_a_loader_goes_on_where_the_state_was_taken(shard_set: Path, where: Where) -> None:
    def loader() -> DeviceLoader:
        data = ShardDataset(shard_set, batch_size=4, transform=classify.train(48), shuffle=True, keys=True)
        return where.loader(data)

    with loader() as whole, loader() as first, loader() as second:
        wanted = on_host(whole)
        for _ in zip(range(5), first, strict=False):
            pass
        second.load_state_dict(first.state_dict())

        assert_same(second, wanted[5:])


def test_two_loaders_share_a_device(shard_set: Path, where: Where) -> None:
    def data(seed: int) -> ShardDataset:
        return ShardDataset(shard_set, batch_size=4, transform=classify.train(48), shuffle=True, seed=seed)

    with DeviceLoader(data(1), device="cpu") as loader:
        one = list(loader)
    with DeviceLoader(data(2), device="cpu") as loader:
        two = list(loader)
    with where.loader(data(1)) as first, where.loader(data(2)) as second:
        pairs = list(zip(first, second, strict=True))

        assert_same([pair[0] for pair in pairs], one)
        assert_same([pair[1] for pair in pairs], two)


def test_an_error_ends_the_iteration_and_the_next_one_works(where: Where) -> None:
    with where.loader(ShardDataset(tiny_set([12, 12], broken=[13]), batch_size=4, transform=classify.train(8))) as bad:
        with pytest.raises(DecodeError, match="s00013"):
            list(bad)
        assert own_threads() == []
        with pytest.raises(DecodeError, match="s00013"):
            list(bad)
    with where.loader(ShardDataset(tiny_set([12, 12]), batch_size=4, transform=classify.train(8))) as good:
        assert len(list(good)) == 6


def test_batches_of_a_dataloader_become_floats_on_the_device(where: Where) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(12, 3, 1).view(12, 3, 16, 16)
    batches = DataLoader(TensorDataset(images, torch.arange(12)), batch_size=4, num_workers=2)

    with where.loader(batches, to_float=True) as loader:
        received = on_host(loader)

    assert torch.equal(torch.cat([batch[0] for batch in received]), images / 255)
    assert torch.equal(torch.cat([batch[1] for batch in received]), torch.arange(12))


def test_mixed_labels_are_shares_of_classes(shard_set: Path, where: Where) -> None:
    def data() -> ShardDataset:
        mix = classify.mix(classes=4)
        return ShardDataset(shard_set, batch_size=6, transform=classify.train(48), collate=Collate(mix=mix))

    with DeviceLoader(data(), device="cpu") as truth, where.loader(data()) as loader:
        for (images, shares), (true_images, true_shares) in zip(loader, truth, strict=True):
            # a device may multiply and add in one step, so that mixed pixels differ by a rounding
            torch.testing.assert_close(images.cpu(), true_images, rtol=0, atol=1e-6)
            torch.testing.assert_close(shares.cpu(), true_shares, rtol=0, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("transfer", ["inline", "thread"])
def test_memory_of_the_device_and_of_the_host_is_given_back(shard_set: Path, transfer: str) -> None:
    def epoch() -> None:
        data = ShardDataset(shard_set, batch_size=4, transform=classify.train(96))
        with Where("cuda", transfer).loader(data) as loader:
            for _ in loader:
                pass

    epoch()
    torch.cuda.synchronize()
    device, host = torch.cuda.memory_allocated(), torch.cuda.host_memory_stats()["allocated_bytes.current"]
    for _ in range(5):
        epoch()
    torch.cuda.synchronize()

    assert torch.cuda.memory_allocated() == device
    assert torch.cuda.host_memory_stats()["allocated_bytes.current"] <= host


@pytest.mark.parametrize(
    "device", ["cpu", *(pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mps", "cuda"))]
)
def test_doctor_finds_nothing_wrong(device: str) -> None:
    done = run("doctor", "--device", device)

    assert done.code == 0 and device in done.stdout, done
