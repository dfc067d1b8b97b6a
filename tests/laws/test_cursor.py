"""Laws of cursors: they are small and exact, and a cursor of another sequence is never accepted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards import ShardDataset
from mps_shards.errors import ResumeMismatch
from mps_shards.sampling.cursor import Cursor, check_resume
from mps_shards.sampling.order import Shuffle
from tests.support.sets import shard_set

numbers = st.integers(0, 2**64 - 1)
plain = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=64), st.lists(st.floats(allow_nan=False)))
fingerprints = st.dictionaries(st.text(max_size=12), plain, max_size=6)
workers = st.one_of(st.none(), st.tuples(numbers, numbers, numbers))
cursors = st.builds(Cursor, epoch=numbers, position=numbers, fingerprint=fingerprints, worker=workers)


@given(cursors)
def test_a_cursor_survives_json_unchanged(cursor):
    assert Cursor.from_state(json.loads(json.dumps(cursor.state()))) == cursor


@given(cursors, st.integers(0, 2**64 - 1))
def test_a_cursor_is_valid_for_the_sequence_that_it_was_made_from(cursor, beyond):
    samples = cursor.position + beyond

    assert check_resume(cursor, dict(cursor.fingerprint), samples=samples, strict=True) == []
    assert check_resume(cursor, dict(cursor.fingerprint), samples=None, strict=True) == []


@given(cursors, st.data())
def test_the_error_names_every_difference_with_both_values(cursor, data):
    other = {**cursor.fingerprint, "seed": 77, **data.draw(fingerprints)}
    names = {*cursor.fingerprint, *other}
    differing = [name for name in names if cursor.fingerprint.get(name) != other.get(name)]

    found = check_resume(cursor, other, samples=None, strict=False)

    assert len(found) == len(differing)
    assert all(any(line.startswith(f"{name} was ") and " and is " in line for line in found) for name in differing)
    if differing:
        with pytest.raises(ResumeMismatch, match="another sequence"):
            check_resume(cursor, other, samples=None, strict=True)


@given(cursors, st.booleans())
def test_a_position_beyond_the_epoch_is_always_refused(cursor, strict):
    with pytest.raises(ResumeMismatch, match=f"position {cursor.position + 1}, but this epoch has {cursor.position}"):
        moved = Cursor(epoch=0, position=cursor.position + 1, fingerprint=cursor.fingerprint)
        check_resume(moved, cursor.fingerprint, samples=cursor.position, strict=strict)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"version": 2},
        {"version": 1},
        {"version": 1, "epoch": 0, "position": -1, "fingerprint": {}},
        {"version": 1, "epoch": -1, "position": 0, "fingerprint": {}},
        {"version": 1, "epoch": None, "position": 0, "fingerprint": {}},
        {"version": 1, "epoch": 0, "position": 0, "fingerprint": 3},
        {"version": 1, "epoch": 0, "position": 0, "fingerprint": {}, "worker": 5},
        {"version": 1, "epoch": 0, "position": 0, "fingerprint": {}, "worker": [0, 2]},
        {"version": 1, "epoch": float("inf"), "position": 0, "fingerprint": {}},
        {"version": 1, "epoch": 1.5, "position": 0, "fingerprint": {}},
        {"version": 1, "epoch": 1 << 64, "position": 0, "fingerprint": {}},
        {"version": 1, "epoch": 0, "position": 1 << 64, "fingerprint": {}},
    ],
)
def test_a_state_that_is_not_a_cursor_is_refused(state):
    with pytest.raises(ResumeMismatch):
        Cursor.from_state(state)


def test_a_fingerprint_whose_names_are_not_text_does_not_match():
    cursor = Cursor.from_state({"version": 1, "epoch": 0, "position": 0, "fingerprint": [[1, 2], [None, 3]]})

    with pytest.raises(ResumeMismatch, match="belongs to another sequence: 1 was 2 and is None"):
        check_resume(cursor, {"seed": 0}, samples=9, strict=True)


# Cursors of ShardDataset

SET = shard_set([5, 0, 9, 1])
OTHER = shard_set([15], name="t")
SMALL = {"shuffle": True, "seed": 3, "batch_size": 2}


def state_after(batches: int, shards=SET, **options) -> dict:
    data = ShardDataset(shards, **{**SMALL, **options})
    return data.state_dict(batches=batches)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"shuffle": False}, r"shuffle was \[64, 64, 16384\] and is None"),
        ({"shuffle": Shuffle(block=32)}, r"shuffle was \[64, 64, 16384\] and is \[32, 64, 16384\]"),
        ({"remainder": "keep"}, "remainder was 'pad' and is 'keep'"),
        ({"shards": shard_set([5, 0, 9, 1], name="t")}, "set was '.*' and is '.*'"),
        ({"shards": shard_set([5, 0, 9])}, "samples was 15 and is 14; set was"),
        ({"shards": {SET: 1, OTHER: 1}}, r"samples was 15 and is 30; set .* weights was None and is \[1.0"),
        ({"shards": SET / "s-000002.tar"}, "samples was 15 and is 9; set was"),
    ],
)
def test_the_error_about_resuming_another_sequence_says_what_differs(changed, named):
    options = {**SMALL, "shards": SET, **changed}
    data = ShardDataset(options.pop("shards"), **options)

    with pytest.raises(ResumeMismatch, match=named):
        data.load_state_dict(state_after(3))


def test_a_state_that_an_earlier_version_saved_still_resumes():
    saved = {
        "version": 1,
        "epoch": 2,
        "position": 6,
        "fingerprint": {
            "set": state_after(0)["fingerprint"]["set"],
            "samples": 15,
            "seed": 3,
            "shuffle": [64, 64, 16384],
            "remainder": "pad",
        },
        "worker": None,
    }
    data = ShardDataset(SET, **SMALL, keys=True)

    data.load_state_dict(saved)

    assert [keys for *_, keys in data] == [keys for *_, keys in ShardDataset(SET, **SMALL, keys=True, epoch=2)][3:]


@pytest.mark.parametrize("changed", [{"batch_size": 5}, {"batch_size": None}, {"keys": True}, {"drop_last": True}])
def test_a_state_resumes_with_another_batch_size(changed):
    data = ShardDataset(SET, **{**SMALL, **changed})

    data.load_state_dict(state_after(3))

    assert data.state_dict()["position"] == 6


def test_resuming_without_strict_warns_of_what_differs():
    data = ShardDataset(SET, **{**SMALL, "seed": 4})

    with pytest.warns(UserWarning, match="resuming from a state of another sequence: seed was 3 and is 4"):
        data.load_state_dict(state_after(3), strict=False)

    assert data.state_dict()["position"] == 6
    assert data.state_dict()["fingerprint"]["seed"] == 4


@pytest.mark.parametrize(
    "shards",
    [
        pytest.param({shard_set([5], name=f"s{number}"): 1 / 3 for number in range(100)}, id="many sets"),
        pytest.param([str(SET / f"s-{number:06d}.tar") for number in range(4)], id="chosen shards"),
        pytest.param([shard_set([1] * 600) / f"s-{number:06d}.tar" for number in range(1, 600)], id="many shards"),
    ],
)
def test_a_cursor_stays_below_a_kilobyte(shards):
    data = ShardDataset(shards, batch_size=4, shuffle=True, seed=2**64 - 1, epoch=2**63)

    state = data.state_dict()

    assert len(json.dumps(state)) < 1000
    data.load_state_dict(json.loads(json.dumps(state)))
