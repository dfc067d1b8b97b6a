"""Each request of an upload in parts fails, or loses its response: the object is complete, or as it was before."""

from pathlib import Path

import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.folder import WritableFolder
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_options import StoreOptions
from tests.support.proxy import proxy
from tools.support import stores

NEW = bytes(range(256)) * (9 << 12)  # 9 MB: two parts
OLD = b"old"
# Parts of the addresses of the requests, which the S3 protocol fixes
REQUESTS = ["POST ?uploads", "PUT partNumber=1", "PUT partNumber=2", "POST ?uploadId", "HEAD"]


def uploaded(folder: WritableFolder) -> str:
    """Upload the new content; return the error, or an empty text."""
    try:
        with folder.writing("x.tar") as file:
            file.write(NEW)
    except StorageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("status", "times"), [(403, 1), (500, 1), (-500, 1), (500, 1000)])
@pytest.mark.parametrize("request_kind", REQUESTS)
def test_an_upload_in_parts_is_complete_or_leaves_the_old_object(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, request_kind: str, status: int, times: int
):
    url = f"s3://{stores.BUCKET}/{tmp_path.name}"
    open_folder(url).write("x.tar", OLD)
    method, query = (request_kind + " ").split(" ")[:2]
    left = times

    def fault(asked: str, number: int) -> int | None:
        nonlocal left
        is_meant = asked.startswith(f"{method} ") and query in asked
        left -= is_meant
        return status if is_meant and left >= 0 else None

    with proxy(address, fault) as between, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", between.url)
        error = uploaded(open_folder(url, options=StoreOptions(attempts=2, first_wait_s=0.01)))
    stored = open_folder(url).read_file("x.tar", max_bytes=len(NEW))

    assert between.failed
    assert stored in (OLD, NEW)
    if error:
        assert f"{url}/x.tar" in error
    else:
        assert stored == NEW
    assert bool(error) == (times > 1 or status == 403), error
    assert uploaded(open_folder(url)) == "" and open_folder(url).read_file("x.tar", max_bytes=len(NEW)) == NEW
