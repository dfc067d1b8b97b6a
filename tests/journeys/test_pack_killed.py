"""A pack that is killed with -9 at any moment goes on to the very bytes of an undisturbed one."""

from pathlib import Path

from tools.scripts import kill_pack


def test_packs_that_are_killed_go_on_to_the_same_bytes(photos: Path):
    found = kill_pack.main(["--source", str(photos), "--kills", "4", "--shard-samples", "2"])

    assert found.total() == 4
