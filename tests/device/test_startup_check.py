"""The start-up check finds a device that alters batches or converts pixels inexactly, on the fake device."""

from typing import Any

import pytest
import torch

from mps_shards.device.startup_check import check_arrived, check_device
from mps_shards.errors import DataError
from tools.support.fake_device import FakeDevice
from tools.support.feeding import deliveries, drafts, inline


def test_workers_convert_pixels_if_the_device_converts_inexactly() -> None:
    with FakeDevice(reciprocal=True) as device:
        with pytest.warns(UserWarning, match="126 of 256 values of x / 255 wrongly: workers will convert"):
            found = check_device(device, non_blocking=True)
        engine = inline(device, host_conversion=found.host_conversion)
        (delivery,) = deliveries(engine, drafts(1, 256))
        device.drain()

    assert (found.wrong_values, found.host_conversion, found.non_blocking) == (126, True, True)
    assert torch.equal(delivery.tensors[0][:, 0, 0, 0], torch.arange(256).float().div(255))


def test_an_exact_device_passes_the_start_up_check(device: FakeDevice) -> None:
    found = check_device(device, non_blocking=True)

    assert (found.wrong_values, found.host_conversion, found.non_blocking) == (0, False, True)


def test_copies_become_blocking_if_non_blocking_copies_alter_batches() -> None:
    with (
        FakeDevice(corrupt=lambda number, non_blocking: non_blocking) as device,
        pytest.warns(UserWarning, match="non-blocking copies to fake change values"),
    ):
        found = check_device(device, non_blocking=True)

    assert not found.non_blocking


def test_a_device_that_alters_every_copy_is_refused() -> None:
    with (
        FakeDevice(corrupt=lambda number, non_blocking: True) as device,
        pytest.warns(UserWarning),
        pytest.raises(DataError, match="use another device or another version of torch"),
    ):
        check_device(device, non_blocking=True)


def test_verify_transfer_notices_an_altered_batch() -> None:
    # uploads 1 and 2 are the first batch's pixels and labels; 3 is the second batch's pixels
    with FakeDevice(corrupt=lambda number, non_blocking: number == 3) as device:

        def verify(batch: Any, tensors: object, number: int) -> None:
            check_arrived(device, batch, tensors, number=number)

        received = []
        with pytest.raises(DataError, match=r"batch 1 changed on its way to fake: 1 of 240 values differ .*'key-4'"):
            for delivery in deliveries(inline(device, device_batches=0), drafts(3), verify=verify):
                received.append(delivery.token)

    assert received == [0]
