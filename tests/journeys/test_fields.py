"""Tars of other tools with various fields, streamed and indexed: both give the same samples or the same error."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from mps_shards import DeviceLoader, ShardDataset, SkipRules
from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shardset.indexing import adopt
from mps_shards.shardset.verification import verify
from tests.support.batches import assert_same
from tests.support.commands import refused, run
from tests.support.foreign import Samples, by_tarfile, by_webdataset
from tests.support.images import encoded, expected, picture, tiny_jpeg, write

PHOTO, MASK = encoded(picture("RGB", 9, 8), "PNG"), encoded(picture("L", 9, 8), "PNG")


def img2dataset(count: int) -> Samples:
    """Return a sample as img2dataset writes it: a photograph, its caption, and metadata."""
    return {
        f"{n:09d}": {
            "jpg": tiny_jpeg(n),
            "txt": b"a cat",
            "json": json.dumps({"url": "https://x/y.jpg", "width": 8, "label": n % 3, "name": "cdf"[n % 3]}).encode(),
        }
        for n in range(count)
    }


def rows(data: ShardDataset) -> list[tuple[str, bytes, list[int]]]:
    return [(key, image.numpy().tobytes(), np.asarray(target).tolist()) for image, target, key in data]


def tars(folder: Path, held: Samples) -> Path:
    folder.mkdir()
    by_webdataset(folder / "0.tar", dict(list(held.items())[: len(held) // 2]))
    by_tarfile(folder / "1.tar", dict(list(held.items())[len(held) // 2 :]))
    return folder


@pytest.mark.parametrize(
    ("held", "image", "target", "task", "first"),
    [
        (img2dataset(6), None, "none", "unlabeled", -1),
        (img2dataset(6), "jpg", "json:label", "classification", 0),
        ({k: {"JPG": tiny_jpeg(), "cls": b"4"} for k in "abcd"}, "jpg;png", "cls", "classification", 4),
        ({k: {"input.png": PHOTO, "seg.png": MASK} for k in "abcd"}, "input.png", "seg.png", "segmentation", None),
        ({k: {"png": MASK, "jpg": tiny_jpeg(), "webp": PHOTO} for k in "abcd"}, "webp", "png", "segmentation", None),
    ],
)
def test_streamed_and_indexed_give_the_same(tmp_path, held, image, target, task, first):
    folder = tars(tmp_path / "tars", held)
    streamed = ShardDataset(folder, batch_size=None, keys=True, image=image, target=target)
    given = rows(streamed)

    report = adopt(folder, choice=FieldChoice.parsed(image, target))

    assert (report.task, streamed.source.task, len(given)) == (task, task, len(held))
    assert first is None or given[0][2] == first
    assert rows(ShardDataset(folder, batch_size=None, keys=True)) == given  # the manifest knows the choice
    assert verify(folder, decode=True).problems == ()
    assert run("ls", folder, "--json").stdout.count("\n") == len(held)
    with DeviceLoader(ShardDataset(folder, batch_size=2, keys=True), device="cpu", num_threads=2) as loader:
        assert_same(loader, ShardDataset(folder, batch_size=2, keys=True))


def test_an_indexed_set_can_be_read_with_other_fields(tmp_path):
    folder = tars(tmp_path / "tars", {k: {"jpg": tiny_jpeg(1), "png": PHOTO, "cls": b"1"} for k in "abcd"})
    adopt(folder, choice=FieldChoice.parsed("jpg", None))

    (image, target), *_ = ShardDataset(folder, batch_size=None, image="png", target="none")

    assert target == -1 and image.numpy().tobytes() == expected(PHOTO).numpy().tobytes()


def test_labels_that_are_names_need_the_class_names(tmp_path):
    folder = tars(tmp_path / "tars", img2dataset(6))
    write(tmp_path, {"names.txt": b"cdf\nc\nd\nf\n"})

    assert "The texts are read as captions" in run("index", folder, "--out", tmp_path / "captions").stdout
    assert "'c', which is not a class number" in refused("index", folder, "--target", "json:name")
    said = run("index", folder, "--target", "json:name", "--classes", tmp_path / "names.txt")

    assert (
        "Read as classification, target json:name; the samples have the fields jpg (6), json (6), txt (6)"
        in said.stdout
    )
    assert [row[2] for row in rows(ShardDataset(folder, batch_size=None, keys=True))] == [1, 2, 3, 1, 2, 3]
    assert [line.split("\t")[0] for line in run("ls", folder).stdout.splitlines()] == ["c", "d", "f"] * 2
    assert "options      fields jpg,json,txt, target json:name" in run("info", folder).stdout
    run("unpack", folder, tmp_path / "files")
    assert (tmp_path / "files" / "d" / "000000001.jpg").read_bytes() == tiny_jpeg(1)
    assert "is read with chosen fields (target json:name)" in refused("reshard", folder, "--out", tmp_path / "new")


def test_guessed_fields_are_printed_and_ignored_fields_give_a_warning(tmp_path, caplog):
    folder = tars(tmp_path / "tars", img2dataset(4))
    bare = {key: {"jpg": held["jpg"], "json": held["json"]} for key, held in img2dataset(4).items()}

    with caplog.at_level(logging.INFO, "mps_shards"):
        list(ShardDataset(folder, batch_size=None))
        list(ShardDataset(tars(tmp_path / "bare", bare), batch_size=None))
        list(ShardDataset(folder, batch_size=None, target="json:label"))

    aside = 'to choose another target, pass target=, such as "json:label" or "none"'
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", f"reading as captions: image jpg, target txt; not used: json; {aside}"),
        ("WARNING", f"reading as unlabeled: image jpg, target none; not used: json; {aside}"),
        ("INFO", "reading as classification: image jpg, target json:label; not used: txt"),
    ]


def test_an_ambiguous_sample_is_a_bad_sample(tmp_path):
    held = {"a": {"jpg": tiny_jpeg(), "png": PHOTO, "cls": b"0"}, "b": {"jpg": tiny_jpeg(), "cls": b"1"}}
    folder = tars(tmp_path / "tars", held)

    with pytest.raises(DecodeError, match=r"sample 'a' of shard 0.tar holds 2 images .*image=\"jpg\""):
        list(ShardDataset(folder, batch_size=None))
    skipping = ShardDataset(folder, batch_size=None, keys=True, on_bad_sample=SkipRules(max_bad=1))
    assert [row[0] for row in rows(skipping)] == ["b"] and skipping.skipped.count == 1
    with pytest.raises(ConfigError, match="names both masks and labels"):
        ShardDataset(folder, batch_size=None, target="cls;mask.png")


def test_texts_of_samples_that_have_no_other_target_are_captions_streamed_and_indexed(tmp_path):
    folder = tars(tmp_path / "tars", img2dataset(6))
    streamed = ShardDataset(folder, batch_size=4)

    assert [targets for _, targets in streamed] == [["a cat"] * 4, ["a cat"] * 2]
    assert streamed.task == "captions"

    assert "Read as captions, target txt" in run("index", folder).stdout
    indexed = ShardDataset(folder, batch_size=4)
    assert indexed.task == "captions"
    assert [targets for _, targets in indexed] == [["a cat"] * 4, ["a cat"] * 2]
    assert not verify(folder, decode=True).problems
    indexed.close()


def test_a_sample_with_only_a_text_in_a_labelled_set_is_a_bad_sample(tmp_path):
    held = {f"{n}": {"jpg": tiny_jpeg(n), "txt": b"a cat", "cls": b"1"} for n in range(5)}
    del held["0"]["cls"]
    folder = tars(tmp_path / "tars", held)

    with pytest.raises(DecodeError, match="no label, but the set has labels"):
        list(ShardDataset(folder, batch_size=None))
    skipping = ShardDataset(folder, batch_size=None, on_bad_sample=SkipRules(max_bad=1))
    assert [target for _, target in skipping] == [1] * 4
    assert "name one, or none, with --target" in refused("index", folder)


def test_labels_after_many_captions_are_an_error_and_missing_captions_are_named(tmp_path):
    held = {f"{n:03d}": {"jpg": tiny_jpeg(), "txt": b"a cat"} for n in range(70)}
    held["069"]["cls"] = b"1"
    late = tmp_path / "late"
    late.mkdir()
    by_tarfile(late / "0.tar", held)

    with pytest.raises(ConfigError, match=r"sample '069' .* has a target \(cls\)"):
        list(ShardDataset(late, batch_size=None))

    del held["069"]["cls"], held["010"]["txt"]
    some = tmp_path / "some"
    some.mkdir()
    by_tarfile(some / "0.tar", held)
    assert "only 69 of the 70 samples" in (said := refused("index", some)) and "none, with --target" in said
    with pytest.raises(DecodeError, match="'010'"):
        list(ShardDataset(some, batch_size=None))
