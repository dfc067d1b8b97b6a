"""Messages say whether the native kernel is used, and how to get it if it is missing."""

import logging

import pytest

from mps_shards import ShardDataset, classify, native
from mps_shards.errors import ConfigError
from mps_shards.native import build
from tests.support.commands import run
from tests.support.native import needs_kernel
from tests.support.sets import shard_set


@needs_kernel()
def test_doctor_says_whether_the_kernel_is_used(monkeypatch: pytest.MonkeyPatch):
    assert "Huffman decoder of its own" in run("doctor", "--device", "cpu", "--quick").stdout

    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")

    assert "switched off: unset MPS_SHARDS_KERNEL" in run("doctor", "--device", "cpu", "--quick").stdout
    decoding = run("doctor", "--device", "cpu", "--quick", "--json").json()["decoding"]
    assert decoding == {"native_kernel": False, "advice": native.advice()}


def test_a_package_without_the_kernel_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "_built", None)

    assert not native.is_available()
    with pytest.raises(ConfigError, match=r"the native kernel is not built: .+, then install mps-shards again"):
        native.require()


@pytest.mark.parametrize("exact", [True, False])
def test_a_data_set_warns_if_torch_resizes_in_float_arithmetic(
    exact: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("MPS_SHARDS_KERNEL", "off")
    monkeypatch.setattr("mps_shards.reading.rendering.HAS_UINT8_KERNELS", exact)

    with caplog.at_level(logging.WARNING, "mps_shards"):
        ShardDataset(shard_set([9]), batch_size=4)
        ShardDataset(shard_set([9]), batch_size=4, transform=classify.evaluate(8))

    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (0 if exact else 1)
    assert all("images are resized in float arithmetic" in message for message in messages)
