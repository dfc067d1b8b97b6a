"""Ctrl-C in any place of the training loop's thread arrives, ends the loader's threads, and spoils nothing."""

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
    """Programs: a whole epoch of two shards, by a loader of its own."""
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
def test_ctrl_c_anywhere(epoch, first: int, transfer: str | None) -> None:
    expected = epoch(transfer)()
    harmed = []

    for place in places_of(epoch(transfer))[first::EVERY]:
        keys_of_epoch = epoch(transfer)
        found: list[str] | None = None
        with interrupted(place) as where, contextlib.suppress(KeyboardInterrupt):
            found = keys_of_epoch()
        # where the threads' pace decides, a place may not be met again
        if own_threads() or (found if where else None) or keys_of_epoch() != expected:
            harmed.append((where, own_threads(), found))

    assert harmed == []


def test_ctrl_c_anywhere_over_an_iterable() -> None:
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


def test_what_must_not_be_left_half_done_ends_first() -> None:
    done = []

    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append(True)

    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_there_is_not_lost_beside_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise MemoryError("no thread")

    assert isinstance(raised.value.__context__, MemoryError)


def test_a_program_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_none_of_its_business() -> None:
    handlers = []

    def elsewhere() -> None:
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert handlers == [signal.default_int_handler]


def test_several_wake_ups_before_a_wait_count_once() -> None:
    wake_up = WakeUp()
    assert not wake_up.wait(0)

    wake_up.set()
    wake_up.set()

    assert wake_up.wait(None)
    assert not wake_up.wait(0.001)
    assert not wake_up.wait(-1.0)
