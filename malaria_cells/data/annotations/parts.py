"""Names of the parts of a data set (train, validation, test), and generic names of folders and files."""

import re
from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    """The set of the words in a text, which are separated by spaces."""
    return frozenset(text.split())


PARTS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Generic words, also in names of parts such as `obj_train_data`, `images_train`, `instances_val2017`.
_GENERIC = words(
    "captions keypoints panoptic person stuff "
    "annotation annotations boxes bbox coco csv data dataset default gt image images img imgs instances json label labels obj "
    "part set split subset txt voc xml yolo text texts picture pictures photos jpegimages"
)
# Names of folders with annotation files only, whose images are in a sibling folder.
ANNOTATION_FOLDERS = frozenset({"annotation", "annotations", "label", "labels", "json", "xml", "xmls", "coco", "voc", "csv", "yolo"})


def part_named(name: str) -> str | None:
    """The part that a folder, or a file without its suffix, is named after; None if it is named after none.

    Examples:
        >>> part_named("valid"), part_named("instances_train2017"), part_named("obj_test_data"), part_named("test_tube")
        ('validation', 'train', 'test', None)
    """
    name_words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    parts = [PARTS[word] for word in name_words if word in PARTS]
    return parts[0] if len(parts) == 1 and all(word in PARTS or word in _GENERIC for word in name_words) else None


def part_of_path(folders: Iterable[str], stem: str = "") -> str | None:
    """The part that a path belongs to, by the file's stem, else by the nearest folder that is named after a part; None if unknown.

    Examples:
        >>> part_of_path(["images", "train"], "a"), part_of_path(["annotations"], "instances_val2017"), part_of_path(["a"], "b")
        ('train', 'validation', None)
    """
    return next((part for name in (stem, *reversed(list(folders))) if name and (part := part_named(name))), None)


def is_plain(name: str) -> bool:
    """Whether a folder's name is generic, made of words such as ``images`` and ``train`` only: ``obj_train_data``.

    Examples:
        >>> is_plain("JPEGImages"), is_plain("train2017"), is_plain("slide1")
        (True, True, False)
    """
    name_words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return bool(name_words) and all(word in PARTS or word in _GENERIC for word in name_words)
