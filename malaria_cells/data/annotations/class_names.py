"""Decides by their names whether folders are classes, or slides, patients, kinds of images and the like."""

import re

from malaria_cells.data.annotations.parts import is_plain, words

# Words that never occur in a class name: one such word is enough to rule all folders out.
_NEVER = words(
    "ann anns annotated groundtruth inference mask masks output outputs overlay overlays pics prediction predictions results runs "
    "segmentation segmentations thumbnails"
)
# Words for sizes, states and kinds of images: they rule the folders out if no folder's name has any other word.
_IMAGE_KINDS = words(
    "apr aug augmented bmp box cropped crops dec feb film films full gif gray grey high highres input inputs jan jpeg jpg jul jun "
    "labeled labelled large low lowres mar may new normalized nov oct old original originals png processed raw res rgb sep small "
    "smear smears target targets thick thin tif tiff tile tiles unlabeled unlabelled webp"
)
# Words that are numbered, by digits or letters, if every slide, patient or day has a folder.
_SERIES = words(
    "batch camera case center centre clinic date day dir donor exp experiment field fold folder fov frame group hospital image img "
    "lab laboratory microscope operator part patient photo picture plate reader run sample scan series session site slide smear "
    "subject tile user video week well"
)
# Words after which classes themselves are numbered, as in ``stage1``.
_NUMBERED_CLASSES = words("c cat category class cluster grade label level score species stage type")


def why_no_classes(names: list[str]) -> str:
    """Why folders of these names are not classes; empty if they can be.

    Examples:
        >>> why_no_classes(["Parasitized", "Uninfected"]), why_no_classes(["0", "1"]), why_no_classes(["stage1", "stage2"])
        ('', '', '')
        >>> why_no_classes(["images", "masks"])
        "'images' is not the name of a class"
        >>> why_no_classes(["slide1", "slide2"])
        'they look like numbered slides, patients, days or sites'
    """
    never = [name for name in names if is_plain(name) or set(_words(name)) & _NEVER]
    if never:
        return f"'{never[0]}' is not the name of a class"
    if all(_words(name) and set(_words(name)) <= _IMAGE_KINDS for name in names):
        return "they are named after kinds of images"
    return "they look like numbered slides, patients, days or sites" if _are_numbered(names) else ""


def _words(name: str) -> list[str]:
    """The words of a name in lower case: ``PatientA`` has two, ``S01`` one."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _are_numbered(names: list[str]) -> bool:
    without_digits = {re.sub(r"[\W\d_]+", " ", name.lower()).strip() for name in names}
    if len(without_digits) == 1 and len(names) > 1:
        word = without_digits.pop()
        if not word:  # names of digits alone are classes (0 to 9), or dates if they are long
            return all(len(re.sub(r"\D", "", name)) >= 6 for name in names)
        return word.split()[-1].rstrip("s") not in _NUMBERED_CLASSES
    first = {(_words(name) or [""])[0].rstrip("s") for name in names}
    rest = [_words(name)[1:] for name in names]
    return len(first) == 1 and first <= _SERIES and all(len("".join(last_words)) <= 1 for last_words in rest)
