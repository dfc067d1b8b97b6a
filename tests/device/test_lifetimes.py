"""Threads, buffers and files of an iteration end with it, however it ends. The conftest fails tests that leave any."""

import gc
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset, classify
from mps_shards.errors import ConfigError
from tests.support import leaks

LoaderOf = Callable[..., DeviceLoader]
TRANSFERS = [None, "inline", "thread"]


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mps-shards")]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_end_of_an_epoch_ends_the_threads(loader_of: LoaderOf, transfer: str | None) -> None:
    loader = loader_of(transfer=transfer)

    count = len(list(loader))

    assert count == len(loader) == 15
    assert own_threads() == []


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_leaving_early_ends_the_threads_at_once(loader_of: LoaderOf, transfer: str | None) -> None:
    for _ in loader_of(transfer=transfer):
        assert len(own_threads()) >= 2
        break

    assert own_threads() == []


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_an_exception_in_the_loop_body_ends_the_threads(loader_of: LoaderOf, transfer: str | None) -> None:
    def train() -> None:
        for _ in loader_of(transfer=transfer):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()

    gc.collect()
    assert own_threads() == []


def test_close_ends_an_iteration_that_is_still_referenced(loader_of: LoaderOf) -> None:
    loader = loader_of()
    held = iter(loader)
    next(held)

    loader.close()

    assert own_threads() == []
    assert list(held) == []


def test_leaving_the_with_block_ends_the_threads(loader_of: LoaderOf) -> None:
    with loader_of() as loader:
        held = iter(loader)
        next(held)

    assert own_threads() == []
    del held


def test_garbage_collection_ends_the_threads(loader_of: LoaderOf) -> None:
    held = iter(loader_of())
    next(held)

    del held
    gc.collect()

    assert own_threads() == []


def test_an_iteration_starts_no_threads_before_its_first_batch(loader_of: LoaderOf) -> None:
    held = iter(loader_of())

    assert own_threads() == []
    del held


def test_a_second_iteration_is_independent_of_the_first(loader_of: LoaderOf) -> None:
    loader = loader_of()
    first = iter(loader)
    head = [next(first)[2]]

    loader.set_epoch(0)
    whole = [keys for *_, keys in loader]
    head += [keys for *_, keys in first]

    assert head == whole


def test_nested_loaders_have_their_own_threads_and_buffers(loader_of: LoaderOf) -> None:
    outer, inner = loader_of(num_threads=1), loader_of(batch_size=30, num_threads=2)
    wanted = [keys for *_, keys in loader_of(batch_size=30)]

    for count, _ in enumerate(outer):
        inner.set_epoch(0)
        assert [keys for *_, keys in inner] == wanted
        assert len(own_threads()) <= 1  # threads of the outer loader, which may have ended
        if count == 2:
            break

    assert own_threads() == []


def test_a_transform_that_fails_names_the_sample_and_ends_the_threads(shard_set: Path) -> None:
    def broken(image: torch.Tensor, target: int, rng: object) -> tuple[torch.Tensor, int]:
        raise KeyError("no such thing")

    loader = DeviceLoader(ShardDataset(shard_set, batch_size=4, transform=broken), device="cpu")

    with pytest.raises(KeyError) as caught:
        list(loader)

    assert "in the transform, given sample" in caught.value.__notes__[0]
    assert own_threads() == []


def test_the_caller_s_number_of_torch_threads_is_not_changed(loader_of: LoaderOf) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    for count, _ in enumerate(loader_of()):
        if count == 3:
            thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            thread.start()  # new threads get the number that any thread set last
            thread.join()

    assert torch.get_num_threads() == before
    assert seen == [before]


def test_workers_run_torch_with_one_thread_each(shard_set: Path) -> None:
    seen = set()

    def look(image: torch.Tensor, target: int, rng: object) -> tuple[torch.Tensor, int]:
        (torch.ones(1000, 1000) + 1).sum()  # large enough that torch would use several threads
        seen.add(torch.get_num_threads())
        return image[:, :8, :8], target

    list(DeviceLoader(ShardDataset(shard_set, batch_size=4, transform=look), device="cpu", num_threads=3))

    assert seen == {1}


def test_a_loader_inside_a_dataloader_worker_delivers_on_the_cpu(shard_set: Path) -> None:
    class Nested(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            data = ShardDataset(shard_set, batch_size=20, transform=classify.evaluate(16), keys=True)
            yield from DeviceLoader(data, device="auto", num_threads=2)

    found = list(DataLoader(Nested(), batch_size=None, num_workers=1, multiprocessing_context="fork"))

    assert [images.shape[0] for images, *_ in found] == [20, 20, 20]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_parent_and_child_work_after_a_fork_during_an_iteration(loader_of: LoaderOf) -> None:
    loader = loader_of()
    held = iter(loader)
    next(held)

    child = os.fork()
    if not child:
        status = 1
        try:
            del held  # this copy has no threads: a fork does not copy them
            gc.collect()
            status = 0 if len(list(loader)) == 15 else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(held)) == 14


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("taken", [1, 15])
def test_continuing_an_iteration_in_a_forked_child_is_an_error(
    loader_of: LoaderOf, transfer: str | None, taken: int
) -> None:
    loader = loader_of(transfer=transfer)
    running = iter(loader)
    for _ in range(taken):
        next(running)

    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(20)  # ends the child if it hangs
            loader.stats()
            next(running)
        except ConfigError as error:
            status = 0 if "forked during an iteration" in str(error) else 2
            loader.close()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert len(list(running)) == 15 - taken


PROGRAM = """
import signal, sys, threading
from mps_shards import DeviceLoader, ShardDataset, classify
data = ShardDataset(sys.argv[1], batch_size=4, transform=classify.train(32))
loader = DeviceLoader(data, device="cpu", num_threads=2, transfer=sys.argv[2])
held = iter(loader)
next(held)
{}
"""


@pytest.mark.parametrize(
    ("transfer", "ending", "code"),
    [
        ("cpu", "print('ends')", 0),
        ("thread", "sys.exit(3)", 3),
        ("thread", "thread = threading.Thread(target=lambda: print(len(list(held)))); thread.start()", 0),
    ],
)
def test_the_interpreter_exits_while_an_iteration_is_open(
    shard_set: Path, transfer: str, ending: str, code: int
) -> None:
    program = [sys.executable, "-c", PROGRAM.format(ending), str(shard_set), transfer]

    done = subprocess.run(program, capture_output=True, text=True, timeout=60)

    assert done.returncode == code, done.stderr
    if "thread = " in ending:
        assert done.stdout == "14\n"  # another thread may finish the iteration after the main one has ended


def test_ctrl_c_while_waiting_for_a_batch_raises_and_ends_the_threads(shard_set: Path) -> None:
    waiting = threading.Event()

    def slow(image: torch.Tensor, target: int, rng: object) -> tuple[torch.Tensor, int]:
        if not waiting.is_set():
            waiting.set()
            os.kill(os.getpid(), signal.SIGINT)
        return image[:, :8, :8], target

    loader = DeviceLoader(ShardDataset(shard_set, batch_size=60, transform=slow), device="cpu", num_threads=2)

    with pytest.raises(KeyboardInterrupt):
        list(loader)

    gc.collect()
    assert own_threads() == []


def open_iterate_leave(loader_of: LoaderOf, cycles: int, seed: int) -> None:
    chance = random.Random(seed)
    loaders = [loader_of(transfer=transfer, batch_size=20) for transfer in TRANSFERS]
    for _ in range(cycles):
        loader = chance.choice(loaders)
        stop = chance.randrange(4)
        for count, _ in enumerate(loader):
            if count == stop:
                break


def test_random_iterations_leave_no_threads_or_files(loader_of: LoaderOf) -> None:
    before = leaks.threads() | leaks.files()

    open_iterate_leave(loader_of, 30, seed=0)

    gc.collect()
    assert own_threads() == []
    # a set keeps a few shards open until it is freed
    gone = (leaks.threads() | leaks.files()) - before
    assert all(".tar" in name for name in gone)
