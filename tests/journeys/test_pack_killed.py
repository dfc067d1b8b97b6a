"""A pack that is killed by SIGKILL at any time resumes to the bytes of an undisturbed pack."""

from pathlib import Path

from tools.scripts import kill_pack


def test_killed_packs_resume_to_the_same_bytes(photos: Path):
    found = kill_pack.main(["--source", str(photos), "--kills", "4", "--shard-samples", "2"])

    assert found.total() == 4
