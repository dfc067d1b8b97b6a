"""Diagnosis of a correct device and of faulty devices."""

import json

import pytest
from click.testing import CliRunner

from mps_shards.cli.doctor import command
from mps_shards.inspect.device_diagnosis import diagnose
from tools.support.fake_device import FakeDevice


@pytest.mark.parametrize("transfer", [None, "inline", "thread"])
def test_the_cpu_has_no_problems(transfer: str | None) -> None:
    found = diagnose("cpu", transfer)

    assert found.problems == ()
    assert found.wrong_values == 0
    assert found.batch_ms is not None and found.batch_ms > 0
    assert found.versions.keys() >= {"python", "torch", "mps-shards"}


def test_a_device_that_divides_by_the_reciprocal_is_found() -> None:
    with FakeDevice(reciprocal=True) as device:
        found = diagnose("cpu", "inline", on=device)

    assert found.wrong_values == 126
    assert found.problems == (
        "fake computes 126 of 256 values of x / 255 wrongly: workers will convert pixels instead",
    )
    assert found.batch_ms is not None  # with conversion by the workers all arrives well


def test_a_device_that_alters_copies_is_found() -> None:
    with FakeDevice(corrupt=lambda number, non_blocking: True) as device:
        found = diagnose("cpu", "inline", on=device)

    assert found.problems == ("copies to fake change values: use another device or another version of torch",)


def test_a_batch_that_cannot_be_sent_is_found_and_leaves_no_thread() -> None:
    # the start-up check sends three times; the fourth transfer is the batch, in the transfer thread
    broken = RuntimeError("the copy failed")
    with FakeDevice(transfer_thread=True, fail=lambda number: broken if number > 3 else None) as device:
        found = diagnose("cpu", "thread", on=device)

    assert found.problems == ("the copy failed",)


def test_a_missing_device_is_a_problem_with_exit_code_1() -> None:
    done = CliRunner().invoke(command, ["--device", "cuda:99", "--json", "--quick"])

    assert done.exit_code == 1
    assert "device 'cuda:99' cannot be used" in json.loads(done.output)["problems"][0]


def test_the_report_is_readable_and_exits_0() -> None:
    done = CliRunner().invoke(command, ["--device", "cpu", "--quick"])

    assert done.exit_code == 0, done.output
    assert "256 of 256 byte values exact on the device" in done.output
    assert done.output.endswith("all is well\nNext: mps-shards pack SOURCE\n")
