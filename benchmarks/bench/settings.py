"""What all groups of the benchmark are told: how much to do, on which cores, with which images."""

import json
import os
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORES = 2  # the targets are for two
SAMPLE_IMAGES = 24  # rendered, where no real data set is at hand


@dataclass(frozen=True)
class Settings:
    """How much is measured, and on what.

    Attributes:
        quick: whether small numbers are taken, which show that everything works and are no result.
        cores: numbers of the cores that everything but the rows about cores runs on; empty where the system cannot limit them.
        all_cores: numbers of the cores that this process was given.
        cache: folder of exports, other versions and whatever else may be kept for the next run.
        model: folder of the model that is measured.
        train: whether the shipped model is trained anew, which takes the better part of an hour.
    """

    quick: bool
    cores: tuple[int, ...]
    all_cores: tuple[int, ...]
    cache: Path
    model: Path
    train: bool = False

    @property
    def images(self) -> int:
        """Photographs of a round of detection."""
        return 8 if self.quick else 100

    @property
    def repeats(self) -> int:
        """Rounds, of which the median counts."""
        return 2 if self.quick else 5

    @property
    def few_repeats(self) -> int:
        """Rounds of what takes a minute each."""
        return 2 if self.quick else 3

    @property
    def n_cores(self) -> int:
        """Number of the cores in use."""
        return len(self.cores) or os.cpu_count() or 1


def limited_to(n_cores: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Keep this process and those that it starts on its first `n_cores` cores: the cores in use, and all that there were."""
    if not hasattr(os, "sched_setaffinity"):  # macOS and Windows
        return (), ()
    every = tuple(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, every[:n_cores])
    return every[:n_cores], every


def data_set(settings: Settings) -> Path:
    """A folder of annotated photographs: IML-Malaria or BBBC041 where they are at hand, else smears that are rendered once."""
    for name in ("iml_malaria", "iml", "bbbc041"):
        if (ROOT / "data" / name / "split.json").is_file():
            return ROOT / "data" / name
    folder = settings.cache / "sample"
    if not folder.exists():
        from malaria_cells.data.sample import write_sample

        folder.parent.mkdir(parents=True, exist_ok=True)
        write_sample(folder, training=SAMPLE_IMAGES, test=SAMPLE_IMAGES // 2, seed=42)
    return folder


def photographs(settings: Settings) -> list[Path]:
    """The different test photographs of `data_set`."""
    folder = data_set(settings)
    split = folder / "split.json"
    if split.is_file():
        names = {Path(name).name for name in json.loads(split.read_text(encoding="utf-8"))["test"]}
        return sorted(path for path in (folder / "images").iterdir() if path.name in names)
    return sorted((folder / "images").glob("slide5*.jpg"))


def repeated(paths: list[Path], count: int) -> list[Path]:
    """So many of the photographs, again from the first one after the last."""
    return list(islice(cycle(paths), count))
