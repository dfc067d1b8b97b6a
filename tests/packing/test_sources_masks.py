"""Images and masks are paired in every common arrangement; images and masks without a partner are named."""

from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, DataError
from tests.support.images import tiny_jpeg, write
from tests.support.listings import list_source
from tests.support.trees import cityscapes, gray_png, label_ids, pairs, voc

IMAGE = tiny_jpeg()
MASK = gray_png(label_ids(0, 4))


def tree(root: Path, *names: str) -> Path:
    """Write files by name: JPEG images, PNG masks and texts."""
    kinds = {"jpg": IMAGE, "png": MASK}
    return write(root, {name: kinds.get(name.rpartition(".")[2], b"text") for name in names})


def masks(source: Path, **options) -> dict[str, dict[str, str]]:
    """Return the mask of each image by split; "" for none."""
    listing = list_source(source, **options)
    return {split.name: {each.path: each.mask for each in split.entries} for split in listing.splits}


@pytest.mark.parametrize("images", ["images", "image", "imgs", "Images"])
@pytest.mark.parametrize("folder", ["masks", "labels", "annotations", "Masks"])
def test_images_and_masks_in_two_folders_are_paired_by_name(tmp_path: Path, images: str, folder: str):
    source = tree(tmp_path, *(f"{images}/{name}.jpg" for name in ("a", "b.c", "deep/d")))
    tree(tmp_path, *(f"{folder}/{name}.png" for name in ("a", "b.c", "deep/d")))

    assert masks(source) == {"": {f"{images}/{name}.jpg": f"{folder}/{name}.png" for name in ("a", "b.c", "deep/d")}}


@pytest.mark.parametrize("suffix", ["_mask", ".mask", "-mask", "_seg", "_label", "_gt"])
def test_masks_may_have_a_suffix_in_their_own_folder_or_beside_the_image(tmp_path: Path, suffix: str):
    apart = tree(tmp_path / "apart", "images/a.jpg", "images/a_gt.jpg", f"masks/a{suffix}.png", "masks/a_gt.png")
    beside = tree(tmp_path / "beside", "x/a.jpg", f"x/a{suffix}.png", "b.jpg", f"b{suffix}.png")

    assert masks(beside) == {"": {"b.jpg": f"b{suffix}.png", "x/a.jpg": f"x/a{suffix}.png"}}
    if suffix != "_gt":
        assert masks(apart) == {"": {"images/a.jpg": f"masks/a{suffix}.png", "images/a_gt.jpg": "masks/a_gt.png"}}


def test_splits_may_contain_the_two_folders_or_be_inside_them_or_contain_suffixed_masks(tmp_path: Path):
    around = tree(tmp_path / "1", "train/images/a.jpg", "train/masks/a.png", "val/images/b.jpg", "val/masks/b.png")
    inside = tree(tmp_path / "2", "images/train/a.jpg", "masks/train/a.png", "images/val/b.jpg", "masks/val/b.png")
    suffix = tree(tmp_path / "3", "train/a.jpg", "train/a_mask.png", "val/b.jpg", "val/b_mask.png")

    assert masks(around) == {
        "train": {"train/images/a.jpg": "train/masks/a.png"},
        "val": {"val/images/b.jpg": "val/masks/b.png"},
    }
    assert masks(inside) == {
        "train": {"images/train/a.jpg": "masks/train/a.png"},
        "val": {"images/val/b.jpg": "masks/val/b.png"},
    }
    assert masks(suffix) == {"train": {"train/a.jpg": "train/a_mask.png"}, "val": {"val/b.jpg": "val/b_mask.png"}}


def test_only_a_test_split_may_lack_masks(tmp_path: Path):
    source = tree(tmp_path, "images/train/a.jpg", "masks/train/a.png", "images/test/b.jpg")
    around = tree(tmp_path / "around", "train/images/a.jpg", "train/masks/a.png", "test/b.jpg")

    assert [(split.name, split.task) for split in list_source(source).splits] == [
        ("test", "unlabeled"),
        ("train", "segmentation"),
    ]
    assert masks(around)["test"] == {"test/b.jpg": ""}
    tree(tmp_path, "images/val/c.jpg")
    with pytest.raises(DataError, match=r"images/val/c\.jpg has no mask in .*/masks/val \(c\.png\); add it, or remove"):
        list_source(source)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("images/b.jpg", r"images/b\.jpg has no mask in .*masks \(b\.png\); add it, or remove the image"),
        ("masks/b.png", r"masks/b\.png is a mask without an image; add the image, or remove the mask"),
        ("masks/a_mask.png", r"masks/a_mask\.png is a mask without an image"),
        ("masks/a.jpg", r"masks/a\.jpg and masks/a\.png would be masks of the same image; remove one"),
    ],
)
def test_images_and_masks_without_partner_are_named_or_skipped_and_listed(tmp_path: Path, more: str, message: str):
    source = tree(tmp_path, "images/a.jpg", "masks/a.png", more)

    with pytest.raises(DataError, match=message):
        list_source(source)
    if "same" not in message:
        listing = list_source(source, skip_bad=True)
        assert [bad.path for bad in listing.bad] == [more]
        assert masks(source, skip_bad=True) == {"": {"images/a.jpg": "masks/a.png"}}


def test_a_missing_mask_beside_images_is_named(tmp_path: Path):
    source = tree(tmp_path, "a.jpg", "a_mask.png", "b.jpg")

    with pytest.raises(DataError, match=r"b\.jpg has no mask next to it \(b_mask\.png\)"):
        list_source(source)


def test_an_empty_mask_is_named(tmp_path: Path):
    source = write(tree(tmp_path, "images/a.jpg", "masks/a.png"), {"masks/a.png": b""})

    with pytest.raises(DataError, match=r"masks/a\.png is empty \(0 bytes\)"):
        list_source(source)


def test_two_folders_of_masks_are_both_named(tmp_path: Path):
    source = tree(tmp_path, "images/a.jpg", "masks/a.png", "labels/a.png")

    with pytest.raises(ConfigError, match=r"labels and .*masks could each be the folder of the masks; choose with"):
        list_source(source)


def test_other_files_beside_pairs_are_counted(tmp_path: Path):
    source = tree(tmp_path, "images/a.jpg", "images/notes.txt", "masks/a.png", "README")

    assert list_source(source).ignored == {".txt": 1}


def test_classes_of_pairs_come_from_a_list_beside_them(tmp_path: Path):
    pairs(tmp_path)

    assert list_source(tmp_path).classes == ("sky", "road", "car", "tree")
    (tmp_path / "classes.txt").unlink()
    assert list_source(tmp_path).classes == ()


@pytest.mark.parametrize("root", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_a_voc_tree_is_found_below_the_source(tmp_path: Path, root: str):
    told = voc(tmp_path / root)
    above = f"{root}/" if root else ""

    listing = list_source(tmp_path)

    assert (listing.layout, len(listing.classes), listing.ignore_index) == ("Pascal VOC", 21, 255)
    assert masks(tmp_path) == {
        split: {
            f"{above}{path}": f"{above}{path.replace('JPEGImages', 'SegmentationClass').replace('jpg', 'png')}"
            for path, one in told.items()
            if one.split == split
        }
        for split in ("train", "val")
    }


def test_one_of_two_voc_trees_must_be_chosen(tmp_path: Path):
    voc(tmp_path / "VOCdevkit/VOC2007")
    voc(tmp_path / "VOCdevkit/VOC2012")

    with pytest.raises(ConfigError, match=r"one Pascal VOC tree, not 2 \(.*VOC2007, .*VOC2012\); name one of them"):
        list_source(tmp_path)
    assert list(masks(tmp_path / "VOCdevkit/VOC2007")) == ["train", "val"]


def test_voc_images_without_masks_are_a_split_without_labels(tmp_path: Path):
    voc(tmp_path)
    write(tmp_path, {"ImageSets/Segmentation/test.txt": b"2007_000099\n"})

    assert {split.name: split.task for split in list_source(tmp_path).splits} == {
        "test": "unlabeled",
        "train": "segmentation",
        "val": "segmentation",
    }


def test_trainval_is_used_only_without_train_and_val(tmp_path: Path):
    voc(tmp_path)
    for name in ("train", "val"):
        (tmp_path / f"ImageSets/Segmentation/{name}.txt").unlink()

    assert [(name, len(part)) for name, part in masks(tmp_path).items()] == [("trainval", 2)]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("JPEGImages/2007_000033.jpg", r"train\.txt: there is no file .*JPEGImages/2007_000033\.jpg"),
        ("SegmentationClass/2007_000033.png", r"train\.txt: there is no file .*SegmentationClass/2007_000033\.png"),
    ],
)
def test_a_missing_file_of_a_voc_split_is_named(tmp_path: Path, lost: str, message: str):
    voc(tmp_path)
    (tmp_path / lost).unlink()

    with pytest.raises(DataError, match=message):
        list_source(tmp_path)
    assert [bad.path for bad in list_source(tmp_path, skip_bad=True).bad] == [lost]


def test_a_voc_split_that_names_an_image_twice_or_outside_is_refused(tmp_path: Path):
    voc(tmp_path)
    for content, message in ((b"2007_000032\n2007_000032\n", "is named twice"), (b"../../x\n", "is outside of")):
        write(tmp_path, {"ImageSets/Segmentation/train.txt": content})

        with pytest.raises(DataError, match=message):
            list_source(tmp_path)


def test_cityscapes_uses_train_ids_or_makes_them_from_label_ids(tmp_path: Path):
    cityscapes(tmp_path / "1")
    cityscapes(tmp_path / "1", kind="labelIds")
    cityscapes(tmp_path / "2", kind="labelIds")

    trained, labelled = list_source(tmp_path / "1"), list_source(tmp_path / "2")

    assert (trained.layout, len(trained.classes), trained.ignore_index) == ("Cityscapes (labelTrainIds)", 19, 255)
    assert (labelled.layout, len(labelled.classes), labelled.ignore_index) == ("Cityscapes (labelIds)", 19, 255)
    assert (trained.classes[0], trained.classes[18], labelled.classes[18]) == ("road", "bicycle", "bicycle")
    assert masks(tmp_path / "2")["val"] == {
        f"leftImg8bit/val/lindau/lindau_{n:06d}_000019_leftImg8bit.png": (
            f"gtFine/val/lindau/lindau_{n:06d}_000019_gtFine_labelIds.png"
        )
        for n in range(2)
    }


def test_a_cityscapes_image_without_mask_is_named(tmp_path: Path):
    cityscapes(tmp_path)
    (tmp_path / "gtFine/train/bochum/bochum_000001_000019_gtFine_labelTrainIds.png").unlink()

    with pytest.raises(
        DataError, match=r"bochum_000001_000019_leftImg8bit\.png: there is no file .*labelTrainIds\.png"
    ):
        list_source(tmp_path)


def test_a_cityscapes_split_without_masks_has_no_labels_and_without_any_is_refused(tmp_path: Path):
    cityscapes(tmp_path)
    write(tmp_path, {"leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png": MASK})

    assert [split.task for split in list_source(tmp_path).splits] == ["unlabeled", "segmentation", "segmentation"]
    for mask in tmp_path.rglob("*labelTrainIds.png"):
        mask.unlink()
    with pytest.raises(ConfigError, match=r"gtFine holds no \*_gtFine_labelTrainIds\.png or \*_gtFine_labelIds\.png"):
        list_source(tmp_path)


@pytest.mark.parametrize("form", ["{id}_{n}.png", "{id}/{n}.png", "{id}-cell-{n}.png"])
def test_several_masks_of_one_image_are_named_as_such(tmp_path: Path, form: str):
    found = [form.format(id=name, n=n) for name in ("a_1", "b") for n in range(3)]
    source = tree(tmp_path, "images/a_1.jpg", "images/b.jpg", *(f"masks/{name}" for name in found))

    with pytest.raises(ConfigError, match=r"images/a_1\.jpg seems to have 3 masks \(.*\): a sample has one label map"):
        masks(source)


def test_folders_of_one_image_and_its_masks_are_not_classes(tmp_path: Path):
    names = [f"{each}/images/{each}.jpg" for each in ("p", "q")]
    names += [f"{each}/masks/{n}.png" for each in ("p", "q") for n in range(3)]

    [doubt] = list_source(tree(tmp_path, *names)).doubts

    assert "p/masks has 3 masks of the image in p/images" in doubt.question
    assert "merge the masks of each image into one" in doubt.answer
