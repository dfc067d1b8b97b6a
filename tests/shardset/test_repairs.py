"""Repair keeps every sample that is provably complete, reports the lost samples, and deletes nothing."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import ShardDataset
from mps_shards.errors import DataError, ManifestError
from mps_shards.shardset.contents import listed
from mps_shards.shardset.opening import open_set
from mps_shards.shardset.repairs import QUARANTINE, RepairReport, repair
from mps_shards.shardset.verification import verify
from mps_shards.storage.local_disk import LocalFolder
from tests.support.damage import copied, cut, flip, row_of, swap
from tests.support.files import contents
from tests.support.sets import foreign_tars, keys, shard_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied([4, 4, 4], tmp_path / "set")


def held(folder: Path) -> list[str]:
    """Return the keys of a set, after checking that the set has no problems."""
    assert verify(folder).problems == ()
    stored = open_set(LocalFolder(folder), whole=True)
    return [sample.key for shard in stored.manifest.shards for sample in listed(stored, shard.name)]


def steps(report: RepairReport) -> list[tuple[str, str]]:
    return [(step.what, step.where) for step in report.steps if step.what != "rebuild"]


@pytest.mark.parametrize("counts", [(4, 4), (), (3, 0)])
def test_a_good_set_is_not_touched(tmp_path: Path, counts: tuple[int, ...]):
    folder = copied(counts, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    report = repair(folder)

    assert (report.steps, report.lost, report.after) == ((), (), sum(counts))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_dry_run_changes_nothing_and_reports_the_same_steps(folder: Path):
    flip(folder / "s-000001.tar", 1100)
    (folder / "s-000002.tar").unlink()
    before = contents(folder)

    planned = repair(folder, dry_run=True)

    assert contents(folder) == before
    done = repair(folder)
    assert (planned.steps, planned.lost, planned.after) == (done.steps, done.lost, done.after)


def test_a_flipped_bit_costs_one_sample(folder: Path):
    offset, _, _ = row_of(folder, 5)
    flip(folder / "s-000001.tar", offset + 1100)
    damaged = (folder / "s-000001.tar").read_bytes()

    report = repair(folder)

    assert [(loss.shard, loss.sample, loss.key, loss.samples) for loss in report.lost] == [
        ("s-000001.tar", 1, "s00005", 1)
    ]
    assert held(folder) == keys([0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    assert (report.before, report.after) == (12, 11)
    assert (folder / QUARANTINE / "s-000001.tar").read_bytes() == damaged
    assert len(list(ShardDataset(folder, batch_size=None))) == 11


@settings(max_examples=25)
@given(place=st.floats(0, 1, exclude_max=True), truncate=st.booleans())
def test_no_sound_sample_is_lost_for_any_position_of_the_damage(
    tmp_path_factory: pytest.TempPathFactory, place: float, truncate: bool
):
    folder = copied([4, 4], tmp_path_factory.mktemp("repair") / "set")
    shard = folder / "s-000001.tar"
    byte = int(place * shard.stat().st_size)
    (cut if truncate else flip)(shard, byte)
    rows = [row_of(folder, number) for number in range(4, 8)]
    hit = [
        n
        for n, (start, size, _) in enumerate(rows, 4)
        if (start + size > byte if truncate else start <= byte < start + size)
    ]

    report = repair(folder)

    assert held(folder) == keys([number for number in range(8) if number not in hit])
    assert sum(loss.samples for loss in report.lost) == len(hit)


def test_without_salvage_the_whole_damaged_shard_is_lost(folder: Path):
    flip(folder / "s-000001.tar", 1100)

    report = repair(folder, salvage=False)

    assert held(folder) == keys([0, 1, 2, 3, 8, 9, 10, 11])
    assert [(loss.shard, loss.samples) for loss in report.lost] == [("s-000001.tar", 4)]


def test_a_missing_shard_is_lost_and_counted(folder: Path):
    (folder / "s-000000.tar").unlink()

    report = repair(folder)

    assert [(loss.shard, loss.samples) for loss in report.lost] == [("s-000000.tar", 4)]
    assert held(folder) == keys(range(4, 12))


def test_swapped_shards_get_their_names_back_and_the_set_is_as_before(folder: Path):
    before = contents(folder)
    swap(folder / "s-000000.tar", folder / "s-000002.tar")

    report = repair(folder)

    assert steps(report) == [("restore", "s-000000.tar"), ("restore", "s-000002.tar")]
    assert report.lost == ()
    assert contents(folder) == before


def test_a_renamed_shard_gets_its_name_back(folder: Path):
    before = contents(folder)
    (folder / "s-000001.tar").rename(folder / "other.tar")

    repair(folder)

    assert contents(folder) == before


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_bad_index_is_rebuilt_as_it_was(folder: Path, damage: str):
    before = contents(folder)
    flip(folder / "index.npy", 150) if damage == "flipped" else (folder / "index.npy").unlink()

    report = repair(folder)

    assert [step.what for step in report.steps] == ["rebuild"]
    assert contents(folder) == before


def test_a_malformed_manifest_is_rebuilt_if_task_and_classes_can_be_read(folder: Path):
    before = contents(folder)
    (folder / "manifest.json").write_bytes(before["manifest.json"].replace(b'"samples": 12', b'"samples": 99'))

    report = repair(folder)

    assert contents(folder) == before
    assert (report.before, report.after) == (None, 12)


def test_an_unreadable_manifest_is_an_error_that_says_what_to_do(folder: Path):
    (folder / "manifest.json").write_bytes(b"{")

    with pytest.raises(ManifestError) as raised:
        repair(folder)

    assert "mps-shards index --classes" in raised.value.__notes__[0]


def test_a_sound_shard_that_the_manifest_does_not_list_is_added(folder: Path):
    shutil.copy(shard_set([2], name="new") / "s-000000.tar", folder / "extra.tar")

    report = repair(folder)

    assert steps(report) == [("adopt", "extra.tar")]
    assert held(folder) == [*keys(range(12)), *keys(range(2), name="new")]


def test_a_copy_of_a_shard_is_quarantined(folder: Path):
    before = contents(folder)
    shutil.copy(folder / "s-000001.tar", folder / "copy.tar")

    report = repair(folder)

    assert steps(report) == [("quarantine", "copy.tar")]
    assert {name: content for name, content in contents(folder).items() if QUARANTINE not in name} == before


def test_a_shard_overwritten_by_another_is_reported_as_lost(folder: Path):
    shutil.copy(folder / "s-000001.tar", folder / "s-000002.tar")

    report = repair(folder)

    assert [(loss.shard, loss.samples) for loss in report.lost] == [("s-000002.tar", 4)]
    assert held(folder) == keys(range(8))


def test_a_file_that_is_not_a_tar_is_quarantined(folder: Path):
    (folder / "x.tar").write_bytes(b"rubbish")

    assert steps(repair(folder)) == [("quarantine", "x.tar")]
    assert held(folder) == keys(range(12))


def test_files_in_the_quarantine_are_kept(folder: Path):
    for _ in range(2):
        (folder / "x.tar").write_bytes(b"rubbish")
        repair(folder)

    assert sorted(path.name for path in (folder / QUARANTINE).iterdir()) == ["x.tar", "x.tar.1"]


def test_files_of_an_interrupted_run_are_quarantined(folder: Path):
    (folder / "s-000003.tar.part").write_bytes(b"half")

    repair(folder)

    assert held(folder) == keys(range(12))
    assert (folder / QUARANTINE / "s-000003.tar.part").read_bytes() == b"half"


def test_a_set_without_a_sound_shard_is_not_changed(tmp_path: Path):
    folder = copied([2], tmp_path / "set")
    (folder / "s-000000.tar").write_bytes(b"rubbish")
    before = contents(folder)

    with pytest.raises(DataError, match="holds no sound shard; nothing was changed"):
        repair(folder)

    assert contents(folder) == before


def test_tars_without_a_manifest_are_not_repaired():
    with pytest.raises(ManifestError, match="see mps-shards index"):
        repair(foreign_tars([2]))


def test_exchanged_class_names_are_not_accepted_without_proof(folder: Path):
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(
        manifest.replace(b'"cat"', b'"x"').replace(b'"dog"', b'"cat"').replace(b'"x"', b'"dog"')
    )
    before = contents(folder)

    with pytest.raises(ManifestError) as raised:
        repair(folder)

    assert contents(folder) == before
    assert "does not match its content" in str(raised.value)
    assert "cannot prove the task classification and the order of its 3 class names (dog, cat, fox)" in str(
        raised.value
    )
    assert "--trust-manifest" in str(raised.value)
    report = repair(folder, trust_manifest=True)
    assert report.trusted == ("the task classification", "the order of its 3 class names (dog, cat, fox)")
    assert held(folder) == keys(range(12))


def test_a_malformed_manifest_beside_damaged_shards_proves_nothing(folder: Path):
    content = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(content.replace(b'"samples": 12', b'"samples": 99'))
    cut(folder / "s-000002.tar", 9000)

    with pytest.raises(ManifestError, match="cannot prove the task classification"):
        repair(folder)
    assert repair(folder, trust_manifest=True).trusted
