"""``page``: the page in a browser, served by Streamlit."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from malaria_cells.errors import InputError
from malaria_cells.model_description import ABOUT
from malaria_cells.model_folder import shipped

LOCAL = "127.0.0.1"


def page(model: Path | None, models: Path, review: Path, address: str, port: int) -> int:
    """Serve the page until a person stops it.

    Args:
        model: folder that is chosen at first; None: the shipped one.
        models: folder whose model folders are offered too.
        review: folder that corrections are written to.
        address: to listen on.
        port: likewise.

    Raises:
        InputError: no such model, or Streamlit is not installed.
    """
    first = shipped() if model is None else model
    if not (first / ABOUT).is_file():
        raise InputError(f"--model {first}: not a model folder, {ABOUT} is missing")
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("plotly") is None:
        raise InputError("page: Streamlit or Plotly is not installed; pip install 'malaria-cells[page]'")
    others = [p.parent for p in sorted(models.glob(f"*/{ABOUT}"))] + [shipped()]
    offered = list(dict.fromkeys(_short(p) for p in (first, *others)))
    settings = {
        "server.address": address,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "theme.primaryColor": "#0072B2",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    script = Path(__file__).parents[1] / "page" / "app.py"
    print(f"the page: http://{address}:{port}   (Ctrl+C ends it)", flush=True)
    command = [sys.executable, "-m", "streamlit", "run", *options, str(script), "--", str(review), *offered]
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603  our own script, no shell
    except KeyboardInterrupt:
        return 0


def _short(path: Path) -> str:
    """Relative to where the person is, if it is below."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else str(path)
