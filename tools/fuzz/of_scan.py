"""Fuzz target: the scan of a whole tar, which index, verify and repair use."""

from mps_shards.shards.sample_index import check_rows
from mps_shards.shards.tar import sample_from
from mps_shards.shardset.scan import scan_shard
from mps_shards.storage.local_disk import local_file
from tools.fuzz.examples import folder, tars
from tools.fuzz.of_tar import with_checksums

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return whole tars."""
    return tars()


def check(data: bytes) -> None:
    """Check that faults are reported and not raised, and that every sample of a tar without faults can be read."""
    path = folder() / "scanned.tar"
    for content in (data, with_checksums(data)):
        path.write_bytes(content)
        scan = scan_shard(local_file(path))
        check_rows(path.name, scan.rows, shard_bytes=len(content))
        assert len(scan.rows) == len(scan.hashes) == len(scan.labels) == scan.record.samples
        for offset, size, _ in () if scan.faults else scan.rows.tolist():
            assert sample_from(content[offset : offset + size], shard=path.name).key
