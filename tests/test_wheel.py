"""The wheel, installed into an environment of its own and used in an empty folder, has all that the commands need."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest

SECONDS = 90  # until the page answers


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """The folder of programs of an environment that holds the wheel; everything else comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    left_out = {".git", ".cache", "build", "data", "models", "results", "site"}  # at the top level alone: the package has folders so called
    shutil.copytree(
        repository,
        source,
        ignore=lambda place, names: {
            name
            for name in names
            if (Path(place) == repository and (name in left_out or name.startswith(".venv"))) or name == "__pycache__"
        },
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    (packages,) = (folder / "venv").rglob("site-packages")
    (packages / "libraries.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    subprocess.run([*pip, "--python", programs / "python", "install", "--no-deps", "--no-index", wheel], check=True)
    shutil.rmtree(source)
    return programs


@pytest.fixture
def program(installed, tmp_path):
    """Runs one of the environment's programs in an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COV"))}

    def run(name, *arguments, begin=False):
        command = [installed / name, *map(str, arguments)]
        if begin:
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return run, folder


@pytest.mark.slow
def test_the_shipped_model_is_there(program, repository):
    run, folder = program
    shutil.copy(repository / "docs" / "images" / "smear.jpg", folder)
    done = run("malaria-cells", "run", "--image", "smear.jpg", "--output", "results")
    assert done.returncode == 0, done.stderr
    assert len((folder / "results" / "detections.csv").read_text().splitlines()) > 20
    code = (
        "import malaria_cells; from malaria_cells import CellDetector;"
        "print(malaria_cells.__file__, len(CellDetector.load().detect('smear.jpg')))"
    )
    done = run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    place, count = done.stdout.split()
    assert Path(place).is_relative_to(folder.parents[1] / "wheel0") or "site-packages" in place
    assert int(count) > 20


@pytest.mark.slow
def test_a_sample_is_made_and_trained_on_by_the_configs_that_came_along(program):
    run, folder = program
    done = run("malaria-cells", "sample", "data/sample", "--training", 8, "--test", 2)
    assert done.returncode == 0, done.stderr
    short = {"train_images": "data/sample", "name": "m", "epochs": 1, "steps_per_epoch": 4, "proposals": "watershed", "refiner": "null"}
    sets = [part for key, value in short.items() for part in ("--set", f"{key}={value}")]
    done = run("malaria-cells", "train", "--config", "configs/from_scratch.yaml", *sets)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "models" / "m" / "metrics.json").read_text())["epochs"] == 1
    # The default config names the model to begin with by a path that is relative to its own folder.
    done = run("malaria-cells", "explore", "--config", "config.yaml", "--set", "train_images=data/sample")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_page_starts(program):
    pytest.importorskip("streamlit", reason="needs the page's libraries")
    run, _ = program
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = run("malaria-cells", "page", "--port", port, begin=True)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    assert answer.read() == b"ok"
                break
            except OSError:
                assert page.poll() is None, "the page ended"
                assert time.monotonic() < deadline, "the page does not answer"
                time.sleep(0.5)
    finally:
        page.terminate()
        page.wait(30)
