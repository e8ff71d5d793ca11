"""The button that adapts the model to the corrected images. The adaptation runs in a subprocess, and the page stays usable."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import streamlit as st

from malaria_cells.app.page.markdown import plain
from malaria_cells.app.page.review_file import ANNOTATIONS
from malaria_cells.base.errors import InputError
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import load_annotations
from malaria_cells.inference.model_description import ABOUT

MIN_IMAGES = 5  # corrected images from which the button is shown
INTERVAL = 2.0  # seconds between two updates of the progress
TAIL = 4000  # characters at the end of the log in which the last line is searched
SELECTED = "wanted model"  # key of the session state: model folder to select


@dataclass
class Job:
    """A running adaptation.

    Attributes:
        output: folder of the new model.
        process: the subprocess.
        log: its standard output and standard error.
    """

    output: Path
    process: subprocess.Popen[bytes]
    log: IO[str]

    def last_line(self) -> str:
        """The last line of the log."""
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read()[-TAIL:].splitlines() if line.strip()]
        return lines[-1] if lines else "starting"


def _remove_job(review: str) -> None:
    _jobs().pop(review).log.close()


@st.cache_resource(show_spinner=False)
def _jobs() -> dict[str, Job]:
    """The running adaptations by review folder, at most one for each. They are shared by all sessions of the page."""
    return {}


def command_of(review: Path, model: str, output: Path) -> list[str]:
    """The arguments of the ``adapt`` command."""
    return ["adapt", str(review), "--from", model, "--output", str(output)]


def new_folder(models: Path, model: str) -> Path:
    """A folder for the new model that does not exist yet."""
    name = Path(model).resolve().name
    number = 1
    while (models / f"{name}-adapted{number}").exists():
        number += 1
    return models / f"{name}-adapted{number}"


def corrected_images(review: Path) -> int:
    """The number of images in a review folder; 0 if its annotation is missing or cannot be read."""
    if not (review / ANNOTATIONS).is_file():
        return 0
    try:
        return len(load_annotations(review / ANNOTATIONS, None, warn=False))
    except InputError:  # the error is shown when a correction is saved, and by the adaptation
        return 0


def panel(review: Path, model: str, models: Path) -> None:
    """Draw the button, or the progress of the running adaptation.

    Args:
        review: folder of the corrections.
        model: folder of the selected model.
        models: parent folder of the new model.
    """
    st.subheader("Your own model")
    if str(review) in _jobs():
        _progress(str(review))
        return
    n = corrected_images(review)
    if n < MIN_IMAGES:
        st.caption(f"The model can be adapted to {MIN_IMAGES} or more corrected images; {plain(str(review))} holds {n}.")
        return
    st.caption("The model is fine-tuned on these images, in which all cells should be correct; this takes about ten minutes.")
    if st.button(f"Adapt the model to {number_of(n, 'corrected image')}", key="adapt"):
        output = new_folder(models, model)
        log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  the subprocess writes to it until it ends
        program = [sys.executable, "-m", "malaria_cells", *command_of(review, model, output)]
        process = subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603  a list of arguments, no shell
        _jobs()[str(review)] = Job(output, process, log)
        st.rerun()


@st.fragment(run_every=INTERVAL)
def _progress(review: str) -> None:
    job = _jobs().get(review)
    if job is None:
        return
    code = job.process.poll()
    if code is None:
        st.info(plain(f"Adapting the model: {job.last_line()}"))
        if st.button("Stop", key="stop adapting"):
            job.process.terminate()
            _remove_job(review)
            st.rerun()
        return
    if code == 0 and (job.output / ABOUT).is_file():
        st.session_state[SELECTED] = str(job.output)
        _remove_job(review)
        st.rerun()
    st.error(plain(f"The model could not be adapted: {job.last_line()}"))
    if st.button("Close", key="close adapting"):
        _remove_job(review)
        st.rerun()
