"""Fixtures of the tests from end to end."""

from collections.abc import Iterator

import pytest

from tools.support import stores


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of an empty S3 store in this process, which the environment names as the store to use."""
    with stores.moto() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in stores.environment(address).items():
            patch.setenv(name, value)
        yield address
