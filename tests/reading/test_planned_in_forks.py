"""A process that was forked while a thread located samples can read the set itself."""

import multiprocessing
import threading

import pytest

from mps_shards import ShardDataset
from mps_shards.reading.indexed_source import IndexedSource
from tests.support.native import needs_kernel
from tests.support.sets import keys, shard_set

pytestmark = needs_kernel()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_reads_on_although_a_thread_of_the_parent_was_locating_samples(monkeypatch: pytest.MonkeyPatch):
    located = IndexedSource.located
    busy, forked, owner = threading.Event(), threading.Event(), threading.get_native_id()

    def slow(*arguments):
        if owner == threading.main_thread().native_id:  # in the parent process
            busy.set()
            assert forked.wait(60)
        return located(*arguments)

    monkeypatch.setattr(IndexedSource, "located", slow)
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def read() -> list[str]:
        return [key for *_, found in ShardDataset(shard_set([9]), batch_size=3, keys=True) for key in found]

    parent: list[str] = []
    reading = threading.Thread(target=lambda: parent.extend(read()))
    reading.start()
    assert busy.wait(60)
    child = multiprocessing.get_context("fork").Process(target=lambda: sender.send(read()))
    child.start()
    forked.set()
    try:
        assert receiver.poll(60), "the child waits for a lock that a thread of the parent held"
        assert receiver.recv() == keys(range(9))
    finally:
        child.kill()
        child.join()
        child.close()
    reading.join()
    assert parent == keys(range(9))
    for end in (receiver, sender):
        end.close()
