"""`Recycler` reuses the memory of a batch once nothing refers to it, and never before."""

import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mps_shards.batching.host_buffers import Recycler


def address(memory: torch.Tensor) -> int:
    return memory.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "part",
    [
        lambda memory: memory,
        lambda memory: memory[10:20],
        lambda memory: memory.view(torch.float32).reshape(5, 5),
        lambda memory: memory.numpy(),
        lambda memory: memory.numpy()[3:4],
        lambda memory: memory.untyped_storage(),
        lambda memory: memoryview(memory.numpy()),
        lambda memory: torch.utils.dlpack.to_dlpack(memory),
    ],
    ids=["itself", "slice", "view", "array", "slice-of-array", "storage", "buffer", "dlpack"],
)
def test_memory_is_not_reused_while_any_part_of_it_is_held(part: Any) -> None:
    recycler = Recycler(keep=2)
    memory = recycler.lease(100)
    first, held = address(memory), part(memory)
    del memory

    assert address(recycler.lease(100)) != first

    del held
    assert first in {address(recycler.lease(100)) for _ in range(2)}


@pytest.mark.parametrize("nbytes", [100, 5 << 20])  # from the heap, and mapped on its own
def test_released_memory_is_reused_if_it_is_large_enough(nbytes: int) -> None:
    recycler = Recycler(keep=2)
    small, large = recycler.lease(nbytes), recycler.lease(2 * nbytes)
    there = address(large)
    del small, large

    memory = recycler.lease(nbytes + 1)

    assert address(memory) == there
    assert recycler.lease(nbytes + 1).numel() == nbytes + 1
    assert len(recycler._arrays) == 2  # memory that is too small is freed


def test_a_recycler_keeps_no_more_memories_than_its_limit() -> None:
    recycler = Recycler(keep=3)
    held = [recycler.lease(100) for _ in range(50)]
    held.clear()
    again = [recycler.lease(100) for _ in range(50)]

    assert 1 <= len(recycler._arrays) <= 6
    assert len({address(memory) for memory in again}) == 50


def test_a_recycler_with_limit_0_keeps_nothing() -> None:
    recycler = Recycler(keep=0)
    held = recycler.lease(100)
    del held

    assert not recycler._arrays


def test_memory_whose_references_are_counted_late_is_reused_later(monkeypatch: pytest.MonkeyPatch) -> None:
    recycler = Recycler(keep=2)
    memory = recycler.lease(100)
    first = address(memory)
    del memory

    with monkeypatch.context() as patch:  # as on a free-threaded build, where another thread dropped the reference
        patch.setattr("mps_shards.batching.host_buffers.sys", SimpleNamespace(getrefcount=lambda array: 1 << 20))
        meanwhile = recycler.lease(100)

    assert address(meanwhile) != first
    assert address(recycler.lease(100)) == first


def test_two_threads_are_never_given_the_same_memory() -> None:
    recycler = Recycler(keep=4)
    clashes: list[int] = []

    def use(number: int) -> None:
        chance = random.Random(number)
        held: list[torch.Tensor] = []
        for _ in range(2000):
            memory = recycler.lease(64)
            memory.fill_(number)
            held.append(memory)
            if len(held) > chance.randrange(1, 5):
                clashes.extend(set(held.pop(chance.randrange(len(held))).tolist()) - {number})

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clashes == []
