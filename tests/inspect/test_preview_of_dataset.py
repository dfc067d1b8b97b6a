"""Display of a data set: as one line, as a table in a notebook, and as pictures."""

from pathlib import Path

import pytest
from PIL import Image

from mps_shards import ShardDataset, SkipRules, classify, pack
from mps_shards.errors import ConfigError
from tests.support.sets import foreign_tars, shard_set


@pytest.mark.parametrize("transform", [None, classify.train(16)])
def test_a_preview_is_a_picture_that_also_shows_what_the_transform_does(
    photos: Path, tmp_path: Path, transform: object
) -> None:
    data = ShardDataset(pack(photos, tmp_path / "set").out, batch_size=4, transform=transform)  # type: ignore[arg-type]

    sheet = data.preview(4, times=2)
    plain = data.preview(4, times=0)

    assert isinstance(sheet, Image.Image)
    assert (sheet.width > plain.width) == (transform is not None)
    data.close()


def test_a_preview_of_tars_without_an_index_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="mps-shards index"):
        ShardDataset(foreign_tars([4]), batch_size=2).preview()


def test_skipped_samples_are_in_the_line_and_in_the_table_of_a_data_set() -> None:
    data = ShardDataset(shard_set([12], broken=[3]), batch_size=4, on_bad_sample=SkipRules(policy="skip", max_bad=None))
    assert "skipped" not in repr(data)

    list(data)

    assert repr(data).endswith("world_size=1, skipped=1)") and "12 samples, batch_size=4" in repr(data)
    assert "<th style='text-align:left'>skipped</th><td>1</td>" in data._repr_html_()
