"""Data that several tests share: a small rendered data set, a model folder that needs no training, the real images."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from malaria_cells.base.tensorflow_setup import choose_kernels

choose_kernels()  # many tests import TensorFlow themselves
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MALARIA_CELLS_RETRY_SECONDS"] = "0.01"
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core: further threads would be in the other one's way
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same cases in every run, on a slow machine too; to look for new ones: pytest --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Files whose tests take minutes, the longest first. Workers that are given files in this order end at the same time; by number of tests,
# pytest-xdist's own order, files of few long ones would come last, and one worker would wait for the other.
LONGEST = ("one_stage", "export", "end_to_end", "docs", "training", "refiner", "learned", "adapt", "recipes", "saved_model")

REPOSITORY = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("MALARIA_CELLS_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place) + (item.path not in slow)))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """Eight training and four test smears of 640 x 480."""
    from malaria_cells.data.sample import write_sample

    folder = tmp_path_factory.mktemp("data") / "sample"
    write_sample(folder, training=8, test=4, seed=7, size_wh=(640, 480))
    return folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[None]:
    """An object store on this machine for s3://. Its address is in the environment, which processes of Ray have from their start on."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'malaria-cells[store]'")
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'malaria-cells[store]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it says each request
    served = moto.ThreadedMotoServer(port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (access | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            environment.setenv(name, value)
        yield
    served.stop()


@pytest.fixture(scope="session")
def ray_here(object_store) -> Iterator[None]:
    """A Ray cluster of this machine's processors, one for the whole session; commands use it as it is there."""
    from malaria_cells.base.ray_cluster import LOCAL, connected

    with connected(LOCAL):
        yield


@pytest.fixture(scope="session")
def iml() -> Path:
    folder = REAL_DATA / "iml_malaria"
    if not (folder / "annotations.json").is_file():
        pytest.skip(f"the IML-Malaria images are not at {folder}; set MALARIA_CELLS_REAL_DATA to the folder that holds iml_malaria")
    return folder


@pytest.fixture(scope="session")
def laboratories() -> Path:
    """The folder of other laboratories' data sets, a subfolder each."""
    folder = REAL_DATA / "labs"
    if not folder.is_dir():
        pytest.skip(f"other laboratories' images are not at {folder}; set MALARIA_CELLS_REAL_DATA to the folder that holds labs")
    return folder


@pytest.fixture(scope="session")
def bbbc041_file() -> Path:
    path = REAL_DATA / "bbbc041" / "test.json"
    if not path.is_file():
        pytest.skip(f"the genuine BBBC041 annotation is not at {path}; set MALARIA_CELLS_REAL_DATA to the folder that holds bbbc041")
    return path


@pytest.fixture(scope="session")
def six_classes():
    from malaria_cells.config import PARASITES, SIX_CLASSES
    from malaria_cells.data.labels import LabelSet

    return LabelSet(tuple(SIX_CLASSES), ("difficult",), tuple(PARASITES), ("red blood cell",))


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory, six_classes) -> Path:
    """A model folder whose network has random weights: right in format, wrong in content, made in seconds."""
    import keras

    from malaria_cells.inference.calibration import Calibration
    from malaria_cells.inference.decision import DetectionSettings
    from malaria_cells.inference.model_description import ModelDescription
    from malaria_cells.inference.model_folder import save_model
    from malaria_cells.models import build_classifier

    keras.utils.set_random_seed(0)
    network = build_classifier("compact", (32, 32), 7, 0.0)
    description = ModelDescription(
        labels=six_classes,
        model="compact",
        has_background=True,
        image_size_hw=(32, 32),
        context=1.25,
        cell_size=72.0,
        proposals="watershed",
        box_margins={"regions": (-0.01, -0.01, 0.01, 0.01)},
        settings=DetectionSettings(score_threshold=0.0),
        # The background class is held down, so that random weights detect something.
        calibration=Calibration(1.0, 1.0, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -20.0)),
        fingerprints={"train": "none"},
        seed=0,
    )
    folder = tmp_path_factory.mktemp("models") / "untrained"
    folder.mkdir()
    save_model(folder, [network], description)
    return folder


def write_image(path: Path, size_wh: tuple[int, int] = (100, 80), value: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size_wh[1], size_wh[0], 3), value, dtype=np.uint8)).save(path)


def bbbc041_entry(name: str, objects: list[tuple], size_wh: tuple[int, int] = (100, 80)) -> dict:
    """An entry of BBBC041's JSON; objects are (category, x_min, y_min, x_max, y_max)."""
    return {
        "image": {"checksum": "", "pathname": name, "shape": {"r": size_wh[1], "c": size_wh[0], "channels": 3}},
        "objects": [
            {"category": c, "bounding_box": {"minimum": {"r": top, "c": left}, "maximum": {"r": bottom, "c": right}}}
            for c, left, top, right, bottom in objects
        ],
    }


def write_bbbc041(folder: Path, images: dict[str, list[tuple]], size_wh: tuple[int, int] = (100, 80), name: str = "training.json") -> Path:
    """A data set of grey images in BBBC041's layout."""
    for key in images:
        write_image(folder / key, size_wh)
    path = folder / name
    path.write_text(json.dumps([bbbc041_entry(f"/{key}", objects, size_wh) for key, objects in images.items()]), encoding="utf-8")
    return path
