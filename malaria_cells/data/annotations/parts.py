"""The words by which data sets call their parts, and the folders that say nothing about what is in them."""

import re
from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    """A set of words that are written one after the other."""
    return frozenset(text.split())


PARTS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Words that stand beside a part's in names such as `obj_train_data`, `images_train`, `instances_val2017`.
_BESIDE = words(
    "captions keypoints panoptic person stuff "
    "annotation annotations boxes bbox coco csv data dataset default gt image images img imgs instances json label labels obj "
    "part set split subset txt voc xml yolo text texts image images photos jpegimages"
)
# Names of folders that hold annotation files alone, their images lying in a folder beside them.
ANNOTATION_FOLDERS = frozenset({"annotation", "annotations", "label", "labels", "json", "xml", "xmls", "coco", "voc", "csv", "yolo"})


def part_named(name: str) -> str | None:
    """The part that the name of a folder, or of a file without its suffix, stands for; None where it stands for none.

    Examples:
        >>> part_named("valid"), part_named("instances_train2017"), part_named("obj_test_data"), part_named("test_tube")
        ('validation', 'train', 'test', None)
    """
    found = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    named = [PARTS[word] for word in found if word in PARTS]
    return named[0] if len(named) == 1 and all(word in PARTS or word in _BESIDE for word in found) else None


def part_of_path(folders: Iterable[str], stem: str = "") -> str | None:
    """The part that a path stands for: the file's own name counts first, then the nearest folder.

    Examples:
        >>> part_of_path(["images", "train"], "a"), part_of_path(["annotations"], "instances_val2017"), part_of_path(["a"], "b")
        ('train', 'validation', None)
    """
    return next((part for name in (stem, *reversed(list(folders))) if name and (part := part_named(name))), None)


def is_plain(name: str) -> bool:
    """Whether the name of a folder says nothing about what is in it: ``images``, ``train``, ``obj_train_data``.

    Examples:
        >>> is_plain("JPEGImages"), is_plain("train2017"), is_plain("slide1")
        (True, True, False)
    """
    found = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return bool(found) and all(word in PARTS or word in _BESIDE for word in found)
