"""Each known hazard of transfers to MPS: the fake device shows it for a naive loop, and the engines avoid it."""

import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from mps_shards.batching.host_batch import Sample
from mps_shards.batching.host_buffers import PAGE_BYTES, BufferState, page_aligned
from mps_shards.device import owner_thread as owner
from mps_shards.device.engines.inline import InlineEngine
from mps_shards.device.engines.thread import ThreadEngine
from mps_shards.errors import ConfigError, ShutdownTimeout
from mps_shards.metrics import LoaderStats
from tools.support.fake_device import POISON, FakeDevice
from tools.support.feeding import deliveries, drafts, expected, inline, made


def test_a_naive_loop_that_reuses_its_buffer_delivers_wrong_batches(device: FakeDevice) -> None:
    slot = page_aligned(64)[:64]
    device.hold()

    there = []
    for number in range(3):
        slot.fill_(number)
        there.append(device.upload(slot, non_blocking=True))
    device.drain()

    assert [int(tensor[0]) for tensor in there] == [2, 2, 2]


def test_a_buffer_is_not_overwritten_before_the_device_has_read_it(device: FakeDevice) -> None:
    planned = drafts(12)
    device.hold()

    source = deliveries(inline(device), planned, buffers=5)
    first = [next(source) for _ in range(3)]  # five buffers, none of which the device has read yet
    device.go_on()
    rest = list(source)
    device.drain()

    for draft, delivery in zip(planned, first + rest, strict=True):
        assert torch.equal(delivery.tensors[0], expected(draft)[0])


def test_the_fake_device_reads_garbage_if_a_naive_loop_frees_the_source_of_a_copy(device: FakeDevice) -> None:
    device.hold()

    there = device.upload(page_aligned(64)[:64].fill_(3), non_blocking=True)
    device.drain()

    assert device.dead_sources == 1
    assert int(there[0]) == POISON


def test_the_source_of_a_copy_is_not_freed_before_the_device_has_read_it(device: FakeDevice) -> None:
    list(deliveries(inline(device), drafts(30)))
    device.drain()

    assert device.dead_sources == 0


def test_closing_waits_for_the_device_before_buffers_are_freed(device: FakeDevice) -> None:
    device.hold()
    source = deliveries(inline(device), drafts(10))
    delivery = next(source)

    threading.Timer(0.05, device.go_on).start()
    source.close()  # waits until the device has read all copies

    device.drain()
    assert device.dead_sources == 0
    assert torch.equal(delivery.tensors[0], expected(drafts(1)[0])[0])


def test_a_device_that_never_finishes_is_reported_and_keeps_its_buffers(device: FakeDevice) -> None:
    device.hold()
    source = deliveries(inline(device), drafts(10), timeout_s=0.05)
    next(source)

    with pytest.raises(ShutdownTimeout, match=r"has not finished its copies in 0 s\n(.|\n)*host buffer 0: in flight"):
        source.close()

    device.drain()
    assert device.dead_sources == 0


def test_waiting_for_a_dead_device_is_an_error_with_the_states_of_buffers_and_queues(device: FakeDevice) -> None:
    device.hold()
    stuck = deliveries(inline(device), drafts(10), buffers=2, timeout_s=0.05)

    with pytest.raises(
        ShutdownTimeout, match=r"0 batches being filled, 0 ready, 2 in flight\nhost buffer 0: in flight"
    ):
        list(stuck)

    device.drain()


def test_the_inline_engine_uses_the_device_only_in_the_consumer_s_thread(device: FakeDevice) -> None:
    failures: list[str] = []

    def elsewhere() -> None:
        try:
            list(deliveries(inline(device), drafts(3)))
        except AssertionError as error:
            failures.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    delivered = list(deliveries(inline(device), drafts(3)))

    # the fake device notices; the engine stays in the consumer's thread
    assert failures == ["device touched off-thread"]
    assert len(delivered) == 3


def test_second_consumer_thread_on_mps_is_refused() -> None:
    release, claimed = threading.Event(), threading.Event()

    def first() -> None:
        owner.claim("fake-mps")
        claimed.set()
        release.wait()

    thread = threading.Thread(target=first, name="trainer")
    thread.start()
    claimed.wait()
    try:
        with pytest.raises(ConfigError, match=r"'trainer' already loads batches to fake-mps.*pytorch#197805"):
            owner.claim("fake-mps")
    finally:
        release.set()
        thread.join()

    owner.claim("fake-mps")  # the thread that owned the device has ended


def test_mps_after_fork_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    owner.claim("forked-mps")

    monkeypatch.setattr("os.getpid", lambda: 1)

    with pytest.raises(ConfigError, match="forked from one that used forked-mps"):
        owner.claim("forked-mps")


def test_the_transfer_thread_only_copies() -> None:
    with FakeDevice(transfer_thread=True) as device:
        found = list(deliveries(ThreadEngine(device, device_batches=1), drafts(10)))
        with device.side(), pytest.raises(AssertionError, match="copies only"):
            device.to_float(torch.zeros(3, dtype=torch.uint8))

    assert len(found) == 10


def test_the_engine_never_calls_synchronize(device: FakeDevice) -> None:
    found = list(deliveries(inline(device), drafts(10), verify=lambda batch, tensors, number: None))

    assert len(found) == 10
    with pytest.raises(AssertionError, match="synchronize was called"):
        device.synchronize()


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint16])
def test_dtypes_that_the_device_lacks_are_refused_before_the_transfer(device: FakeDevice, dtype: torch.dtype) -> None:
    def make(number: int) -> Sample:
        return Sample(torch.zeros((3, 2, 2), dtype=dtype), number, f"key-{number}")

    with pytest.raises(ConfigError, match=rf"{dtype} as the image of sample 'key-0'.*uint8 or float32"):
        list(deliveries(inline(device), drafts(1), make=make))

    assert device.uploads == 0


def test_copies_never_convert_the_dtype(device: FakeDevice) -> None:
    seen = []
    upload = device.upload
    device.upload = lambda source, **options: seen.append(source.dtype) or upload(source, **options)  # type: ignore

    list(deliveries(inline(device), drafts(3)))

    assert set(seen) == {torch.uint8, torch.int64}  # pixels are sent as uint8, labels with the dtype that is delivered


def test_images_that_are_not_dense_become_dense_in_the_buffer(device: FakeDevice) -> None:
    def make(number: int) -> Sample:
        wide = torch.arange(3 * 4 * 10, dtype=torch.uint8).view(4, 10, 3)
        return Sample(wide[:, ::2].permute(2, 0, 1), number, str(number))

    (delivery,) = deliveries(inline(device), drafts(1), make=make)
    device.drain()

    assert torch.equal(delivery.tensors[0][0], make(0).image.float().div(255))


def test_every_event_is_recorded_before_it_is_queried(device: FakeDevice) -> None:
    from tools.support.fake_device import FakeEvent

    list(deliveries(inline(device), drafts(5)))

    assert FakeEvent().query()  # torch reports an event that was not recorded as complete
    assert device.events and all(event.recorded for event in device.events)


def test_the_memory_of_buffers_is_allocated_by_torch(device: FakeDevice) -> None:
    with pytest.raises(AssertionError, match="memory that Python owns"):
        device.upload(torch.from_numpy(np.zeros(4, dtype=np.uint8)), non_blocking=True)

    assert page_aligned(100).untyped_storage().resizable()  # only memory that torch owns can be resized


def test_buffers_never_share_a_page() -> None:
    memories = [page_aligned(nbytes) for nbytes in (1, PAGE_BYTES, PAGE_BYTES + 1, 100_000)]

    pages: set[int] = set()
    for memory in memories:
        own = range(memory.data_ptr() // PAGE_BYTES, (memory.data_ptr() + memory.numel()) // PAGE_BYTES)
        assert memory.data_ptr() % PAGE_BYTES == 0 and memory.numel() % PAGE_BYTES == 0
        assert pages.isdisjoint(own)
        pages.update(own)


@pytest.mark.parametrize("kind", [InlineEngine, ThreadEngine])
def test_a_copy_that_runs_out_of_memory_is_tried_again_after_the_other_copies(kind: Any) -> None:
    stats = LoaderStats()

    def fail(number: int) -> Exception | None:
        return RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)") if number == 7 else None

    with FakeDevice(fail=fail, transfer_thread=True) as device:
        found = list(deliveries(kind(device, device_batches=1, non_blocking=True), drafts(10), stats=stats))
        device.drain()

    assert stats.retries == 1
    for draft, delivery in zip(drafts(10), found, strict=True):
        assert torch.equal(delivery.tensors[0], expected(draft)[0])


@pytest.mark.parametrize("kind", [InlineEngine, ThreadEngine])
def test_a_device_that_stays_out_of_memory_is_an_error_after_the_earlier_batches(kind: Any) -> None:
    def fail(number: int) -> Exception | None:
        return RuntimeError("MPS backend out of memory") if number >= 7 else None

    received = []
    with (
        FakeDevice(fail=fail, transfer_thread=True) as device,
        pytest.raises(RuntimeError, match="MPS backend out of memory"),
    ):
        for delivery in deliveries(kind(device, device_batches=0, non_blocking=True), drafts(10)):
            received.append(delivery.token)

    assert received == [0, 1, 2]


def test_the_buffer_of_a_failed_copy_is_not_reused(device: FakeDevice) -> None:
    seen: list[Any] = []
    device.fail = lambda number: ValueError("the copy failed") if number == 5 else None

    with pytest.raises(ValueError, match="the copy failed"):
        list(deliveries(inline(device, device_batches=0), drafts(10), on_workers=seen.append))

    states = [buffer.state for buffer in seen[0].buffers]
    assert states.count(BufferState.QUARANTINED) == 1


def test_a_slow_consumer_does_not_raise_memory_above_the_limit(device: FakeDevice) -> None:
    seen: list[Any] = []
    one = 64 * 3 * 32 * 32  # pixels of a batch, in bytes
    most = 0

    def make(number: int) -> Sample:
        return Sample(torch.full((3, 32, 32), number % 256, dtype=torch.uint8), number, str(number))

    source = deliveries(
        inline(device), drafts(12, 64), make=make, buffers=8, max_bytes=int(2.5 * one), on_workers=seen.append
    )
    for _ in source:
        most = max(most, sum(buffer.nbytes for buffer in seen[0].buffers if buffer.state is not BufferState.FREE))

    assert one <= most <= 2.5 * one


def test_idle_buffers_count_towards_the_memory_limit(device: FakeDevice) -> None:
    seen: list[Any] = []
    sides = [64, 8, 48, 8, 8, 64, 16, 8] * 6
    limit = 2 * 4 * 3 * 64 * 64  # two of the largest batches
    held: list[int] = []

    def make(number: int) -> Sample:
        side = sides[number // 4]
        held.append(sum(buffer.capacity for buffer in seen[0].buffers) if seen else 0)
        return Sample(torch.full((3, side, side), number % 256, dtype=torch.uint8), number, str(number))

    source = deliveries(
        inline(device), drafts(len(sides), 4), make=make, buffers=6, max_bytes=limit, on_workers=seen.append
    )
    shapes = [tensors[0].shape[-1] for tensors, *_ in source]

    assert shapes == sides
    assert limit // 2 < max(held) <= limit


def test_a_batch_larger_than_the_memory_limit_is_delivered(device: FakeDevice) -> None:
    found = list(deliveries(inline(device), drafts(6), max_bytes=10))

    assert len(found) == 6


def test_a_fast_consumer_is_counted_as_starved() -> None:
    stats = LoaderStats()
    gate = threading.Event()

    def make(number: int) -> Sample:
        if number == 6:
            threading.Timer(0.1, gate.set).start()
            gate.wait()
        return made(number)

    with FakeDevice() as device:
        list(deliveries(inline(device), drafts(3), make=make, stats=stats))

    assert stats.starved_s >= 0.09


def test_a_slow_consumer_is_counted_as_back_pressure() -> None:
    stats = LoaderStats()

    with FakeDevice() as device:
        source = deliveries(inline(device), drafts(40), buffers=3, stats=stats, num_threads=1)
        next(source)
        threading.Event().wait(0.2)
        list(source)

    assert stats.blocked_s >= 0.1


def test_reading_metrics_does_not_wait_for_the_device(device: FakeDevice) -> None:
    stats = LoaderStats()
    device.hold()

    source = deliveries(inline(device), drafts(3), buffers=5, stats=stats)
    first = next(source)  # although the device has executed nothing yet
    sent = stats.bytes_sent
    device.go_on()
    rest = list(source)

    assert first.token == 0 and len(rest) == 2
    assert sent >= 4 * (60 + 8) and stats.flight_s > 0


def test_a_batch_is_freed_when_its_user_drops_it(device: FakeDevice) -> None:
    source = deliveries(inline(device), drafts(5))
    images = next(source).tensors[0]
    seen = weakref.ref(images)

    del images
    device.drain()

    assert seen() is None
    source.close()
