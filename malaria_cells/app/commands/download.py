"""``download``: downloads a public data set, or renders the sample. Standard library only, so it runs before anything is installed."""

from pathlib import Path

from malaria_cells.app.commands.download_archives import ARCHIVES, Archive
from malaria_cells.app.commands.download_fetch import discard, fetch, kaggle_authorization
from malaria_cells.app.commands.download_unpack import unpack
from malaria_cells.base.errors import InputError, nearest

SAMPLE = "sample"
SAMPLE_ABOUT = "56 rendered smears with boxes of six classes; needs no network"


def list_names() -> int:
    """Print each name with a line about the data set."""
    for name, archive in ARCHIVES.items():
        print(f"{name:10} {archive.about}")
    print(f"{SAMPLE:10} {SAMPLE_ABOUT}")
    return 0


def download(names: list[str], data: Path) -> int:
    """Download data sets to the folders ``data/NAME``. Data sets that are already there are left unchanged.

    Raises:
        InputError: a name is unknown, the connection or the server fails, or the archive is damaged. The bytes of an interrupted download
            are kept, and the next call continues it.
    """
    names, known = names or ["bbbc041"], [*ARCHIVES, SAMPLE]
    for name in names:
        if name not in known:
            raise InputError(f"unknown data set '{name}'{nearest(name, known)}; expected one of {', '.join(known)}")
    for name in names:
        if name == SAMPLE:
            _provide_sample(data / SAMPLE)
        else:
            _provide(ARCHIVES[name], data / name)
    return 0


def _provide_sample(folder: Path) -> None:
    if (folder / "training.json").is_file():
        print(f"{folder}: already there")
    else:
        try:
            from malaria_cells.data.sample import write_sample
        except ImportError as error:
            raise InputError(f"sample: rendering needs the installed package ({error}); run `make install` first") from error
        write_sample(folder, training=40, test=16, seed=42)
        print(f"{folder}: 40 training and 16 test images rendered")
    print(f"next:  python train.py --config=config.yaml --set train_images={folder}")


def _provide(archive: Archive, folder: Path) -> None:
    if (folder / archive.marker).exists():
        print(f"{folder}: already there")
    else:
        authorization = kaggle_authorization(archive.rules) if archive.rules else None
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.parent / f".{folder.name}.zip.part"
        fetch(archive.url, part, authorization)
        extras = {name: folder.parent / f".{folder.name}.{name}.part" for name in archive.extras}
        for name, extra in extras.items():
            fetch(archive.extras[name], extra)
        unpack(part, archive, folder, extras)
        for file in (part, *extras.values()):
            discard(file)
        print(f"{folder}: done")
    print(f"next:  {archive.next_step}")
