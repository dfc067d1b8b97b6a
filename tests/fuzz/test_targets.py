"""A short round of every fuzzing target, without atheris: its seeds, changed at random. See ``make fuzz``."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.fuzz.roster import TARGETS, target

# Where it begins, as a part of the whole; how many bytes it replaces; by what.
Edit = tuple[float, int, bytes]
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=12)), max_size=4)


def changed(content: bytes, edits: list[Edit]) -> bytes:
    for where, size, replacement in edits:
        start = int(where * len(content))
        content = content[:start] + replacement + content[start + size :]
    return content


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_nothing_at_all_are_no_defect(name: str) -> None:
    for seed in [b"", *target(name).seeds()]:
        target(name).check(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(choice=st.integers(0, 99), edits=EDITS, cut=st.floats(0.5, 1))
def test_changed_seeds_are_no_defect(name: str, choice: int, edits: list[Edit], cut: float) -> None:
    seeds = target(name).seeds()
    content = changed(seeds[choice % len(seeds)], edits)

    target(name).check(content[: int(cut * len(content)) + 1])
