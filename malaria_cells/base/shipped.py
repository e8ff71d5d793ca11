"""Paths of the models, weights and configs that are shipped with the package."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped_path(*names: str) -> Path:
    """Return the path of a shipped file or folder.

    An installed package holds these folders inside itself; in a checkout they are at the top level of the repository.

    Args:
        names: parts of the path relative to the top level of the repository, such as ``"pretrained", "thin_smear"``.
    """
    within = PACKAGE.joinpath(*names)
    return within if within.exists() else PACKAGE.parent.joinpath(*names)


def or_shipped(path: Path) -> Path:
    """Return the path, or what comes along under that name where there is nothing: `pretrained/thin_smear` works from any folder."""
    try:
        there = path.is_absolute() or path.exists()
    except (OSError, ValueError):  # no name of a file; whoever opens it says what is wrong with it
        return path
    shipped = shipped_path(*path.parts)
    return path if there or not path.parts or ".." in path.parts or not shipped.exists() else shipped
