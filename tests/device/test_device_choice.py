"""Choice of device and transfer engine for each version of torch, and its explanation."""

from typing import Any

import pytest
import torch

from mps_shards import DeviceLoader, ShardDataset, native
from mps_shards.device import device_choice as rules
from mps_shards.device.device_choice import choose
from mps_shards.device.torch_versions import hazards_of, non_blocking_is_safe, parse_version
from mps_shards.errors import ConfigError


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "missing_mps", lambda: None)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.14.1+cu130", (2, 14)),
        ("2.15.0a0+git1234abc", (2, 15)),
        ("2.9", (2, 9)),
        ("2.13.0.dev20260301", (2, 13)),
        ("v2.10.0rc1", (2, 10)),
        ("3.0.0", (3, 0)),
        ("nightly", None),
        ("", None),
    ],
)
def test_versions_of_torch_are_parsed(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("torch_version", "non_blocking", "verify"),
    [
        ("2.9.0", False, 0),
        ("2.12.1", False, 0),
        ("2.13.0", True, 0),
        ("2.14.1", True, 0),
        ("2.15.0a0+git1", True, 1),
        ("unheard of", True, 1),
    ],
)
def test_copies_to_mps_block_only_for_versions_of_torch_that_need_it(
    on_a_mac: None, torch_version: str, non_blocking: bool, verify: int
) -> None:
    found = choose("auto", None, torch_version=torch_version)

    assert (found.device.type, found.engine) == ("mps", "inline")
    assert (found.non_blocking, found.verify) == (non_blocking, verify)
    assert f"torch {torch_version}" in str(found)


def test_arguments_override_the_choice_for_the_version_of_torch(on_a_mac: None) -> None:
    blocking = choose("mps", "inline-blocking", verify=5, torch_version="2.14.1")
    with pytest.warns(UserWarning, match="a second thread on MPS can crash torch 2.14"):
        threaded = choose("mps", "thread", torch_version="2.14.1")

    assert (blocking.engine, blocking.non_blocking, blocking.verify) == ("inline", False, 5)
    assert threaded.engine == "thread" and "pytorch#197805" in str(threaded)


@pytest.mark.parametrize(
    ("device", "transfer", "message"),
    [
        ("mps", "cpu", r"transfer='cpu' is not available for mps: use inline, thread"),
        (
            "cpu",
            "alias",
            r"transfer='alias' is not available for cpu: use cpu, inline, thread, or leave transfer= out for 'cpu'",
        ),
        ("cpu", "inline-fast", "is not available for cpu"),
        ("cpu", "inline-blocking-twice", "is not available for cpu"),
        ("meta", None, "unknown device 'meta': use auto, mps, cuda, cuda:1 or cpu"),
        ("gpu", None, "unknown device 'gpu': use auto, mps, cuda, cuda:1 or cpu"),
    ],
)
def test_the_error_about_an_impossible_choice_names_the_possible_ones(
    on_a_mac: None, device: str, transfer: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(device, transfer)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="MPS is here")
def test_the_error_about_missing_mps_gives_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"'mps' cannot be used: torch .* use device='auto' or 'cpu'"):
        choose("mps", None)

    assert "no MPS, because torch" in str(choose("auto", None)) or torch.cuda.is_available()


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_the_error_about_missing_cuda_gives_the_reason() -> None:
    with pytest.raises(
        ConfigError, match=r"'cuda:1' cannot be used: torch (sees no NVIDIA GPU|was built without CUDA)"
    ):
        choose("cuda:1", None)


def test_cuda_is_served_by_the_transfer_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    found = choose("cuda:1", None, torch_version="2.14.1")

    assert (found.engine, found.non_blocking) == ("thread", True)
    with pytest.raises(ConfigError, match="torch sees 2 GPUs"):
        choose("cuda:2", None)


def test_the_cpu_is_chosen_in_a_dataloader_worker(on_a_mac: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: object())

    found = choose("mps", None)

    assert (found.device.type, found.engine) == ("cpu", "cpu")
    assert "this process is a DataLoader worker, which must not use mps" in str(found)


def test_hazards_are_listed_for_the_version_of_torch() -> None:
    issues = {
        version: {issue for hazard in hazards_of("mps", version) for issue in hazard.issues}
        for version in [(2, 9), (2, 14), None]
    }

    assert "#189690" in issues[2, 9] and "#197805" not in issues[2, 9]
    assert "#197805" in issues[2, 14] and "#189690" not in issues[2, 14]
    assert issues[None] >= issues[2, 9] | issues[2, 14]
    assert not non_blocking_is_safe("cpu", (2, 14))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_threads": 0}, "num_threads must be a whole number from 1, not 0"),
        ({"host_batches": 0}, "host_batches must be a whole number from 1"),
        ({"device_batches": -1}, "device_batches must be a whole number from 0"),
        ({"memory": 0}, "memory must be a whole number from 1"),
        ({"verify_transfer": -1}, "verify_transfer must be a whole number from 0"),
    ],
)
def test_invalid_numbers_are_refused(shard_set: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeviceLoader(ShardDataset(shard_set, batch_size=4), device="cpu", **options)  # type: ignore[arg-type]


def test_explain_names_engine_copies_and_conversion_with_reasons(shard_set: Any) -> None:
    data = ShardDataset(shard_set, batch_size=4)

    assert DeviceLoader(data, device="cpu").explain() == (
        f"cpu by the cpu engine, no copy, pixels converted by the workers; {native.advice()}"
    )
    assert DeviceLoader(data, device="cpu", transfer="inline").explain() == (
        f"cpu by the inline engine, blocking copies, pixels converted by the device; {native.advice()}"
    )
