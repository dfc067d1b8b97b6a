"""Every transfer engine keeps one contract, on the fake device, the CPU, and MPS and CUDA where they exist."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch

from mps_shards.batching.host_batch import Sample
from mps_shards.batching.host_buffers import Recycler
from mps_shards.batching.tree import leaves
from mps_shards.device.engines import Engine
from mps_shards.device.engines.cpu import CpuEngine
from mps_shards.device.engines.inline import InlineEngine
from mps_shards.device.engines.thread import ThreadEngine
from mps_shards.device.engines.torch_device import TorchDevice
from mps_shards.metrics import LoaderStats
from tools.support.fake_device import FakeDevice
from tools.support.feeding import Feed, deliveries, drafts, expected, made

KINDS = {"inline": InlineEngine, "thread": ThreadEngine}


class Rig(NamedTuple):
    """A transfer engine, with a function that returns the values of a delivered tensor."""

    engine: Engine
    device: Any

    def values(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(self.device, FakeDevice):
            self.device.drain()
        return tensor.cpu()


@contextlib.contextmanager
def rigged(name: str, **fake: Any) -> Iterator[Rig]:
    where, _, kind = name.partition("-")
    if kind == "cpu":
        yield Rig(CpuEngine(Recycler(keep=5)), None)
    elif where == "fake":
        with FakeDevice(transfer_thread=kind == "thread", **fake) as device:
            yield Rig(KINDS[kind](device, device_batches=1, non_blocking=True), device)
    else:
        device = TorchDevice(torch.device(where))
        yield Rig(KINDS[kind](device, device_batches=1, non_blocking=where != "cpu"), device)


ENGINES = [
    "cpu-cpu",
    "fake-inline",
    "fake-thread",
    "cpu-inline",
    "cpu-thread",
    *(pytest.param(f"mps-{kind}", marks=pytest.mark.mps) for kind in ("inline",)),
    *(pytest.param(f"cuda-{kind}", marks=pytest.mark.cuda) for kind in ("inline", "thread")),
]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("batches", "last_rows"), [(7, None), (3, 1), (1, None), (0, None)])
def test_every_batch_arrives_in_order_and_unchanged(name: str, batches: int, last_rows: int | None) -> None:
    planned = drafts(batches, last_rows=last_rows if batches else None)

    with rigged(name) as rig:
        found = list(deliveries(rig.engine, planned))

        assert [delivery.token for delivery in found] == list(range(batches))
        for draft, delivery in zip(planned, found, strict=True):
            images, labels = delivery.tensors
            assert torch.equal(rig.values(images), expected(draft)[0])
            assert torch.equal(rig.values(labels), expected(draft)[1])
            assert delivery.keys == [f"key-{number}" for number in draft.items]


@pytest.mark.parametrize("name", ENGINES)
def test_a_delivered_batch_is_never_overwritten(name: str) -> None:
    planned = drafts(40)

    with rigged(name) as rig:
        held = [delivery.tensors for delivery in deliveries(rig.engine, planned, buffers=4)]

        addresses = {images.data_ptr() for images, _ in held}
        assert len(addresses) == len(held)
        for draft, (images, labels) in zip(planned, held, strict=True):
            assert torch.equal(rig.values(images), expected(draft)[0])
            assert torch.equal(rig.values(labels), expected(draft)[1])


@pytest.mark.parametrize("name", ENGINES)
def test_trees_masks_and_floats_arrive_unchanged(name: str) -> None:
    def make(number: int) -> Sample:
        image = {"small": torch.full((3, 2, 2), number, dtype=torch.uint8), "done": torch.full((2,), number / 3)}
        mask = torch.full((5, 3), number, dtype=torch.uint8)
        return Sample(image, (mask, [number, torch.tensor([0.5, number])]), str(number))

    with rigged(name) as rig:
        (delivery,) = deliveries(rig.engine, drafts(1, 3), make=make)

        images, (mask, (label, pair)) = delivery.tensors
        assert torch.equal(rig.values(images["small"])[:, 0, 0, 0], torch.arange(3) / 255)
        assert torch.equal(rig.values(images["done"])[:, 0], torch.tensor([0 / 3, 1 / 3, 2 / 3]))
        assert mask.dtype == torch.int64 and torch.equal(rig.values(mask)[:, 4, 2], torch.arange(3))
        assert label.dtype == torch.int64 and torch.equal(rig.values(label), torch.arange(3))
        assert torch.equal(rig.values(pair)[2], torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize("name", ENGINES)
def test_skipped_rows_leave_a_shorter_batch(name: str) -> None:
    with rigged(name) as rig:
        found = list(deliveries(rig.engine, drafts(3), make=lambda n: None if n in (1, 4, 5, 6, 7) else made(n)))

        assert [delivery.keys for delivery in found] == [
            ["key-0", "key-2", "key-3"],
            [],
            ["key-8", "key-9", "key-10", "key-11"],
        ]
        assert found[1].tensors is None
        assert torch.equal(rig.values(found[0].tensors[1]), torch.tensor([0, 2, 3]))


@pytest.mark.parametrize("name", ENGINES)
def test_an_error_comes_after_every_batch_before_it(name: str) -> None:
    def make(number: int) -> Sample:
        if number == 22:
            raise ValueError("sample 22 is broken")
        return made(number)

    received = []
    with rigged(name) as rig, pytest.raises(ValueError, match="sample 22 is broken"):
        for delivery in deliveries(rig.engine, drafts(50), make=make, num_threads=3):
            received.append(delivery.token)

    assert received == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ENGINES)
def test_the_error_is_that_of_the_first_bad_sample_of_a_batch(name: str) -> None:
    def make(number: int) -> Sample:
        if number % 32 > 10:
            raise ValueError(f"sample {number}")
        return made(number)

    with rigged(name) as rig, pytest.raises(ValueError, match=r"^sample 11$"):
        list(deliveries(rig.engine, drafts(3, 32), make=make, num_threads=4))


@pytest.mark.parametrize("name", ENGINES)
def test_an_error_of_the_iterator_of_batch_plans_comes_after_the_earlier_batches(name: str) -> None:
    def planned() -> Iterator[Any]:
        yield from drafts(4)
        raise OSError("the shard is gone")

    received = []
    with rigged(name) as rig, pytest.raises(OSError, match="the shard is gone"):
        for delivery in deliveries(rig.engine, planned()):
            received.append(delivery.token)

    assert received == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ENGINES)
def test_a_worker_that_cannot_start_is_an_error(name: str) -> None:
    from mps_shards.batching.host_buffers import HostBuffer
    from mps_shards.batching.worker_threads import Workers
    from mps_shards.device.transfer_queue import TransferQueue

    class Broken(Feed):
        def sample_maker(self, times: object) -> Any:
            raise MemoryError("no memory for a worker")

    with rigged(name) as rig, pytest.raises(MemoryError, match="no memory for a worker"):
        workers = Workers(
            Broken(iter(drafts(3)), made),
            buffers=[HostBuffer(0, rig.engine.allocate)],
            pixels=rig.engine.pixels,
            num_threads=2,
            max_bytes=None,
            stats=LoaderStats(),
        )
        workers.start()
        try:
            list(TransferQueue(workers, rig.engine).deliveries())
        finally:
            workers.stop()


@pytest.mark.parametrize("name", ["fake-inline", "fake-thread"])
@pytest.mark.parametrize("seed", range(3))
def test_batches_are_exact_despite_random_latency_failures_and_early_exits(
    name: str, seed: int, batches: int = 300
) -> None:
    """test_endurance delivers 100,000 batches in the same way."""
    chance = random.Random(seed)
    done = 0
    while done < batches:
        many = chance.randrange(1, 60)
        done += exercise(name, chance, many)


def exercise(name: str, chance: random.Random, batches: int) -> int:
    """Deliver batches through a slow device, check each, and end early in half of the calls."""
    ending = chance.choice(["all", "all", "leave", "fail"])
    at = chance.randrange(batches)
    planned = drafts(batches, chance.choice([1, 3, 8]))

    def make(number: int) -> Sample:
        if ending == "fail" and number == planned[at].items[-1]:
            raise ValueError("injected")
        return made(number)

    held: list[Any] = []
    latency = chance.choice([lambda: 0.0, lambda: chance.random() * 2e-4])
    with rigged(name, latency=latency, keep_source=chance.random() < 0.5) as rig:
        source = deliveries(
            rig.engine, planned, make=make, num_threads=chance.choice([1, 2, 4]), buffers=chance.choice([3, 5])
        )
        try:
            for delivery in source:
                held.append(delivery)
                if ending == "leave" and delivery.token == at:
                    break
        except ValueError:
            assert ending == "fail" and len(held) == at
        source.close()
        for delivery in held:
            images, labels = (rig.values(leaf) for leaf in leaves(delivery.tensors))
            wanted = expected(planned[delivery.token])
            assert torch.equal(images, wanted[0]) and torch.equal(labels, wanted[1])
        assert rig.device.dead_sources == 0
    if ending == "all":
        assert len(held) == batches
    return max(1, len(held))
