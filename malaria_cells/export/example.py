"""The example that lies beside an exported model: a copy of one of two modules, both linted, typed and tested as they are here."""

import shutil
from pathlib import Path

from malaria_cells.inference.model_description import ModelDescription

EXAMPLE = "example.py"


def runs_alone(description: ModelDescription) -> bool:
    """Whether a model's example needs the engine and small libraries alone, and not this package (see `standalone`)."""
    if description.detector != "two_stage":
        return False
    if not description.has_background:
        return description.scan is None
    return description.proposals == "learned" and description.cell_size is not None


def write_example(folder: Path, description: ModelDescription) -> None:
    """Write ``example.py`` into a folder that holds exported networks and ``model.yaml``, from which it reads all that it needs."""
    source = "standalone.py" if runs_alone(description) else "by_package.py"
    shutil.copyfile(Path(__file__).with_name(source), folder / EXAMPLE)
