"""What comes along with the package: models, weights, configs."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped_path(*names: str) -> Path:
    """The place of a file or folder that comes along.

    In a checkout that is the top level; an installed package holds the same folders within itself.

    Args:
        names: from the top level of the repository on, such as ``"pretrained", "thin_smear"``.
    """
    within = PACKAGE.joinpath(*names)
    return within if within.exists() else PACKAGE.parent.joinpath(*names)
