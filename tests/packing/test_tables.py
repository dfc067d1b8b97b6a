"""Parquet files and saved data sets are packed as the Hugging Face Hub stores them: images, labels and splits."""

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.parquet import ParquetFiles
from mps_shards.packing.sources.source_choice import open_source
from mps_shards.packing.sources.table_source import split_of
from tests.support.commands import run
from tests.support.damage import manifest_of
from tests.support.files import contents
from tests.support.foreign import by_webdataset_s_reader
from tests.support.images import encoded, tiny_jpeg

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
CLASSES = ["cat", "dog", "fox"]


def table(count: int = 7, *, first: int = 0, features: bool = True, **columns: list) -> "pyarrow.Table":
    """Return rows with an image, a label and other columns, as the library `datasets` stores them."""
    rows = range(first, first + count)
    data = {
        "image": pyarrow.array([{"bytes": tiny_jpeg(n), "path": f"{n}.jpg"} for n in rows], IMAGE),
        "label": pyarrow.array([n % 3 for n in rows], pyarrow.int64()),
        **columns,
    }
    found = pyarrow.table(data)
    if not features:
        return found
    stated = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": CLASSES}}
    stated |= {name: {"dtype": "string", "_type": "Value"} for name in columns}
    return found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": stated}})})


def written(path: Path, rows: "pyarrow.Table", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(rows, path, **options)
    return path


def held(folder: Path) -> list[tuple[str, bytes, str | None]]:
    """Return key, image and label of each sample in the order of the keys."""
    samples = by_webdataset_s_reader(sorted(folder.glob("*.tar")))
    classes = manifest_of(folder).classes
    found = []
    for key, fields in samples:
        image = next(content for name, content in fields.items() if name not in ("cls", "json", "txt"))
        found.append((key, image, classes[int(fields["cls"])] if "cls" in fields else None))
    return sorted(found)


def expected(count: int, *, first: int = 0, prefix: str = "") -> list[tuple[str, bytes, str]]:
    return [(f"{prefix}{n:08d}", tiny_jpeg(first + n), CLASSES[(first + n) % 3]) for n in range(count)]


WAYS = {
    "snappy": {},
    "uncompressed": {"compression": "none"},
    "zstd": {"compression": "zstd"},
    "gzip": {"compression": "gzip"},
    "lz4": {"compression": "lz4"},
    "brotli": {"compression": "brotli"},
    "version 2 pages": {"data_page_version": "2.0"},
    "version 2 pages, uncompressed": {"data_page_version": "2.0", "compression": "none"},
    "without dictionary": {"use_dictionary": False},
    "small pages": {"data_page_size": 700, "write_batch_size": 1},
    "small row groups": {"row_group_size": 2},
    "small dictionary": {"dictionary_pagesize_limit": 1000, "write_batch_size": 1},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_parquet_file_is_packed_with_its_labels_and_class_names(way: str, tmp_path: Path):
    source = written(tmp_path / "pets.parquet", table(11), **WAYS[way])

    report = pack(source, workers=3)

    assert report.out == tmp_path / "pets-shards"
    assert held(Path(report.out)) == expected(11)
    assert manifest_of(Path(report.out)).classes == tuple(CLASSES)


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=40).filter(lambda rows: any(rows)),
    options=st.fixed_dictionaries(
        {},
        optional={
            "compression": st.sampled_from(["none", "snappy", "zstd"]),
            "row_group_size": st.integers(1, 50),
            "use_dictionary": st.booleans(),
            "data_page_size": st.integers(1, 3000),
            "write_batch_size": st.integers(1, 20),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "dictionary_pagesize_limit": st.integers(1, 3000),
        },
    ),
    plain=st.booleans(),
)
def test_every_value_is_what_pyarrow_reads(images: list, options: dict, plain: bool):
    content = [None if n is None else tiny_jpeg(n) for n in images]
    if plain:
        column = pyarrow.array(content, pyarrow.binary())
    else:
        column = pyarrow.array([each and {"bytes": each, "path": "x"} for each in content], IMAGE)
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"image": column}), stream, **options)
    files = ParquetFiles("x", ["x"])
    files._opened = lambda number: parquet.ParquetFile(io.BytesIO(stream.getvalue()))  # type: ignore[method-assign]
    files._range = lambda file, start, stop: stream.getvalue()[start:stop]  # type: ignore[method-assign]
    files._pages._read = files._range

    values = [value for chunk in files.chunks(["image"], []) for value in chunk.images[0]]

    assert [value.size for value in values] == [-1 if each is None else len(each) for each in content]
    for value, each in zip(values, content, strict=True):
        assert each is None or (files.read(value.place, value.size), value.head) == (each, each[:16])


def test_the_files_of_a_hub_data_set_are_its_splits(tmp_path: Path):
    for number in range(2):
        written(tmp_path / f"pets/data/train-0000{number}-of-00002.parquet", table(5, first=5 * number))
    written(tmp_path / "pets/data/test-00000-of-00001.parquet", table(3, first=20))

    report = pack(tmp_path / "pets", shuffle=False)

    assert {each.split: each.samples for each in report.sets} == {"train": 10, "test": 3}
    assert held(tmp_path / "pets-shards/train") == expected(10, prefix="train/")
    assert held(tmp_path / "pets-shards/test") == expected(3, first=20, prefix="test/")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00005.parquet", "train"),
        ("default/validation/0000.parquet", "validation"),
        ("test.parquet", "test"),
        ("0000.parquet", ""),
        ("train_0001.parquet", "train"),
    ],
)
def test_splits_are_named_after_files_or_their_folders(path: str, split: str):
    assert split_of(path) == split


@pytest.mark.parametrize("file_system", ["memory", "file"])
def test_a_url_that_fsspec_reads_is_packed(file_system: str, tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    url = f"memory://pets-{tmp_path.name}/data" if file_system == "memory" else f"local://{tmp_path}/data"
    for split, count in (("train", 5), ("test", 3)):
        with fsspec.open(f"{url}/{split}-00000-of-00001.parquet", "wb", auto_mkdir=True) as file:
            parquet.write_table(table(count), file)

    pack(url, tmp_path / "all")
    pack(f"{url}/train-00000-of-00001.parquet", tmp_path / "one")

    assert held(tmp_path / "all/train") == expected(5, prefix="train/")
    assert held(tmp_path / "one") == expected(5)
    with pytest.raises(ConfigError, match="name a destination"):
        pack(url)
    with pytest.raises(ConfigError, match="holds no Parquet files"):
        pack(f"{url}/gone", tmp_path / "none")


def saved(folder: Path, rows: "pyarrow.Table", *, batch: int = 3) -> Path:
    """Write a folder as ``Dataset.save_to_disk`` does, with two Arrow files."""
    folder.mkdir(parents=True)
    half = len(rows) // 2
    names = []
    for number, part in enumerate((rows[:half], rows[half:])):
        names.append(f"data-0000{number}-of-00002.arrow")
        with pyarrow.ipc.new_stream(folder / names[-1], rows.schema) as stream:
            stream.write_table(part, max_chunksize=batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_saved_data_set_is_packed(tmp_path: Path):
    report = pack(saved(tmp_path / "pets", table(10)), workers=3)

    assert held(Path(report.out)) == expected(10)


def test_a_saved_data_set_with_splits_is_packed(tmp_path: Path):
    for split, count in (("train", 6), ("test", 4)):
        saved(tmp_path / "pets" / split, table(count))
    (tmp_path / "pets/dataset_dict.json").write_text('{"splits": ["train", "test"]}')

    report = pack(tmp_path / "pets")

    assert held(Path(report.out) / "train") == expected(6, prefix="train/")
    assert held(Path(report.out) / "test") == expected(4, prefix="test/")


def test_what_datasets_itself_writes_is_packed(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    rows = {"image": [{"bytes": tiny_jpeg(n), "path": None} for n in range(9)], "label": [n % 3 for n in range(9)]}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    made.to_parquet(str(tmp_path / "written.parquet"))

    for name in ("saved", "written.parquet"):
        report = pack(tmp_path / name, tmp_path / f"{name}-out")
        assert held(Path(report.out)) == expected(9)


def test_labels_without_names_are_classes_in_the_order_of_their_values(tmp_path: Path):
    rows = table(4, features=False)
    numbers = rows.set_column(1, "label", pyarrow.array([10, 9, 2, 10]))
    texts = rows.set_column(1, "label", pyarrow.array(["fox", "ant", None, "fox"]))

    for name, stored, classes, labels in (
        ("numbers", numbers, ("2", "9", "10"), ["10", "9", "2", "10"]),
        ("texts", texts, ("ant", "fox"), ["fox", "ant", None, "fox"]),
    ):
        report = pack(written(tmp_path / f"{name}.parquet", stored), yes=True)
        assert report.classes == classes
        assert [label for _, _, label in held(Path(report.out))] == labels


def test_a_split_whose_labels_are_withheld_is_unlabeled(tmp_path: Path):
    written(tmp_path / "pets/train-00000-of-00001.parquet", table(3))
    hidden = table(3).set_column(1, "label", pyarrow.array([-1] * 3)).replace_schema_metadata(table().schema.metadata)
    written(tmp_path / "pets/test-00000-of-00001.parquet", hidden)

    report = pack(tmp_path / "pets")

    assert {each.split: each.task for each in report.sets} == {"train": "classification", "test": "unlabeled"}


def test_other_columns_become_json(tmp_path: Path):
    columns = {
        "id": pyarrow.array(["a", None]),
        "size": pyarrow.array([1.5, float("nan")]),
        "raw": pyarrow.array([[1], [2]]),
    }
    source = written(tmp_path / "x.parquet", table(2, **columns))

    out = Path(pack(source, shuffle=False).out)

    notes = [json.loads(fields["json"]) for _, fields in by_webdataset_s_reader(sorted(out.glob("*.tar")))]
    assert notes == [{"id": "a", "size": 1.5}, {"size": None}]


def test_texts_are_captions_if_there_are_no_labels(tmp_path: Path):
    rows = table(2, features=False).drop(["label"]).append_column("caption", pyarrow.array(["a cat", "ein Hünd"]))

    report = pack(written(tmp_path / "x.parquet", rows), shuffle=False)

    assert report.sets[0].task == "captions"
    samples = by_webdataset_s_reader(sorted(Path(report.out).glob("*.tar")))
    assert [fields["txt"].decode() for _, fields in samples] == ["a cat", "ein Hünd"]


def test_a_list_of_labels_makes_a_sample_multi_label(tmp_path: Path):
    rows = table(3).set_column(1, "label", pyarrow.array([[2, 0], [], [1, 1]]))
    stated = {
        "image": {"_type": "Image"},
        "label": {"_type": "List", "feature": {"_type": "ClassLabel", "names": CLASSES}},
    }
    rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": stated}})})

    report = pack(written(tmp_path / "x.parquet", rows), shuffle=False)

    assert (report.sets[0].task, report.classes) == ("multilabel", tuple(CLASSES))
    samples = by_webdataset_s_reader(sorted(Path(report.out).glob("*.tar")))
    assert [json.loads(fields["json"])["labels"] for _, fields in samples] == [[0, 2], [], [1]]


def test_a_column_of_masks_makes_segmentation(tmp_path: Path):
    ids = [np.full((8, 8), n, np.uint8) for n in range(3)]
    masks = [{"bytes": encoded(Image.fromarray(each), "PNG"), "path": None} for each in ids]
    rows = table(3, features=False).drop(["label"]).append_column("annotation", pyarrow.array(masks, IMAGE))

    report = pack(written(tmp_path / "x.parquet", rows), shuffle=False)

    assert report.sets[0].task == "segmentation"
    found = [mask.numpy() for _, mask in ShardDataset(report.out, batch_size=None)]
    assert np.array_equal(sorted(found, key=np.max), ids)


def test_rows_without_an_image_are_refused_or_skipped(tmp_path: Path):
    rows = table(3, features=False)
    images = [{"bytes": None, "path": "/gone/0.jpg"}, *rows["image"].to_pylist()[1:]]
    source = written(tmp_path / "x.parquet", rows.set_column(0, "image", pyarrow.array(images, IMAGE)))

    with pytest.raises(DataError, match=r"x\.parquet: row 0: the image or its mask is missing.*--on-bad-sample skip"):
        pack(source)
    report = pack(source, on_bad_sample="skip")

    assert (report.sets[0].samples, [skip.path for skip in report.skipped]) == (2, ["00000000"])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ({"x": [1]}, "no column holds encoded images"),
        ({"a": [b"1"], "b": [b"2"]}, "a and b hold images; choose one with --image-column"),
        ({"image": [b""]}, "row 0: the image or its mask is missing"),
        ({"image": [b"no image"]}, "is not an image"),
    ],
)
def test_tables_that_cannot_be_packed_are_refused_with_the_reason(rows: dict, complaint: str, tmp_path: Path):
    with pytest.raises((ConfigError, DataError), match=complaint):
        pack(written(tmp_path / "x.parquet", pyarrow.table(rows)))


def test_unsupported_encodings_are_named(tmp_path: Path):
    options = {"use_dictionary": False, "column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}}
    source = written(tmp_path / "x.parquet", pyarrow.table({"image": [tiny_jpeg()]}), **options)

    with pytest.raises(ConfigError, match="encoded by DELTA_LENGTH_BYTE_ARRAY, which cannot be read"):
        pack(source)


def test_files_that_are_not_tables_are_refused(tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no more")

    with pytest.raises(DataError, match=r"x\.parquet is not a Parquet file"):
        pack(tmp_path / "x.parquet")
    with pytest.raises(StorageError, match="no such file"):
        pack(tmp_path / "gone.parquet")


def test_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    source = written(tmp_path / "x.parquet", table(1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigError, match=r"pip install 'mps-shards\[parquet\]'"):
        pack(source)


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[list[Path]]:
    yield [
        written(tmp_path / "a.parquet", table(9), data_page_size=900, write_batch_size=2),
        saved(tmp_path / "b", table(9)),
    ]


def test_a_table_can_be_sent_to_another_process(sources: list[Path]):
    from mps_shards.packing.pack_options import SourceOptions

    for path in sources:
        source = open_source(path)
        entries = source.listing(SourceOptions()).splits[0].entries

        again = pickle.loads(pickle.dumps(source))

        assert [again.read(entry).image for entry in entries] == [tiny_jpeg(n) for n in range(9)]


def test_any_number_of_workers_gives_the_same_bytes(sources: list[Path], tmp_path: Path):
    for path in sources:
        for workers in (1, 3):
            pack(path, tmp_path / f"{path.name}-{workers}", workers=workers, shard_samples=4)
        assert contents(tmp_path / f"{path.name}-1") == contents(tmp_path / f"{path.name}-3")


def test_the_command_packs_a_parquet_file(tmp_path: Path):
    said = run("pack", written(tmp_path / "pets.parquet", table(6)))

    assert said.code == 0
    assert "3 classes, 6 images" in said.stderr
