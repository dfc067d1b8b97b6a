"""Python samples that cannot be packed, or leave a doubt, are named with the cause."""

from pathlib import Path

import numpy as np
import pytest

from mps_shards import pack
from mps_shards.errors import ShardsError

GRAY = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ([(GRAY, None), (GRAY, 1)], r"1 of 2 samples have no label \(None\), such as 00000000.png"),
        ([(GRAY, float("nan"))], "the target of sample 0 is nan, which is no number to predict"),
        ([(GRAY, -1)], "has the label -1; class numbers begin at 0"),
        ([(np.zeros((8, 8, 3)), 0)], "if a transform such as ToTensor made it, leave the transform out"),
        ([(np.zeros((2, 3, 8, 8)), 0)], r"it looks like a batch: give single samples.*loader\.dataset"),
        ((np.zeros((3, 8, 8, 3), np.uint8), np.zeros(2, int)), "X holds 3 images, but y 2 targets"),
        ([(GRAY, np.zeros((4, 8), np.uint8))], "the mask of samples/00000000.png: the label map is 8 x 4 pixels"),
    ],
)
def test_samples_that_cannot_be_packed_say_why(samples: object, complaint: str, tmp_path: Path):
    with pytest.raises(ShardsError, match=complaint):
        pack(samples, tmp_path / "out")


def test_an_error_of_the_data_set_names_the_sample(tmp_path: Path):
    class Broken(list):
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            if index == 2:
                raise KeyError("gone")
            return super().__getitem__(index)

    with pytest.raises(KeyError) as caught:
        pack(Broken([(GRAY, 0)] * 4), tmp_path / "out")

    assert caught.value.__notes__ == ["raised by sample 2 of 4 that the data set states"]
