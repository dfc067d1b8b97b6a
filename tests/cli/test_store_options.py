"""Every command that reads or writes a store takes its time-out and its number of attempts."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mps_shards.cli import _COMMANDS, cli
from mps_shards.cli.shared_options import FOLDER, store_options, store_options_given
from mps_shards.storage.store_options import StoreOptions
from tests.support.commands import run
from tests.support.images import class_folders
from tests.support.proxy import proxy
from tests.support.sets import shard_set
from tools.support import stores

READING = {
    "bench": ("--device", "cpu", "--batches", 2),
    "doctor": ("--device", "cpu", "--quick"),
    "info": (),
    "index": (),
    "ls": (),
    "preview": ("-o", "sheet.png"),
    "repair": (),
    "report": ("-o", "report.html"),
    "reshard": ("-o", "resharded"),
    "stats": (),
    "unpack": ("unpacked",),
    "verify": (),
}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with stores.moto() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in stores.environment(address).items():
            patch.setenv(name, value)
        stores.upload(shard_set([4]), f"s3://{stores.BUCKET}/set")
        yield address


@pytest.fixture
def attempts(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the number of requests to a store that answers each request with 503."""
    monkeypatch.setattr(StoreOptions, "wait_s", lambda options, failures: 0.001)
    with proxy(moto, lambda asked, number: 503) as failing:
        monkeypatch.setenv("AWS_ENDPOINT_URL", failing.url)
        yield failing.asked


@pytest.mark.parametrize("command", READING)
def test_reading_from_a_store_uses_the_given_number_of_attempts(
    command: str, attempts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    url = f"s3://{stores.BUCKET}/set"
    named = ("--set", url) if command == "doctor" else (url,)

    said = run(command, *named, *READING[command], "--store-attempts", 2)

    assert said.code == 1, said
    assert "gave up after 2 attempts; last error: " in said.stderr + said.stdout
    assert len(attempts) % 2 == 0 and max(map(attempts.count, attempts)) <= 2


@pytest.mark.parametrize("arguments", [("pack", "imgs"), ("reshard", shard_set([4]), "-o"), ("pack", "--commit")])
def test_writing_to_a_store_uses_the_given_number_of_attempts(
    arguments: tuple[object, ...], attempts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "imgs")

    said = run(*arguments, f"s3://{stores.BUCKET}/out", "--store-attempts", 2)

    assert said.code == 1, said
    assert "gave up after 2 attempts; last error: " in said.stderr
    assert max(map(attempts.count, attempts)) == 2


def test_a_set_in_a_store_that_recovers_is_read(moto: str, monkeypatch: pytest.MonkeyPatch):
    with proxy(moto, lambda asked, number: 503 if number < 2 else None) as recovering:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recovering.url)
        said = run("info", f"s3://{stores.BUCKET}/set", "--store-attempts", 3, "--store-timeout", 20)

    assert said.code == 0, said
    assert "samples      4" in said.stdout


def test_every_command_has_the_options_for_stores_and_shows_their_defaults():
    for name in _COMMANDS:
        printed = CliRunner().invoke(cli, [name, "--help"]).stdout
        assert "--store-timeout SECONDS" in printed, name
    assert f"[default: {StoreOptions().read_timeout_s:g}]" in printed
    assert f"[default: {StoreOptions().attempts}]" in printed
    assert StoreOptions().give_up_s == 3 * StoreOptions().read_timeout_s  # as the help says


def test_the_time_out_applies_to_connecting_and_reading_at_any_position_of_the_option():
    @click.command()
    @click.argument("folder", type=FOLDER)
    @store_options
    def command(folder: object) -> None:
        options = store_options_given()
        click.echo(f"{options.connect_timeout_s:g} {options.read_timeout_s:g} {options.give_up_s:g}")

    given = [["s3://b/set", "--store-timeout", "2"], ["--store-timeout", "60", "s3://b/set"], ["s3://b/set"]]
    said = [CliRunner().invoke(command, arguments).stdout for arguments in given]

    assert said == ["2 2 6\n", "5 60 180\n", "5 10 30\n"]


@pytest.mark.parametrize("wrong", [("--store-timeout", "0"), ("--store-attempts", "0")])
def test_invalid_values_are_refused(wrong: tuple[str, str]):
    assert run("info", "set", *wrong).code == 2


@pytest.mark.parametrize("endless", ["inf", "nan"])
def test_an_infinite_time_out_is_refused(endless: str):
    said = run("info", "s3://bucket/set", "--store-timeout", endless)

    assert said.code != 0
    assert "must be a positive number of seconds" in said.stderr or "is not in the range" in said.stderr
