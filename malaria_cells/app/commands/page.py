"""``page``: serves the web page by Streamlit."""

import importlib.util
import socket
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.inference.model_folder import shipped

LIKELY_FREE = 8600  # port suggested if the requested one is taken


def page(model: Path | None, models: Path, review: Path, address: str, port: int) -> int:
    """Serve the page until the user stops it.

    Args:
        model: model folder selected at start; None: the shipped model.
        models: folder of other model folders to offer.
        review: folder for corrections.
        address: address to bind.
        port: port to bind, 1 to 65535.

    Raises:
        InputError: the model does not exist, Streamlit or Plotly is not installed, or the address and port cannot be bound.
    """
    first = shipped() if model is None else model
    if not (first / ABOUT).is_file():
        raise InputError(f"--model {first}: not a model folder, {ABOUT} is missing; name a folder that train.py wrote")
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("plotly") is None:
        raise InputError("page: Streamlit or Plotly is not installed; run pip install 'malaria-cells[page]'")
    _check_free(address, port)
    other_folders = [p.parent for p in sorted(models.glob(f"*/{ABOUT}"))] + [shipped()]
    offered = list(dict.fromkeys(_short(p) for p in (first, *other_folders)))
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
    print(f"the page: http://{address}:{port}   (Ctrl+C stops it)", flush=True)
    from streamlit.web.cli import main

    # The server runs in this process, so stopping the process stops the server.
    main(["run", *options, str(script), "--", str(review), str(models), *offered], prog_name="streamlit", standalone_mode=False)
    return 0


def _check_free(address: str, port: int) -> None:
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: not a port, expected 1 to 65535")
    try:
        socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError as error:
        raise InputError(
            f"--address {address} --port {port}: cannot be bound ({error}); choose another port, such as --port {LIKELY_FREE}"
        ) from None


def _short(path: Path) -> str:
    """The path relative to the working directory if it lies in it, otherwise unchanged."""
    cwd = Path.cwd()
    return str(path.resolve().relative_to(cwd)) if path.resolve().is_relative_to(cwd) else str(path)
