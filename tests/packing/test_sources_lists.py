"""Lists of images are read with columns, labels, splits and metadata in any common form; errors name the line."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.files import FolderFiles
from mps_shards.packing.sources.list_rows import read_rows
from mps_shards.packing.sources.listing import Entry
from tests.support.images import tiny_jpeg, write
from tests.support.listings import list_source
from tests.support.trees import rows_file, table

IMAGE = tiny_jpeg()
NAMES = ("a.jpg", "b.jpg", "sub/c.jpg", "sub/d.png")


def list_of(root: Path, content: str | bytes, name: str = "list.csv") -> Path:
    """Make a list beside the images a.jpg, b.jpg, sub/c.jpg and sub/d.png."""
    content = content.encode() if isinstance(content, str) else content
    write(root, {**dict.fromkeys(NAMES, IMAGE), name: content})
    return root / name


def labels(source: Path, **options) -> dict[str, str | None]:
    """Return the class name by path in the only split."""
    listing = list_source(source, **options)
    [split] = listing.splits
    return {each.path: listing.classes[each.label] if each.label >= 0 else None for each in split.entries}


def entries(source: Path, **options) -> dict[str, list[Entry]]:
    """Return the listed entries by split."""
    return {split.name: list(split.entries) for split in list_source(source, **options).splits}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_the_same_rows_are_listed_from_every_kind_of_file(tmp_path: Path, suffix: str):
    told = table(tmp_path, suffix=suffix)

    listing = list_source(tmp_path / f"list{suffix}")

    read = {
        each.path: (split.name, listing.classes[each.label], json.loads(each.note))
        for split in listing.splits
        for each in split.entries
    }
    assert read == {path: (one.split, one.label, one.note) for path, one in told.items()}
    assert [list(part) for part in entries(tmp_path / f"list{suffix}").values()] == list(
        entries(tmp_path, layout="list").values()
    )


@pytest.mark.parametrize("column", ["path", "Path", "FILE", "filename", "file_name", "File Name", "image", " image "])
@pytest.mark.parametrize("label", ["label", "Class", "category", "TARGET"])
def test_columns_are_found_by_their_usual_names(tmp_path: Path, column: str, label: str):
    source = list_of(tmp_path, f"id,{label},{column}\n1,cat,a.jpg\n2,dog,b.jpg\n")

    assert labels(source) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert entries(source)[""][0].note == '{"id":"1"}'


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na.jpg,cat\nb.jpg,dog\n",
        "path,label\r\na.jpg,cat\r\nb.jpg,dog\r\n",
        b"\xef\xbb\xbfpath,label\na.jpg,cat\nb.jpg,dog",
        b"\xef\xbb\xbfa.jpg,cat\nb.jpg,dog",
        "a.jpg,cat\nb.jpg,dog\n",
        "path;label\na.jpg;cat\nb.jpg;dog\n",
        "path\tlabel\na.jpg\tcat\nb.jpg\tdog\n",
        '"path","label"\n"a.jpg","cat"\n\n"b.jpg","dog"\n',
        "label,path\ncat,./a.jpg\ndog,sub/../b.jpg\n",
    ],
)
def test_a_list_is_read_in_any_common_dialect(tmp_path: Path, content: str | bytes):
    assert labels(list_of(tmp_path, content)) == {"a.jpg": "cat", "b.jpg": "dog"}


def test_cells_may_hold_commas_quotes_and_line_breaks(tmp_path: Path):
    source = list_of(tmp_path, 'path,label,said\na.jpg,"cat, ""wild""","one\ntwo"\nb.jpg,dog,\n')

    assert labels(source) == {"a.jpg": 'cat, "wild"', "b.jpg": "dog"}
    assert [json.loads(each.note) for each in entries(source)[""]] == [{"said": "one\ntwo"}, {"said": ""}]


def test_a_list_of_paths_alone_has_no_labels(tmp_path: Path):
    listing = list_source(list_of(tmp_path, "sub/c.jpg\na.jpg\n"))

    assert [(each.path, each.label, each.note) for each in listing.splits[0].entries] == [
        ("sub/c.jpg", -1, ""),  # in the order of the list
        ("a.jpg", -1, ""),
    ]
    assert (listing.classes, listing.splits[0].task) == ((), "unlabeled")


@pytest.mark.parametrize(
    ("given", "classes", "numbers"),
    [
        (("dog", "cat"), ("cat", "dog"), (1, 0)),
        (("10", "9", "cat"), ("10", "9", "cat"), (0, 1, 2)),
        (("2", "0"), ("0", "1", "2"), (2, 0)),
        (("2.0", "0.0"), ("0", "1", "2"), (2, 0)),  # as pandas writes whole numbers in a column with gaps
        (("002", "1"), ("0", "1", "2"), (2, 1)),
        ((3, 1), ("0", "1", "2", "3"), (3, 1)),
        ((True and "yes", "no"), ("no", "yes"), (1, 0)),
    ],
)
def test_integers_are_class_numbers_and_all_other_labels_are_names(tmp_path: Path, given, classes, numbers):
    rows = [{"path": path, "label": label} for path, label in zip(NAMES, given, strict=False)]
    listing = list_source(list_of(tmp_path, rows_file(rows, ".jsonl"), "list.jsonl"))

    assert listing.classes == classes
    assert tuple(each.label for each in listing.splits[0].entries) == numbers


@pytest.mark.parametrize(("given", "number"), [("dog", 0), ("cat", 1), ("0", 0), ("1.0", 1)])
def test_class_names_beside_the_list_name_its_class_numbers(tmp_path: Path, given: str, number: int):
    source = list_of(tmp_path, f"path,label\na.jpg,{given}\n")
    write(tmp_path, {"classes.txt": "dog\ncat\nmäuse\n".encode()})

    listing = list_source(source)

    assert listing.classes == ("dog", "cat", "mäuse")
    assert listing.splits[0].entries[0].label == number


@pytest.mark.parametrize("given", ["cow", "3", "-1"])
def test_a_label_that_is_not_a_class_is_named_with_its_line(tmp_path: Path, given: str):
    source = list_of(tmp_path, f"path,label\na.jpg,dog\nb.jpg,{given}\n")
    write(tmp_path, {"classes.txt": b"dog\ncat\nmouse\n"})

    with pytest.raises(DataError, match=rf"list\.csv:3: label '{given}' is none of the 3 classes in .*classes\.txt"):
        list_source(source)


@pytest.mark.parametrize("given", ["-1", "1000000", "123456789012"])
def test_a_number_that_cannot_be_a_class_is_named_with_its_line(tmp_path: Path, given: str):
    with pytest.raises(
        DataError, match=rf"list\.csv:2: label '{given}' is not a class index \(they go from 0 to 999,999"
    ):
        list_source(list_of(tmp_path, f"b.jpg,4\na.jpg,{given}\n"))


@pytest.mark.parametrize(
    ("content", "message"), [("dog\n\ncat", ":2: an empty line"), ("a\nb\na\n", ":3: 'a' is repeated")]
)
def test_a_malformed_list_of_class_names_is_refused(tmp_path: Path, content: str, message: str):
    source = list_of(tmp_path, "a.jpg,a\n")
    write(tmp_path, {"classes.txt": content.encode()})

    with pytest.raises(DataError, match=rf"classes\.txt{message}"):
        list_source(source)


def test_a_split_column_makes_splits_that_share_their_classes(tmp_path: Path):
    source = list_of(tmp_path, "path,label,subset\na.jpg,dog,val\nb.jpg,cat,train\nsub/c.jpg,,test\nsub/d.png,,test\n")

    listing = list_source(source)

    assert [(split.name, split.task, [e.label for e in split.entries]) for split in listing.splits] == [
        ("test", "unlabeled", [-1, -1]),
        ("train", "classification", [0]),
        ("val", "classification", [1]),
    ]
    assert listing.describe() == "CSV list: 2 classes, 3 splits (test, train, val), 4 images"


def test_a_mask_column_makes_a_segmentation_set(tmp_path: Path):
    source = list_of(tmp_path, "image,mask,label\na.jpg,sub/d.png,7\n")
    write(tmp_path, {"classes.txt": b"sky\nroad\n"})

    listing = list_source(source)

    [entry] = listing.splits[0].entries
    assert entry == Entry("a.jpg", len(IMAGE), -1, mask="sub/d.png", note='{"label":"7"}')
    assert (listing.classes, listing.splits[0].task) == (("sky", "road"), "segmentation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.jpg,x\ngone.jpg,y\n", r"list\.csv:3: there is no file .*/gone\.jpg"),
        ("path,label\na.jpg/b.jpg,x\n", r"list\.csv:2: there is no file"),
        ("path,label\ngone\\x.jpg,x\n", r"there is no file .*gone\\x\.jpg; paths need forward slashes"),
        ("path,mask\na.jpg,gone.png\n", r"list\.csv:2: there is no file .*/gone\.png"),
        ("path,label\n../a.jpg,x\n", r"list\.csv:2: \.\./a\.jpg is outside of "),
        ("path,label\nsub/../../a.jpg,x\n", r"list\.csv:2: .* is outside of "),
        ("path,label\n/etc/x.jpg,x\n", r"list\.csv:2: /etc/x\.jpg is outside of .*; pack a folder that holds all"),
        (
            "path,label\nx,x\n",
            r"list\.csv:2: no image in .* is called 'x'; say where the images are with --root or --suffix",
        ),
        ("path,label\n,x\n", r"list\.csv:2: '' is not the path"),
        ("path,label\na.jpg,x\nb.jpg\n", r"list\.csv:3: 1 cell, but line 1 has 2 columns \(path, label\)"),
        ("path,path\na.jpg,x\n", r"list\.csv:1: two columns have the same name"),
        ('path,label\na.jpg,"x\n', r"list\.csv:2: a quoted cell that begins here has no closing quote"),
        ("path,label\na.jpg,x\nb.jpg,\n", r"b\.jpg has no label, but other images of its split have one"),
        ("path,mask\na.jpg,sub/d.png\nb.jpg,\n", r"b\.jpg has no mask, but other images"),
        ("path,split\na.jpg,train\nb.jpg,\n", r"list\.csv:3: some images belong to a split and others to none"),
        ("path,split\na.jpg,../out\n", r"list\.csv:2: '\.\./out' cannot name a split"),
        ("path,label\na.jpg,x\nb.jpg,x\n./a.jpg,x\n", r"a\.jpg is named by two rows of one split"),
        (b"path,label\na.jpg,caf\xe9\n", r"list\.csv is not UTF-8 \(.* at byte \d+\); save it as UTF-8"),
    ],
)
def test_a_row_that_cannot_be_packed_is_named(tmp_path: Path, content: str | bytes, message: str):
    with pytest.raises(DataError, match=message):
        list_source(list_of(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"path": "a.jpg"}\n{"path": [3]}\n', r"list\.jsonl:2: \[3\] is not the path of a file"),
        ('{"path": "a.jpg"}\n[1]\n', r"list\.jsonl:2: Expected `object`, got `array`"),
        ('{"path": "a.jpg"}\n{"path": \n', r"list\.jsonl:2: Input data was truncated"),
        ('{"path": "a\\u0000.jpg"}', r"list\.jsonl:1: .* is not the path of a file"),
        ('{"path": "a.jpg", "label": {"a": 1}}', r"list\.jsonl:1: the label .* is neither a name nor a number"),
        ('{"path": "a.jpg", "split": 3}', r"list\.jsonl:1: 3 cannot name a split"),
    ],
)
def test_an_object_that_cannot_be_packed_is_named(tmp_path: Path, content: str, message: str):
    with pytest.raises(DataError, match=message):
        list_source(list_of(tmp_path, content, "list.jsonl"))


@pytest.mark.parametrize("content", ["", "path,label\n", "name,class\nx,b\n", "a,b,c\nx.jpg,1,2\n"])
def test_a_list_without_images_is_refused(tmp_path: Path, content: str):
    with pytest.raises(ConfigError, match=r"list\.csv has no rows|no column names the image files \(columns: "):
        list_source(list_of(tmp_path, content))


def test_absolute_paths_inside_the_folder_are_accepted(tmp_path: Path):
    source = list_of(tmp_path / "real", f"{tmp_path}/real/a.jpg,x\n{tmp_path}/link/b.jpg,y\n")
    os.symlink(tmp_path / "real", tmp_path / "link")

    assert labels(tmp_path / "link" / source.name) == {"a.jpg": "x", "b.jpg": "y"}


def test_missing_and_empty_files_can_be_skipped_and_are_listed(tmp_path: Path):
    source = list_of(tmp_path, "path,label\na.jpg,x\ngone.jpg,y\nempty.jpg,x\nb.jpg,z\n")
    write(tmp_path, {"empty.jpg": b""})

    listing = list_source(source, skip_bad=True)

    assert [(bad.path, bad.reason) for bad in listing.bad] == [
        ("gone.jpg", f"{source}:3: there is no file {tmp_path / 'gone.jpg'}"),
        ("empty.jpg", f"{tmp_path / 'empty.jpg'} is empty (0 bytes); remove it or replace it"),
    ]
    assert labels(source, skip_bad=True) == {"a.jpg": "x", "b.jpg": "z"}


def test_images_that_would_share_a_key_are_both_named(tmp_path: Path):
    source = list_of(tmp_path, "path\na.jpg\nb.jpg\na.png\n")
    write(tmp_path, {"a.png": IMAGE})

    with pytest.raises(DataError, match=r"a\.jpg and a\.png would share the key 'a'.*--keys name"):
        list_source(source)
    assert len(entries(source, by_name=True)[""]) == 3


def test_an_image_may_be_in_several_splits(tmp_path: Path):
    source = list_of(tmp_path, "path,split\na.jpg,fold-1\na.jpg,fold-2\nb.jpg,fold-2\n")

    assert {name: [each.path for each in part] for name, part in entries(source).items()} == {
        "fold-1": ["a.jpg"],
        "fold-2": ["a.jpg", "b.jpg"],
    }


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(st.fixed_dictionaries({"path": cells, "a b": cells, "ü": cells}), min_size=1, max_size=6))
def test_any_text_comes_back_from_csv_and_tsv_and_jsonl(tmp_path_factory: pytest.TempPathFactory, rows):
    folder = tmp_path_factory.mktemp("rows")
    for suffix in (".csv", ".tsv", ".jsonl"):
        path = folder / f"list{suffix}"
        path.write_bytes(rows_file(rows, suffix))

        kept = (
            rows if suffix == ".jsonl" else [row for row in rows if any(row.values())]
        )  # rows without cells become blank lines, which are skipped
        assert [cells for _, cells in read_rows(FolderFiles(folder), path.name)] == kept


def test_metadata_at_the_top_finds_splits_and_folders_of_classes(tmp_path: Path):
    rows = [
        {"file_name": f"{split}/{label}/{n}.jpg", "text": f"{label} {n}"}
        for split in ("train", "test")
        for label in ("cat", "dog")
        for n in range(2)
    ]
    write(tmp_path, {row["file_name"]: IMAGE for row in rows})
    write(tmp_path, {"metadata.csv": rows_file(rows, ".csv"), "train/cat/more.jpg": IMAGE})

    listing = list_source(tmp_path)

    assert (  # of nine images
        listing.describe() == "metadata folder: 2 classes, 2 splits (test, train), 8 images (1 more that no row names)"
    )
    assert listing.classes == ("cat", "dog")
    assert [(e.path, e.label, e.note) for e in listing.splits[0].entries][-1] == (
        "test/dog/1.jpg",
        1,
        '{"text":"dog 1"}',
    )


def test_folders_are_classes_only_if_all_of_them_are(tmp_path: Path):
    write(tmp_path, dict.fromkeys(("cat/1.jpg", "dog/deep/2.jpg"), IMAGE))
    write(tmp_path, {"metadata.jsonl": b'{"file_name": "cat/1.jpg"}\n{"file_name": "dog/deep/2.jpg"}\n'})

    listing = list_source(tmp_path)

    assert (listing.classes, listing.splits[0].task) == ((), "unlabeled")


def test_masks_of_metadata_are_those_of_hugging_face(tmp_path: Path):
    row = {"file_name": "1.jpg", "mask_file_name": "masks/1.png", "text": "x"}
    write(
        tmp_path, {"train/1.jpg": IMAGE, "train/masks/1.png": IMAGE, "train/metadata.jsonl": rows_file([row], ".jsonl")}
    )

    [entry] = entries(tmp_path)["train"]

    assert entry == Entry("train/1.jpg", len(IMAGE), mask="train/masks/1.png", note='{"text":"x"}')


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("metadata.csv", "metadata.jsonl"), r"metadata\.csv and metadata\.jsonl describe the same images"),
        (("metadata.csv", "train/metadata.csv"), r"metadata\.csv and train/metadata\.csv describe the same images"),
        (
            ("train/metadata.parquet",),
            r"metadata\.parquet: Parquet metadata is not read; write metadata\.csv or metadata\.jsonl",
        ),
    ],
)
def test_metadata_that_cannot_be_read_is_named(tmp_path: Path, files: tuple[str, ...], message: str):
    write(tmp_path, {"train/1.jpg": IMAGE, **dict.fromkeys(files, b"file_name\n1.jpg\n")})

    with pytest.raises(ConfigError, match=message):
        list_source(tmp_path)
