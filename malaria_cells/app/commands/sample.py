"""``sample``: renders a data set of smears."""

from pathlib import Path

from malaria_cells.data.sample import write_sample


def sample(folder: Path, training: int, test: int, seed: int) -> int:
    """Render images into `folder` and print the next command.

    Raises:
        InputError: the folder holds other files than a sample.
    """
    write_sample(folder, training, test, seed)
    print(f"{training} training and {test} test images: {folder}\nnext:  python train.py --config=config.yaml --set train_images={folder}")
    return 0
