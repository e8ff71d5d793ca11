"""The example in the folder of an exported model: a copy of one of two modules, which are linted, typed and tested in the package."""

import shutil
from pathlib import Path

from malaria_cells.inference.model_description import ModelDescription

EXAMPLE = "example.py"


def runs_alone(description: ModelDescription) -> bool:
    """Whether the example of a model needs only the engine and small libraries, and not this package (see `standalone`)."""
    if description.detector != "two_stage":
        return False
    if not description.has_background:
        return description.scan is None
    return description.proposals == "learned" and description.cell_size is not None


def write_example(folder: Path, description: ModelDescription) -> None:
    """Write ``example.py`` into a folder with exported networks and ``model.yaml``."""
    source = "standalone.py" if runs_alone(description) else "by_package.py"
    shutil.copyfile(Path(__file__).with_name(source), folder / EXAMPLE)
