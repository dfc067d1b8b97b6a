"""`DeviceLoader` over other iterables of batches: a torch DataLoader, a generator, a list."""

import gc
import threading
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as kernels

from mps_shards import DeviceLoader, ShardDataset
from mps_shards.batching import tree
from mps_shards.errors import ConfigError, DataError
from tests.device.test_lifetimes import own_threads
from tests.support.sets import shard_set
from tools.support.fake_device import FakeDevice

Point = namedtuple("Point", "x y")
TRANSFERS = ["cpu", "inline", "thread"]


def images(number: int, *, rows: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (rows, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images(number), torch.full((4,), number)) for number in range(count)]


def fake_loader(source: Any, device: FakeDevice, transfer: str = "inline", **options: Any) -> DeviceLoader:
    """Return a loader that sends batches to the fake device."""
    loader = DeviceLoader(source, device="cpu", transfer=transfer, **options)
    loader._checked_device = device
    return loader


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_every_kind_of_tree_arrives_unchanged(transfer: str) -> None:
    given = {
        "tuple": (images(0), torch.arange(4)),
        "list": [images(1), [torch.tensor(3.5), "a name", None, 7]],
        "point": Point(torch.ones(2, 3, dtype=torch.bool), OrderedDict(b=torch.zeros(0, 3), a=torch.ones(4).half())),
        "double": torch.rand(3, dtype=torch.float64),
        "scalar": torch.tensor(-2),
    }

    (received,) = DeviceLoader([given], device="cpu", transfer=transfer)

    assert list(received) == list(given)
    assert type(received["point"]) is Point and type(received["point"].y) is OrderedDict
    assert list(received["point"].y) == ["b", "a"]
    for one, other in zip(tree.leaves(received), tree.leaves(given), strict=True):
        if isinstance(other, torch.Tensor):
            assert torch.equal(one, other) and one.dtype == other.dtype and one.shape == other.shape
            assert one.data_ptr() != other.data_ptr() or not other.numel()
        else:
            assert one is other


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_wrapped_dataloader_gives_the_same_batches_as_alone(transfer: str, workers: int) -> None:
    data = TensorDataset(images(0, rows=50), torch.arange(50))
    loader = DataLoader(data, batch_size=8, num_workers=workers, multiprocessing_context="fork" if workers else None)

    wrapped = DeviceLoader(loader, device="cpu", transfer=transfer, verify_transfer=9)

    for _ in range(2):
        for (one, label), (other, same) in zip(wrapped, loader, strict=True):
            assert torch.equal(one, other) and torch.equal(label, same)
    assert len(wrapped) == 7 and len(wrapped.dataset) == 50
    assert wrapped.stats().images == 50


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_to_float_converts_uint8_images_as_to_tensor_does(transfer: str) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    masks = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)

    ((converted, same),) = DeviceLoader([(every, masks)], device="cpu", transfer=transfer, to_float=True)

    assert torch.equal(converted[0], kernels.pil_to_tensor(kernels.to_pil_image(every[0])).float().div(255))
    assert torch.equal(same, masks) and same.dtype == torch.uint8
    ((untouched, _),) = DeviceLoader([(every, masks)], device="cpu", transfer=transfer)
    assert torch.equal(untouched, every)


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("to_float", [False, True])
def test_batches_in_channels_last_layout_keep_it(transfer: str, to_float: bool) -> None:
    given = images(0).to(memory_format=torch.channels_last)

    (received,) = DeviceLoader([given], device="cpu", transfer=transfer, to_float=to_float, verify_transfer=1)

    assert torch.equal(received, given.float().div(255) if to_float else given)
    assert received.stride() == given.stride()


@pytest.mark.parametrize("transfer", ["inline", "thread"])
@pytest.mark.parametrize("seed", range(3))
def test_a_slow_device_receives_every_batch_in_order_and_unchanged(transfer: str, seed: int) -> None:
    given = batches(60)
    latency = torch.Generator().manual_seed(seed)

    with FakeDevice(
        transfer_thread=transfer == "thread", latency=lambda: float(torch.rand((), generator=latency)) * 2e-4
    ) as device:
        received = list(fake_loader(given, device, transfer, to_float=True, device_batches=seed))
        device.drain()

    assert device.dead_sources == 0
    for (one, label), (other, same) in zip(received, given, strict=True):
        assert torch.equal(one, other.float().div(255)) and torch.equal(label, same)


def test_batches_of_an_iterable_that_reuses_its_memory_arrive_unchanged() -> None:
    memory = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)

    def reused() -> Iterator[torch.Tensor]:
        for number in range(20):
            yield memory.fill_(number)

    received = list(DeviceLoader(reused(), device="cpu"))

    assert [int(batch[0, 0, 0, 0]) for batch in received] == list(range(20))


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_an_error_of_the_iterable_comes_after_every_batch_before_it(transfer: str) -> None:
    def broken() -> Iterator[Any]:
        yield from batches(5)
        raise OSError("the disk is gone")

    received = []
    with pytest.raises(OSError, match="the disk is gone") as raised:
        for _, labels in DeviceLoader(broken(), device="cpu", transfer=transfer):
            received.append(int(labels[0]))

    assert received == [0, 1, 2, 3, 4]
    assert raised.value.__notes__ == ["while DeviceLoader took batch 5 of this generator"]
    assert own_threads() == []


def test_verify_transfer_detects_an_altered_batch_of_an_iterable() -> None:
    with FakeDevice(corrupt=lambda number, non_blocking: number == 3) as device:
        loader = fake_loader(batches(4), device, verify_transfer=9)
        with pytest.raises(DataError, match=r"batch 1 changed on its way to fake: 1 of 420 values differ"):
            list(loader)


def test_leaving_early_ends_the_iterable_and_the_threads() -> None:
    ended = []

    def endless() -> Iterator[torch.Tensor]:
        try:
            while True:
                yield torch.zeros(2, 3)
        finally:
            ended.append(threading.current_thread().name)

    for count, _ in enumerate(DeviceLoader(endless(), device="cpu")):
        if count == 3:
            break

    gc.collect()
    assert own_threads() == [] and len(ended) == 1


def test_no_more_batches_wait_than_host_buffers_and_threads() -> None:
    taken = 0

    def counted() -> Iterator[torch.Tensor]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield torch.full((2,), number)

    most = 0
    loader = DeviceLoader(counted(), device="cpu", host_batches=2, device_batches=0)
    for done, _ in enumerate(loader, 1):
        most = max(most, taken - done)

    assert most <= 2 + 2 + 1  # host buffers, and the batch that the thread holds


def test_host_buffers_stay_within_the_memory_limit() -> None:
    limit, most = 300_000, 0
    given = [torch.zeros(100_000, dtype=torch.uint8) for _ in range(20)]
    with FakeDevice() as device:
        loader = fake_loader(given, device, host_batches=8, memory=limit)
        for _ in loader:
            workers = loader._workers()
            assert workers is not None
            most = max(most, sum(max(buffer.nbytes, buffer.capacity) for buffer in workers.buffers))

    assert 100_000 <= most <= limit + 4 * 16384  # memory is allocated in whole pages


def test_a_batch_is_freed_when_its_user_drops_it() -> None:
    pulled: list[weakref.ref[torch.Tensor]] = []

    def watched() -> Iterator[torch.Tensor]:
        for number in range(6):
            batch = torch.full((1000,), number)
            pulled.append(weakref.ref(batch))
            yield batch
            del batch

    source = iter(DeviceLoader(watched(), device="cpu", host_batches=1))
    received = next(source)
    seen = weakref.ref(received)

    assert pulled[0]() is None  # the batch was copied
    del received
    assert seen() is None


WRONG: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        r"batch\[1\] of batch 0 is torch.float64, which MPS",
    ),
    (lambda: {"x": [torch.zeros(2, dtype=torch.complex128)]}, r"batch\['x'\]\[0\] of batch 0 is torch.complex128"),
    (lambda: [kernels.to_pil_image(images(0)[0])], r"batch\[0\] of batch 0 is a PIL image: add v2.ToImage"),
    (lambda: torch.zeros(3, 3).to_sparse(), r"batch of batch 0 is a tensor of layout torch.sparse_coo.*to_dense"),
    (lambda: torch.zeros(3, device="meta"), r"batch of batch 0 is already on meta"),
    (lambda: None, r"batch 0 of this list is None"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_the_error_about_a_tensor_that_mps_lacks_names_its_place_and_the_remedy(
    make: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = DeviceLoader([make()], device="cpu")
    monkeypatch.setattr(loader._source, "device", "mps")

    with pytest.raises(ConfigError, match=message):
        list(loader)


def test_float64_is_sent_to_devices_that_support_it() -> None:
    (received,) = DeviceLoader([torch.zeros(2, dtype=torch.float64)], device="cpu")

    assert received.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "remark"),
    [
        (lambda: torch.arange(12).view(3, 4)[:, ::2], r"batch is not contiguous.*\.contiguous\(\)"),
        (lambda: {"a": np.zeros(3)}, r"batch\['a'\] is a NumPy array, which is not sent to the device: .*from_numpy"),
    ],
)
def test_batches_that_transfer_slowly_or_not_at_all_give_one_warning(make: Callable[[], Any], remark: str) -> None:
    loader = DeviceLoader([make(), make(), make()], device="cpu")

    with pytest.warns(UserWarning, match=remark) as caught:
        received = list(loader) + list(loader)

    assert len(caught) == 1 and len(received) == 6
    assert torch.equal(torch.as_tensor(tree.leaves(received[0])[0]), torch.as_tensor(tree.leaves(make())[0]))


def test_to_float_refuses_images_whose_shape_has_channels_last() -> None:
    with pytest.raises(ConfigError, match=r"is uint8 \[2, 8, 8, 3\].*permute\(0, 3, 1, 2\)"):
        list(DeviceLoader([torch.zeros(2, 8, 8, 3, dtype=torch.uint8)], device="cpu", to_float=True))


def test_tv_tensors_keep_their_class() -> None:
    boxes = tv_tensors.BoundingBoxes(torch.ones(2, 4), format="XYXY", canvas_size=(5, 7))

    ((image, received),) = DeviceLoader([(tv_tensors.Image(images(0)), boxes)], device="cpu")

    assert type(image) is tv_tensors.Image and torch.equal(image, images(0))
    assert type(received) is tv_tensors.BoundingBoxes and received.canvas_size == (5, 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "takes a ShardDataset, a torch DataLoader or another iterable of batches, not int"),
        ("a.tar", "not str"),
        ({"a": 1}, "not dict"),
        (torch.zeros(3), "not Tensor"),
        (TensorDataset(torch.zeros(3)), "a TensorDataset holds samples.*DataLoader"),
    ],
)
def test_an_object_that_yields_no_batches_is_an_error_at_construction(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeviceLoader(given, device="cpu")


def test_to_float_is_refused_for_a_shard_dataset() -> None:
    with pytest.raises(ConfigError, match="float32 already"):
        DeviceLoader(ShardDataset(shard_set([4]), batch_size=2), device="cpu", to_float=True)


def test_a_second_iteration_over_an_iterator_is_an_error() -> None:
    loader = DeviceLoader(iter(batches(3)), device="cpu")
    assert len(list(loader)) == 3

    with pytest.raises(ConfigError, match="can be iterated only once"):
        next(iter(loader))


def test_set_epoch_reaches_the_sampler_of_a_dataloader() -> None:
    data = TensorDataset(torch.arange(10))
    sampler: Any = torch.utils.data.DistributedSampler(data, num_replicas=1, rank=0)
    loader = DeviceLoader(DataLoader(data, batch_size=10, sampler=sampler), device="cpu")

    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        ((numbers,),) = loader
        orders.append(numbers.tolist())

    assert orders[0] == orders[2] != orders[1]
    with pytest.raises(ConfigError, match="neither this list nor its sampler has set_epoch"):
        DeviceLoader([], device="cpu").set_epoch(1)


def test_the_state_of_a_wrapped_loader_resumes_after_the_delivered_batch() -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    data = TensorDataset(torch.arange(40))
    loader = DeviceLoader(stateful(data, batch_size=4), device="cpu", host_batches=4)
    running = iter(loader)
    for _ in range(3):
        next(running)

    state = loader.state_dict()

    resumed = DeviceLoader(stateful(data, batch_size=4), device="cpu")
    resumed.load_state_dict(state)
    assert torch.equal(torch.cat([batch for (batch,) in resumed]), torch.arange(12, 40))


def test_the_error_about_an_iterable_without_a_state_names_one_that_has_it() -> None:
    with pytest.raises(ConfigError, match=r"a list has no state to save or resume: use torchdata's StatefulDataLoader"):
        DeviceLoader([], device="cpu").state_dict()


def test_the_data_set_of_a_loader_is_a_torch_dataset_with_a_length() -> None:
    data = ShardDataset(shard_set([30, 11]), batch_size=4)
    loader = DeviceLoader(data, device="cpu")

    assert len(loader.dataset) == 41 and len(loader) == len(data) == 11
    assert isinstance(loader.dataset, torch.utils.data.IterableDataset)
    assert loader.dataset.seed == data.seed
