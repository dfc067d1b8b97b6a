"""Ctrl-C at any line of the training loop's thread is raised, ends the loader's threads, and corrupts no state."""

import contextlib
import signal
import threading
from collections.abc import Callable

import pytest
import torch

from mps_shards import DeviceLoader, ShardDataset, classify
from mps_shards.storage.interrupts import WakeUp, uninterrupted
from tests.device.test_lifetimes import TRANSFERS, own_threads
from tests.support.interrupting import interrupted, places_of
from tests.support.sets import shard_set

EVERY = 7  # place; with 1, all of them: a minute


@pytest.fixture
def epoch() -> Callable[[str | None], Callable[[], list[str]]]:
    """Return a program that reads an epoch of two shards with a new loader."""
    shards = shard_set([6, 6])

    def of(transfer: str | None) -> Callable[[], list[str]]:
        data = ShardDataset(shards, batch_size=2, transform=classify.train(16), shuffle=True, keys=True)
        loader = DeviceLoader(data, device="cpu", num_threads=2, transfer=transfer)

        def keys_of_epoch() -> list[str]:
            data.set_epoch(0)
            return [key for *_, keys in loader for key in keys]

        return keys_of_epoch

    return of


@pytest.mark.parametrize(("first", "transfer"), list(enumerate(TRANSFERS)))
def test_ctrl_c_anywhere_ends_the_loop_and_its_threads(epoch, first: int, transfer: str | None) -> None:
    expected = epoch(transfer)()
    harmed = []

    for place in places_of(epoch(transfer))[first::EVERY]:
        keys_of_epoch = epoch(transfer)
        found: list[str] | None = None
        with interrupted(place) as where, contextlib.suppress(KeyboardInterrupt):
            found = keys_of_epoch()
        # a line that depends on the timing of threads may not be reached again
        if own_threads() or (found if where else None) or keys_of_epoch() != expected:
            harmed.append((where, own_threads(), found))

    assert harmed == []


def test_ctrl_c_anywhere_ends_the_threads_of_a_loader_over_an_iterable() -> None:
    given = [torch.full((2,), number) for number in range(4)]
    harmed = []

    def program() -> list[int]:
        return [int(batch[0]) for batch in DeviceLoader(given, device="cpu", transfer="inline")]

    for place in places_of(program)[::EVERY]:
        received: list[int] | None = None
        with interrupted(place) as where, contextlib.suppress(KeyboardInterrupt):
            received = program()
        if own_threads() or (received if where else None) or program() != [0, 1, 2, 3]:
            harmed.append((where, own_threads(), received))

    assert harmed == []


def test_ctrl_c_in_an_uninterrupted_block_is_raised_after_the_block() -> None:
    done = []

    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append(True)

    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_an_uninterrupted_block_is_the_context_of_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise MemoryError("no thread")

    assert isinstance(raised.value.__context__, MemoryError)


def test_an_uninterrupted_block_leaves_ctrl_c_ignored_if_the_program_ignores_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_uninterrupted_block_in_another_thread_does_not_change_the_handler() -> None:
    handlers = []

    def elsewhere() -> None:
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert handlers == [signal.default_int_handler]


def test_several_wake_ups_before_a_wait_end_only_one_wait() -> None:
    wake_up = WakeUp()
    assert not wake_up.wait(0)

    wake_up.set()
    wake_up.set()

    assert wake_up.wait(None)
    assert not wake_up.wait(0.001)
    assert not wake_up.wait(-1.0)
