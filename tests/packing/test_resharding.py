"""Resharding copies every wanted sample once, with an unchanged image and the label of its class name."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, ShardError
from mps_shards.packing.resharding import reshard
from mps_shards.shardset.contents import listed
from mps_shards.shardset.indexing import adopt
from mps_shards.shardset.opening import open_set
from mps_shards.shardset.unpacking import unpack
from mps_shards.shardset.verification import verify
from tests.support import leaks
from tests.support.damage import copied, flip, manifest_of
from tests.support.files import contents
from tests.support.images import encoded, picture, tiny_jpeg, write
from tests.support.sets import keys, shard_set


def held(folder: Path) -> list[tuple[str, str]]:
    """Verify a set and return its keys and class names."""
    assert verify(folder, decode=True).problems == ()
    stored = open_set(folder, whole=True)
    samples = [sample for shard in stored.manifest.shards for sample in listed(stored, shard.name)]
    return [(sample.key, stored.manifest.classes[sample.label]) for sample in samples]


def counts(folder: Path) -> list[int]:
    return [shard.samples for shard in manifest_of(folder).shards]


def packed(folder: Path, names: Sequence[str]) -> Path:
    """Make a set of images with different contents."""
    files = {name: tiny_jpeg(seed) for seed, name in enumerate(sorted(names), len(folder.name))}
    return pack(write(folder / "imgs", files), folder / "set", shuffle=False).out


def test_one_set_in_other_shards_keeps_order_keys_and_labels(tmp_path: Path):
    report = reshard([shard_set([5, 5])], tmp_path / "out", shard_samples=4)

    assert held(tmp_path / "out") == held(shard_set([5, 5]))
    assert counts(tmp_path / "out") == [4, 4, 2]
    assert (report.ignored, report.classes) == ({}, ("cat", "dog", "fox"))


def test_no_shard_exceeds_the_requested_size(tmp_path: Path):
    reshard([shard_set([9])], tmp_path / "out", shard_size=9000)

    sizes = [shard.bytes for shard in manifest_of(tmp_path / "out").shards]
    assert max(sizes) <= 9000 < sizes[0] + 3072  # 3072 bytes is the largest sample
    assert sum(counts(tmp_path / "out")) == 9


def test_resharding_a_packed_set_gives_the_same_bytes(tmp_path: Path):
    source = pack(write(tmp_path / "imgs", {f"{c}/{n}.jpg": tiny_jpeg(n) for c in "ab" for n in range(4)})).out

    reshard([source], tmp_path / "out")

    tars = {name: content for name, content in contents(source).items() if name.endswith(".tar")}
    assert tars.items() <= contents(tmp_path / "out").items()
    assert contents(source)["index.npy"] == contents(tmp_path / "out")["index.npy"]


def test_samples_of_merged_sets_keep_the_order_of_the_sets(tmp_path: Path):
    reshard([shard_set([3], name="a"), shard_set([2, 2], name="b")], tmp_path / "out")

    assert [key for key, _ in held(tmp_path / "out")] == [*keys(range(3), name="a"), *keys(range(4), name="b")]


def test_classes_are_matched_by_name_and_renumbered(tmp_path: Path):
    one = packed(tmp_path / "one", ["cat/1.jpg", "dog/1.jpg"])
    two = packed(tmp_path / "two", ["ape/2.jpg", "dog/2.jpg"])

    report = reshard([one, two], tmp_path / "out")

    assert report.classes == ("cat", "dog", "ape")
    assert held(tmp_path / "out") == [("cat/1", "cat"), ("dog/1", "dog"), ("ape/2", "ape"), ("dog/2", "dog")]


@pytest.mark.parametrize("options", [{"only": ["fox", "cat"]}, {"without": ["dog"]}], ids=str)
def test_filtering_keeps_only_the_named_classes(tmp_path: Path, options: dict):
    report = reshard([shard_set([4, 4])], tmp_path / "out", **options)

    assert report.classes == ("cat", "fox")
    assert held(tmp_path / "out") == [sample for sample in held(shard_set([4, 4])) if sample[1] != "dog"]
    assert report.ignored == {"of other classes": 3}


def test_shuffling_mixes_by_seed(tmp_path: Path):
    orders = []
    for number, seed in enumerate([1, 1, 2]):
        out = tmp_path / str(number)
        reshard([shard_set([8, 8])], out, shuffle=True, seed=seed, shard_samples=5)
        orders.append(held(out))

    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(held(shard_set([8, 8])))
    assert contents(tmp_path / "0") == contents(tmp_path / "1")


@settings(max_examples=10)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    shares=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    shuffle=st.booleans(),
)
def test_splits_hold_every_sample_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shares: list[int], shuffle: bool
):
    out = tmp_path_factory.mktemp("split") / "out"
    split = {f"part-{number}": Fraction(share, sum(shares)) for number, share in enumerate(shares)}
    text = ",".join(f"{name}={share}" for name, share in split.items())
    samples = sum(sizes)
    try:
        reshard([shard_set(sizes)], out, split=text, shuffle=shuffle)
    except ConfigError as error:
        assert "would get none" in str(error)
        assert min(split.values()) * samples < 1
        assert not out.exists()
        return

    parts = [held(out / name) for name in split]
    assert sorted(sample for part in parts for sample in part) == held(shard_set(sizes))
    for part, share in zip(parts, split.values(), strict=True):
        assert abs(len(part) - samples * share) <= 1
        assert shuffle or part == sorted(part)
        for name in ("cat", "dog", "fox"):  # each part has its share of every class
            of_class = sum(label == name for _, label in held(shard_set(sizes)))
            assert abs(sum(label == name for _, label in part) - of_class * share) <= 1


def test_equal_keys_are_refused_unless_a_prefix_distinguishes_them(tmp_path: Path):
    one, two = copied([3], tmp_path / "day.1"), copied([3], tmp_path / "day2")

    with pytest.raises(
        DataError, match=r"day\.1 and .*day2 both hold the key 's00000'; make the keys distinct with --prefix"
    ):
        reshard([one, two], tmp_path / "out")
    assert not (tmp_path / "out").exists()

    reshard([one, two], tmp_path / "out", prefix=True)
    assert [key for key, _ in held(tmp_path / "out")] == [
        *(f"day%2E1/{key}" for key in keys(range(3))),
        *(f"day2/{key}" for key in keys(range(3))),
    ]


def test_a_resharded_set_unpacks_to_the_same_files(tmp_path: Path):
    files = {f"{c}/{n}.JPG": tiny_jpeg(n) for c in "ab" for n in range(4)}
    source = pack(write(tmp_path / "imgs", files), keys="name").out

    reshard([source], tmp_path / "out", shuffle=True, shard_samples=3)
    unpack(tmp_path / "out", tmp_path / "again")

    assert contents(tmp_path / "again") == files


def test_keys_that_were_repeated_before_may_be_repeated_afterwards(tmp_path: Path):
    for number in range(2):
        write(tmp_path / "tars", {f"{number}.tar": (shard_set([3]) / "s-000000.tar").read_bytes()})
    adopt(tmp_path / "tars", classes=["cat", "dog", "fox"])

    reshard([tmp_path / "tars"], tmp_path / "out", shard_samples=2)

    assert [key for key, _ in held(tmp_path / "out")] == keys([0, 1, 2, 0, 1, 2])


def test_the_tars_of_the_sets_are_closed_before_an_error_is_handled(tmp_path: Path):
    folder = copied([3], tmp_path / "set")
    flip(folder / "s-000000.tar", 520)
    before = leaks.files()

    with pytest.raises(ShardError, match="is damaged"):
        try:
            reshard([folder], tmp_path / "out")
        except ShardError:  # the traceback keeps every frame of the call alive
            assert [file for file in leaks.files() - before if ".tar" in file] == []
            raise


def test_a_damaged_sample_stops_resharding_and_leaves_no_files(tmp_path: Path):
    source = copied([3, 3], tmp_path / "set")
    flip(source / "s-000001.tar", 1700)

    with pytest.raises(ShardError, match=r"sample number 0 of .* is damaged"):
        reshard([source], tmp_path / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_an_interrupted_call_is_continued_by_the_same_call(tmp_path: Path):
    def fail(samples: int, size: int) -> None:
        if (tmp_path / "out/shard-000001.tar").exists():
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        reshard([shard_set([9])], tmp_path / "out", shard_samples=3, workers=1, on_progress=fail)
    report = reshard([shard_set([9])], tmp_path / "out", shard_samples=3)

    assert (report.kept, held(tmp_path / "out")) == (2, held(shard_set([9])))


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path):
    for workers in (1, 3):
        reshard([shard_set([20, 20])], tmp_path / str(workers), workers=workers, shuffle=True, shard_samples=7)

    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_images_are_encoded_again_where_an_option_asks_for_it(tmp_path: Path):
    ids = np.arange(300, dtype=np.uint8).reshape(15, 20) // 200
    files = {
        "images/x.jpg": encoded(picture("RGB", 15, 20), "JPEG"),
        "masks/x.png": encoded(Image.fromarray(ids), "PNG"),
    }
    source = pack(write(tmp_path / "imgs", files)).out

    reshard([source], tmp_path / "out", resize=9, format="png")

    [(image, mask)] = ShardDataset(tmp_path / "out", batch_size=None)
    assert (image.shape, mask.shape) == ((3, 9, 12), (9, 12))


@pytest.mark.parametrize("task", ["segmentation", "unlabeled"])
def test_samples_of_every_task_are_copied(tmp_path: Path, task: str):
    ids = np.zeros((8, 8), np.uint8)
    folder = "images/" if task == "segmentation" else ""
    files = {f"{folder}{n}.png": encoded(picture("I;16", 8, 8, seed=n), "PNG") for n in range(3)}
    if task == "segmentation":
        files |= {f"masks/{n}.png": encoded(Image.fromarray(ids + n), "PNG") for n in range(3)}
    source = pack(write(tmp_path / "imgs", files), to_8bit="clip", shuffle=False).out

    reshard([source], tmp_path / "out")

    assert contents(tmp_path / "out")["shard-000000.tar"] == contents(source)["shard-000000.tar"]
    assert manifest_of(tmp_path / "out").task == task


@pytest.mark.parametrize("target", [[2, 0], 23.5, "caption"], ids=str)
def test_targets_of_every_kind_are_copied(tmp_path: Path, target: object):
    image = tiny_jpeg()
    sample = {"image": image, "caption": "a cat"} if target == "caption" else (image, target)
    source = pack([sample, sample], tmp_path / "set").out

    reshard([source], tmp_path / "out")

    assert contents(tmp_path / "out")["shard-000000.tar"] == contents(source)["shard-000000.tar"]
    for field in ("task", "classes", "column_names"):
        assert getattr(manifest_of(tmp_path / "out"), field) == getattr(manifest_of(source), field)


def test_samples_are_dropped_by_their_keys(tmp_path: Path):
    write(tmp_path, {"keys.txt": b"\xef\xbb\xbfs00001\r\n\ns00003\n"})

    for number, drop in enumerate([tmp_path / "keys.txt", "s00001,s00003", ["s00001", "s00003"]]):
        report = reshard([shard_set([3, 3])], tmp_path / str(number), drop=drop)

        assert report.ignored == {"with dropped keys": 2}
        assert [key for key, _ in held(tmp_path / str(number))] == keys([0, 2, 4, 5])


def test_a_key_that_no_sample_has_cannot_be_dropped(tmp_path: Path):
    with pytest.raises(ConfigError, match="no sample has the key 's9' and 1 more, so it cannot be dropped"):
        reshard([shard_set([3])], tmp_path / "out", drop=["s00001", "t", "s9"])


def test_folders_that_no_pack_wrote_are_not_replaced(tmp_path: Path):
    write(tmp_path, {"full/x": b"x"})

    with pytest.raises(ConfigError, match="full is not empty"):
        reshard([shard_set([3])], tmp_path / "full")

    assert contents(tmp_path) == {"full/x": b"x"}


def test_a_set_cannot_be_resharded_into_itself(tmp_path: Path):
    source = copied([3], tmp_path / "sets" / "one")

    for out in (source, tmp_path / "sets"):
        with pytest.raises(ConfigError, match="is or contains one of the sets that are read"):
            reshard([source], out, overwrite=True)

    assert verify(source).problems == ()


def test_sets_that_do_not_fit_together_are_refused(tmp_path: Path):
    flat = pack(write(tmp_path / "flat", {"x.jpg": tiny_jpeg()})).out

    with pytest.raises(ConfigError, match="differ in task: classification and unlabeled"):
        reshard([shard_set([1]), flat], tmp_path / "out")
    with pytest.raises(ConfigError, match="only sets for classification are filtered by class"):
        reshard([flat], tmp_path / "out", only=["cat"])
    with pytest.raises(ConfigError, match="'lion' is not a class of these sets; they have cat, dog, fox"):
        reshard([shard_set([1])], tmp_path / "out", only=["lion"])
    with pytest.raises(ConfigError, match="every class is left out"):
        reshard([shard_set([1])], tmp_path / "out", without=["cat", "dog", "fox"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shard_size": "big"}, "'big' is not a size"),
        ({"shard_samples": 0}, "at least 1, not 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"only": ["a"], "without": ["b"]}, "not both"),
        ({"split": "../a=1"}, "is not a part of a split"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        reshard([shard_set([1])], "nowhere", **options)
