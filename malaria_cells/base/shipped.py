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
