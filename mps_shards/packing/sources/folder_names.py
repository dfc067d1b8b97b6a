"""Meanings of folder names: splits, such as ``seg_train`` or ``test_images``, and kinds of files, such as ``img1``."""

import re
from collections.abc import Sequence

__all__ = ["SPLIT_WORDS", "names_files", "split_names", "split_word"]

# words that name a split, and the name of the split of a folder with further words, such as ``training_set``
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testset"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "eval"),
    "dev": "dev",
    "holdout": "holdout",
    "trainval": "trainval",
    "pred": "pred",
}
# words without a meaning next to a split word, as in seg_train, test_images, ISIC_2019_Training_Input
_FILLERS = frozenset(
    [
        *("seg", "set", "sets", "image", "images", "img", "imgs", "jpg", "jpeg", "png", "pics", "pictures", "photos"),
        *("photo", "data", "dataset", "datasets", "split", "folder", "dir", "input", "inputs", "x", "raw", "original"),
        *("new", "final", "resized", "cropped", "full", "all", "v", "part"),
    ]
)
# words that name splits only if they stand alone or next to other splits
_WEAK = frozenset(["pred", "holdout"])
_PARTS = re.compile(r"[A-Za-z]+|\d+")


def split_word(name: str) -> str | None:
    """Return the split that a folder of this name holds, whatever its siblings are called; None if it is no split.

    The name may have a year, a number and words such as "images" or "set" next to the split word.
    """
    words = _words(name)
    found = [word for word in words if word in SPLIT_WORDS and word not in _WEAK]
    if len(found) == 1 and all(word in SPLIT_WORDS or word in _FILLERS or word.isdigit() for word in words):
        return SPLIT_WORDS[found[0]]
    return None


def names_files(name: str) -> bool:
    """Whether a folder is named after the kind of its files, as img1 and JPEGImages are, and so after no class."""
    return bool(
        re.fullmatch(r"((jpe?g|png)?(images?|imgs?|pics|pictures|photos?|frames?)|jpe?g|png)[_-]?\d*", name, re.I)
    )


def split_names(folders: Sequence[str]) -> dict[str, str]:
    """Return the split that each of these sibling folders holds; empty unless all of them are splits.

    Besides fillers, all names may share further words: ``flowers_train`` and ``flowers_test``. A folder that is named
    by a split word alone keeps its name.
    """
    words = {folder: _words(folder) for folder in folders}
    rests: dict[str, tuple[str, ...]] = {}
    for folder, parts in words.items():
        found = [part for part in parts if part in SPLIT_WORDS]
        if len(found) != 1:
            return {}
        rests[folder] = tuple(part for part in parts if part not in SPLIT_WORDS)
    plain = all(all(part in _FILLERS or part.isdigit() for part in rest) for rest in rests.values())
    if not plain and (len(folders) < 2 or len(set(rests.values())) > 1):
        return {}
    named = {folder: next(part for part in words[folder] if part in SPLIT_WORDS) for folder in folders}
    if all(word in _WEAK for word in named.values()):
        return {}
    splits = {folder: folder if folder.lower() == word else SPLIT_WORDS[word] for folder, word in named.items()}
    if len(set(splits.values())) < len(splits):
        return {folder: folder for folder in folders}
    return splits


def _words(name: str) -> list[str]:
    """Return the lower-case words and numbers of a name: isic, 2019, training, input for ``ISIC_2019TrainingInput``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [part.lower() for part in _PARTS.findall(spaced)]
