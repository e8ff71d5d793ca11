"""What the detector is compared with: Ultralytics' exports, an older version of ourselves, and our own files for other engines."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.bench.contender import ContenderError
from benchmarks.bench.settings import ROOT, Settings

# Ultralytics is under the AGPL and brings PyTorch, so it gets an environment of its own, in which networks are exported and nothing else.
ENVIRONMENT = ROOT / ".venv-bench"
INSTALLED = ("ultralytics", "onnx", "onnxslim")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # of PyTorch: a tenth of the size of those for GPUs
EXPORT = """
import sys
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
model = YOLO(sys.argv[1] + ".yaml")
network = DetectionModel(sys.argv[1] + ".yaml", nc=int(sys.argv[3]), verbose=False)
network.args, network.task = model.model.args, model.model.task
model.model = network
print(model.export(format="onnx", imgsz=int(sys.argv[2]), simplify=True))
"""
OLD = "9ede027"


def ultralytics_network(settings: Settings, name: str, side: int, n_labels: int) -> Path:
    """An ONNX file of one of Ultralytics' architectures with random weights, exported once.

    Raises:
        ContenderError: Ultralytics cannot be installed, or does not export this.
    """
    folder = (settings.cache / "ultralytics").resolve()
    path = folder / f"{name}-{n_labels}-{side}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        python = _environment()
        _called([python, "-c", EXPORT, name, side, n_labels], f"Ultralytics' export of {name}", folder)
        (folder / f"{name}.onnx").replace(path)
    return path


def _environment() -> Path:
    """The Python of the environment that has Ultralytics, which is made where it is not there."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    if subprocess.run([python, "-c", "import ultralytics, onnx"], capture_output=True, check=False).returncode:
        print(f"installing Ultralytics into {ENVIRONMENT.name} (this takes minutes, once)", file=sys.stderr)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *INSTALLED]
        if subprocess.run([*install, "--extra-index-url", CPU_WHEELS], capture_output=True, check=False).returncode:
            _called(install, "installing Ultralytics")
    return python


def old_version(settings: Settings) -> Path:
    """A folder with the files of the version that is compared with.

    Raises:
        ContenderError: this is no clone, or one without that commit.
    """
    folder = settings.cache.resolve() / OLD
    if not (folder / "pretrained").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder.with_suffix(".tar")
        _called(["git", "archive", "--output", archive, OLD], f"taking out version {OLD}", ROOT)
        _called(["tar", "-xf", archive, "-C", folder], f"taking out version {OLD}")
        archive.unlink()
    return folder


def exported(settings: Settings, format_name: str = "onnx") -> Path:
    """The model's folder if it holds the networks in a format; otherwise a folder that they are exported to, once for each model.

    Raises:
        ContenderError: the format's library is not installed.
    """
    model = settings.model.resolve()
    if any(model.glob(f"**/*.{format_name}")):
        return model
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted((*model.glob("*.keras"), model / "model.yaml")):
        digest.update(path.read_bytes())
    folder = settings.cache.resolve() / f"{format_name}-{digest.hexdigest()}"
    if not (folder / "model.yaml").is_file():
        command = [sys.executable, "-m", "malaria_cells", "export", "--model", model, "--format", format_name, "--output", folder]
        _called(command, f"exporting {model.name} to {format_name}", ROOT)
    return folder


def _called(command: list[object], what: str, folder: Path | None = None) -> None:
    finished = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = (finished.stderr.strip() or finished.stdout.strip()).splitlines()
        raise ContenderError(f"{what} failed: {lines[-1] if lines else f'exit code {finished.returncode}'}")
