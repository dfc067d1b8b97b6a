"""Numbers and names are written in one way everywhere."""

import pytest

from mps_shards.wording import percent


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0.0%"), (1, "100.0%"), (0.25, "25.0%"), (0.001, "0.1%"), (2 / 4500, "0.04%"), (1 / 1_280_000, "<0.01%")],
)
def test_only_a_share_of_zero_is_shown_as_zero(share: float, shown: str):
    assert percent(share) == shown
