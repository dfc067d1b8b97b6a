"""``doctor`` checks the process and a set; tests/inspect/test_device_diagnosis.py tests the device."""

import resource
from pathlib import Path

import pytest

from mps_shards.storage.store_options import StoreOptions
from tests.support.commands import run
from tests.support.sets import shard_set
from tests.support.web import web


def test_limits_and_the_speeds_of_a_process_and_of_a_set_are_printed():
    done = run("doctor", "--device", "cpu", "--set", shard_set([30, 30]))

    assert done.code == 0, done
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    shown = {row[0]: row[1] for row in rows if len(row) == 2}
    assert "may be open at once" in shown["files"]
    assert shown["processes"].startswith("a spawned worker process takes ")
    assert shown["set"].startswith("opened in ")
    assert "53 samples at random by 16 threads" in done.stdout


def test_json_has_the_same_figures_as_the_text():
    found = run("doctor", "--device", "cpu", "--quick", "--set", shard_set([30, 30]), "--json").json()

    assert found["process"]["open_files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert found["process"]["start_s"] is None
    assert found["reading"]["samples"] == 53
    assert found["reading"]["bytes"] > 53 * 100
    assert found["problems"] == []


def test_too_few_open_files_are_a_problem_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (100, 4096))

    done = run("doctor", "--device", "cpu", "--quick")

    assert done.code == 1
    assert "PROBLEM    only 100 files may be open at once: raise the limit with `ulimit -n 4096`" in done.stdout
    assert done.stdout.endswith("1 problem\n")


def test_a_store_without_ranges_is_named():
    with web(shard_set([30, 30])) as server:
        done = run("doctor", "--device", "cpu", "--quick", "--set", server.url)
    with web(shard_set([30, 30]), ranges=False) as server:
        refused_parts = run("doctor", "--device", "cpu", "--quick", "--set", server.url)

    assert done.code == 0, done
    assert "by a ranged request" in done.stdout
    assert refused_parts.code == 1
    assert "PROBLEM    " in refused_parts.stdout
    assert "this server cannot send a part of a file (no HTTP ranges)" in refused_parts.stdout


def test_an_empty_set_has_no_speed():
    done = run("doctor", "--device", "cpu", "--quick", "--set", shard_set([0]))

    assert done.code == 0
    assert "set  " not in done.stdout


def test_a_set_that_cannot_be_read_is_a_problem_beside_the_others(tmp_path: Path):
    done = run("doctor", "--device", "cpu", "--quick", "--set", tmp_path)

    assert done.code == 1
    assert f"PROBLEM    {tmp_path} has no manifest.json; it is not a finished shard set" in done.stdout


def test_a_store_that_does_not_answer_is_a_problem_with_what_to_set(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(StoreOptions, "wait_s", lambda options, failures: 0.01)

    done = run("doctor", "--device", "cpu", "--quick", "--set", "s3://bucket/set")

    assert done.code == 1
    assert "the endpoint http://127.0.0.1:9 does not answer: check AWS_ENDPOINT_URL" in done.stdout
