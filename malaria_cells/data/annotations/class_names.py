"""Tells folders that are called like classes from folders that are called like something else."""

import re

from malaria_cells.data.annotations.parts import is_plain, words

# Words of which one is enough: a folder of that name holds no examples of a class.
_NEVER = words(
    "ann anns annotated groundtruth inference mask masks output outputs overlay overlays pics prediction predictions results runs "
    "segmentation segmentations thumbnails"
)
# Words that name no class where all folders are called by them alone: sizes, states and kinds of images.
_RATHER_NOT = words(
    "apr aug augmented bmp box cropped crops dec feb film films full gif gray grey high highres input inputs jan jpeg jpg jul jun "
    "labeled labelled large low lowres mar may new normalized nov oct old original originals png processed raw res rgb sep small "
    "smear smears target targets thick thin tif tiff tile tiles unlabeled unlabelled webp"
)
# Words that are counted up where slides, patients or days have a folder each, by digits or by letters.
_SERIES = words(
    "batch camera case center centre clinic date day dir donor exp experiment field fold folder fov frame group hospital image img "
    "lab laboratory microscope operator part patient photo image plate reader run sample scan series session site slide smear "
    "subject tile user video week well"
)
# Words by which classes themselves are counted up.
_CLASSES = words("c cat category class cluster grade label level score species stage type")


def why_no_classes(names: list[str]) -> str:
    """Why folders of these names are not taken for classes; nothing where they are.

    Examples:
        >>> why_no_classes(["Parasitized", "Uninfected"]), why_no_classes(["0", "1"]), why_no_classes(["stage1", "stage2"])
        ('', '', '')
        >>> why_no_classes(["images", "masks"])
        "'images' names none"
        >>> why_no_classes(["slide1", "slide2"])
        'they look like slides, patients, days or sites, which are counted up'
    """
    never = [name for name in names if is_plain(name) or set(_words(name)) & _NEVER]
    if never:
        return f"'{never[0]}' names none"
    if all(_words(name) and set(_words(name)) <= _RATHER_NOT for name in names):
        return "they are called like kinds of images"
    return "they look like slides, patients, days or sites, which are counted up" if _counted_up(names) else ""


def _words(name: str) -> list[str]:
    """The words of a name in lower case: ``PatientA`` is two, ``S01`` one."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _counted_up(names: list[str]) -> bool:
    without_digits = {re.sub(r"[\W\d_]+", " ", name.lower()).strip() for name in names}
    if len(without_digits) == 1 and len(names) > 1:
        word = without_digits.pop()
        if not word:  # digits alone are classes (0 to 9), but for dates
            return all(len(re.sub(r"\D", "", name)) >= 6 for name in names)
        return word.split()[-1].rstrip("s") not in _CLASSES
    first = {(_words(name) or [""])[0].rstrip("s") for name in names}
    rest = [_words(name)[1:] for name in names]
    return len(first) == 1 and first <= _SERIES and all(len("".join(others)) <= 1 for others in rest)
