"""``page``: the page in a browser, served by Streamlit."""

import importlib.util
import socket
from pathlib import Path

from malaria_cells.base.errors import InputError
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.inference.model_folder import shipped

LIKELY_FREE = 8600


def page(model: Path | None, models: Path, review: Path, address: str, port: int) -> int:
    """Serve the page until a person stops it.

    Args:
        model: folder that is chosen at first; None: the shipped one.
        models: folder whose model folders are offered too.
        review: folder that corrections are written to.
        address: to listen on.
        port: likewise.

    Raises:
        InputError: no such model, Streamlit is not installed, or the port is taken.
    """
    first = shipped() if model is None else model
    if not (first / ABOUT).is_file():
        raise InputError(f"--model {first}: not a model folder, {ABOUT} is missing")
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("plotly") is None:
        raise InputError("page: Streamlit or Plotly is not installed; pip install 'malaria-cells[page]'")
    _check_free(address, port)
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
    from streamlit.web.cli import main

    # In this process: whoever stops it stops the server.
    main(["run", *options, str(script), "--", str(review), str(models), *offered], prog_name="streamlit", standalone_mode=False)
    return 0


def _check_free(address: str, port: int) -> None:
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: found no port, expected 1 to 65535")
    try:
        socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError as error:
        raise InputError(
            f"--address {address} --port {port}: cannot be listened on ({error}); choose another, such as --port {LIKELY_FREE}"
        ) from None


def _short(path: Path) -> str:
    """Relative to where the person is, if it is below."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else str(path)
