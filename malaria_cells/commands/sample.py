"""``sample``: render a data set."""

from pathlib import Path

from malaria_cells.errors import InputError
from malaria_cells.sample import write_sample


def sample(folder: Path, training: int, test: int, seed: int) -> int:
    """Render into `folder` and say what to type next.

    Raises:
        InputError: the folder holds something else than a sample.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "training.json").is_file():
        raise InputError(f"{folder}: holds other files; name a new folder")
    write_sample(folder, training, test, seed)
    print(
        f"{training} training and {test} test pictures: {folder}\nnext:  python train.py --config=config.yaml --set train_images={folder}"
    )
    return 0
