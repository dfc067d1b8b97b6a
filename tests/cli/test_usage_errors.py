"""Invalid values of options, and options that contradict each other, are usage errors: exit code 2, nothing written."""

from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.sets import shard_set

PACK = ["pack", "{source}", "{out}"]
RESHARD = ["reshard", "{set}", "-o", "{out}"]
VALUES = [
    ("--shard-size", "big", "'big' is not a size; write it like 256MB"),
    ("--split", "5", "'5' is not a part of a split; write the parts like train=0.9,val=0.1"),
    ("--split", "a=0.9,b=0.9", "add up to 1.8; they must add up to at most 1"),
    ("--subset", "2", "subset must be above 0 and below 1"),
    ("--to-8bit", "foo", "to_8bit must be scale, clip or window=LOW,HIGH"),
    ("--background", "no colour", "is not a colour"),
]
CASES = [
    *((PACK, *case) for case in VALUES),
    *((RESHARD, *case) for case in VALUES),
    (PACK, "--palette", "ade20k", "is neither a file nor a known palette"),
    (PACK, "--map-ids", "7=", "is neither a file, nor a known map"),
    (["pack"], "--commit", "s3:x", "write a URL with s3://"),
    (["reshard", "{set}"], "--out", "s3:x", "write a URL with s3://"),
    (["bench", "{set}"], "--transform", "blur", "'blur' is not a transform; write one such as train:224"),
    (["bench", "{set}"], "--device", "toaster", "unknown device 'toaster': use auto, mps"),
    (["bench", "{set}"], "--transfer", "magic", "'magic' is not one of 'inline'"),
    (["doctor"], "--device", "meta", "unknown device 'meta': use auto, mps"),
    (["doctor"], "--transfer", "magic", "'magic' is not one of 'inline'"),
    (["index", "{set}"], "--image", "jpg;", "has an empty field name"),
    (["index", "{set}"], "--image", "json:image", "an image must be a field of its own"),
    (["index", "{set}"], "--target", "cls;mask.png", "names both masks and labels"),
    (["ls", "{set}"], "--where", "age>old", "'old' is not a number"),
    (["preview", "{set}", "-o", "{out}.png"], "--transform", "blur", "'blur' is not a transform"),
    (["preview", "{set}"], "--out", "{out}.gif", "a sheet is written as .png"),
    (["stats", "{set}"], "--plot", "{out}.xyz", "charts are written as .png, .svg or .pdf, not as .xyz"),
]
CONTRADICTIONS = [
    ([*PACK, "--max-size", "8", "--resize", "8"], "give one of them"),
    ([*PACK, "--images", "images/{{id}}.jpg", "--masks", "masks"], "write {id} once in images and masks"),
    ([*PACK, "--separator", ""], "separator must not be empty"),
    ([*RESHARD, "--only", "cat", "--except", "dog"], "(--only) or to leave out (--except), not both"),
    ([*RESHARD, "--quality", "90"], "quality needs images that are re-encoded"),
    (["index", "{set}", "--task", "segmentation", "--target", "cls"], "is for classification, not for segmentation"),
    (["stats", "{set}", "--samples", "1", "--sample-weights", "{out}.npy"], "leave out --samples"),
]


def filled(arguments: list[str], folder: Path) -> list[str]:
    places = {"source": folder, "set": shard_set([3]), "out": folder / "out"}
    return [each.format(**places) for each in arguments]


@pytest.mark.parametrize(("arguments", "option", "value", "complaint"), CASES)
def test_an_invalid_value_is_a_usage_error_that_names_the_option(
    tmp_path: Path, arguments: list[str], option: str, value: str, complaint: str
):
    said = run(*filled([*arguments, option, value], tmp_path))

    assert (said.code, said.stdout, list(tmp_path.iterdir())) == (2, "", [])
    error = said.stderr.splitlines()[-1]
    assert error.startswith("Error: Invalid value for ") and f"'{option}'" in error and complaint in error


@pytest.mark.parametrize(("arguments", "complaint"), CONTRADICTIONS)
def test_options_that_contradict_each_other_are_a_usage_error(tmp_path: Path, arguments: list[str], complaint: str):
    said = run(*filled(arguments, tmp_path))

    assert (said.code, said.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert complaint in said.stderr.splitlines()[-1]
