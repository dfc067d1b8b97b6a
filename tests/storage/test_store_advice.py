"""Advice for errors of stores: missing credentials, region, bucket or endpoint."""

import re

import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_advice import advice_for
from mps_shards.storage.store_options import StoreOptions


@pytest.mark.parametrize(
    ("url", "error", "environment", "advice"),
    [
        ("s3://b", "PUT http://169.254.169.254/latest/api/token", {}, "no credentials .* AWS_ACCESS_KEY_ID and"),
        (
            "gs://b",
            "GET http://169.254.169.254/x",
            {},
            "no credentials .* GOOGLE_APPLICATION_CREDENTIALS",
        ),
        ("az://b", "Account must be specified", {}, "set AZURE_STORAGE_ACCOUNT_NAME"),
        ("s3://b", "<Code>InvalidAccessKeyId</Code>", {}, "the credentials were refused: set AWS_ACCESS_KEY_ID"),
        ("s3://b", "<Code>PermanentRedirect</Code>", {}, "another region than us-east-1: set AWS_REGION"),
        ("s3://b", "AuthorizationHeaderMalformed", {"AWS_REGION": "eu-west-1"}, "another region than eu-west-1"),
        ("s3://b", "<Code>NoSuchBucket</Code>", {}, "no such bucket: check its name, AWS_REGION and AWS_ENDPOINT_URL"),
        ("gs://b", "NoSuchBucket", {}, "there is no such bucket: check its name$"),
        ("s3://b", "Connection refused", {}, "Amazon S3 does not answer: .* AWS_ENDPOINT_URL"),
        ("s3://b", "Timeout", {"AWS_ENDPOINT_URL": "http://me:word@h:9"}, "^the endpoint http://h:9 does not answer"),
    ],
)
def test_advice_names_what_to_set(url: str, error: str, environment: dict[str, str], advice: str):
    found = advice_for(url, error, environment)

    assert found is not None
    assert re.search(advice, found)
    assert "word" not in found


def test_other_errors_get_no_advice():
    assert advice_for("s3://b", "status code: 503", {}) is None
    assert advice_for("http://host", "Connection refused", {}) is None


def test_a_store_without_an_account_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(StorageError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        open_folder("az://container/set").read("x", 0, 1)


def test_an_endpoint_that_does_not_listen_is_named(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    folder = open_folder("s3://bucket/set", options=StoreOptions(attempts=2, first_wait_s=0.01))

    with pytest.raises(StorageError, match=r"the endpoint http://127\.0\.0\.1:9 does not answer"):
        folder.read("x", 0, 1)
