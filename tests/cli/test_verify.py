"""Output of ``verify`` for good, damaged, empty and missing sets, as text and as JSON."""

from pathlib import Path

import pytest

from tests.support.commands import refused, run
from tests.support.damage import copied, flip, row_of
from tests.support.sets import foreign_tars
from tests.support.terminal import shown_on_terminal


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A set with a missing shard, and a changed sample in another shard."""
    folder = copied([2, 2, 2], tmp_path / "set")
    (folder / "s-000001.tar").unlink()
    flip(folder / "s-000002.tar", 1600)
    return folder


def test_a_good_set_has_no_problems_in_the_output(tmp_path: Path):
    folder = copied([2, 2], tmp_path / "set")

    said = run("verify", folder)

    assert (said.code, said.stderr) == (0, f"Next: mps-shards bench {folder}\n")
    assert said.lines(tmp_path) == ["DIR/set: all is well (4 samples in 2 shards, 0.0 MB read)"]
    assert "every image decoded" in run("verify", folder, "--decode").stdout


def test_problems_of_a_damaged_set_are_printed_as_a_table(tmp_path: Path, damaged: Path):
    said = run("verify", damaged)

    assert (said.code, said.stderr) == (1, f"Next: mps-shards repair {damaged} --dry-run\n")
    assert said.lines(tmp_path) == [
        "DIR/set: 3 problems (4 samples in 2 shards, 0.0 MB read)",
        "file          problem         sample  detail",
        "s-000001.tar  missing shard           its 2 samples are missing",
        "s-000002.tar  wrong digest            it has SHA-256 #…, but its manifest says #…",
        "s-000002.tar  damaged sample  s00004  its bytes have CRC-32 #, but the index says #",
    ]


def test_a_damaged_set_as_json(damaged: Path):
    said = run("verify", damaged, "--json")

    assert (said.code, said.stderr) == (1, "")
    [report] = said.json()
    assert report["folder"] == str(damaged)
    assert (report["shards"], report["samples"], report["decoded"]) == (2, 4, False)
    assert [
        (problem["kind"], problem["where"], problem["sample"], problem["key"]) for problem in report["problems"]
    ] == [
        ("missing shard", "s-000001.tar", None, None),
        ("wrong digest", "s-000002.tar", None, None),
        ("damaged sample", "s-000002.tar", 0, "s00004"),
    ]


def test_of_a_thousand_problems_only_some_are_printed(tmp_path: Path):
    folder = copied([60], tmp_path / "set")
    for number in range(60):
        flip(folder / "s-000000.tar", row_of(folder, number)[0] + 520)

    said = run("verify", folder)

    assert len(said.stdout.splitlines()) == 53
    assert said.stdout.endswith("… and 11 more; --json lists all of them\n")
    assert len(run("verify", folder, "--json").json()[0]["problems"]) == 61


def test_good_and_empty_sets_as_json(tmp_path: Path):
    good, empty = copied([2], tmp_path / "good"), copied([], tmp_path / "empty")

    said = run("verify", good, empty, "--json")

    assert said.code == 0
    assert [(report["samples"], report["problems"]) for report in said.json()] == [(2, []), (0, [])]


def test_a_folder_of_sets_is_verified_set_by_set(tmp_path: Path, damaged: Path):
    copied([1], tmp_path / "also")

    said = run("verify", tmp_path)

    assert said.code == 1
    assert [line for line in said.lines(tmp_path) if line.startswith("DIR")] == [
        "DIR/also: all is well (1 sample in 1 shard, 0.0 MB read)",
        "DIR/set: 3 problems (4 samples in 2 shards, 0.0 MB read)",
    ]


def test_verify_of_a_folder_that_is_not_a_set_gives_one_line(tmp_path: Path):
    assert refused("verify", tmp_path / "gone") == f"{tmp_path / 'gone'}: no such directory"
    assert refused("verify", foreign_tars([1])).endswith("for tars of other tools, see mps-shards index")


def test_a_terminal_shows_a_table_and_markup_in_keys_is_not_interpreted(damaged: Path):
    seen = shown_on_terminal("verify", damaged, stream="stdout")

    assert "\x1b[1m" in seen and "damaged sample" in seen and "s00004" in seen
