"""The page's button that adapts the model to the corrected images: in a process of its own, while the page goes on."""

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

FEWEST = 5  # corrected images that the button waits for
EVERY = 2.0  # seconds between two looks how far it is
LAST = 4000  # characters of what it says, which are looked at
WANTED = "wanted model"  # key of the session: the folder to switch to


@dataclass
class Job:
    """An adaptation at work.

    Attributes:
        output: folder of the new model.
        process: what makes it.
        said: what that says.
    """

    output: Path
    process: subprocess.Popen
    said: IO[str]

    def last_line(self) -> str:
        """The last line that it said."""
        self.said.seek(0)
        lines = [line.strip() for line in self.said.read()[-LAST:].splitlines() if line.strip()]
        return lines[-1] if lines else "beginning"


def _forget(review: str) -> None:
    _jobs().pop(review).said.close()


@st.cache_resource(show_spinner=False)
def _jobs() -> dict[str, Job]:
    """What is at work, by the folder of the review: one at a time, whoever looks at the page."""
    return {}


def command_of(review: Path, model: str, output: Path) -> list[str]:
    """The arguments of the adaptation."""
    return ["adapt", str(review), "--from", model, "--output", str(output)]


def new_folder(models: Path, model: str) -> Path:
    """A folder for the new model that is not there yet."""
    name = Path(model).resolve().name
    number = 1
    while (models / f"{name}-adapted{number}").exists():
        number += 1
    return models / f"{name}-adapted{number}"


def corrected_images(review: Path) -> int:
    """How many images a review folder holds; 0 where it holds none that can be read."""
    if not (review / ANNOTATIONS).is_file():
        return 0
    try:
        return len(load_annotations(review / ANNOTATIONS, None, warn=False))
    except InputError:  # what is wrong with it is said where a correction is saved, and by the adaptation
        return 0


def panel(review: Path, model: str, models: Path) -> None:
    """The button, or how far the adaptation is.

    Args:
        review: folder of the corrections.
        model: folder of the model that is shown.
        models: folder that the new model is written to.
    """
    st.subheader("Your own model")
    if str(review) in _jobs():
        _progress(str(review))
        return
    n = corrected_images(review)
    if n < FEWEST:
        st.caption(f"From {FEWEST} corrected images on, the model can be adapted to them; {plain(str(review))} holds {n}.")
        return
    st.caption("The model goes on from these images, whose cells should all be right; it takes some ten minutes.")
    if st.button(f"Adapt the model to {number_of(n, 'corrected image')}", key="adapt"):
        output = new_folder(models, model)
        said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  the process writes to it as long as it lives
        program = [sys.executable, "-m", "malaria_cells", *command_of(review, model, output)]
        process = subprocess.Popen(program, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603  a list of words, no shell
        _jobs()[str(review)] = Job(output, process, said)
        st.rerun()


@st.fragment(run_every=EVERY)
def _progress(review: str) -> None:
    job = _jobs().get(review)
    if job is None:
        return
    code = job.process.poll()
    if code is None:
        st.info(plain(f"Adapting the model: {job.last_line()}"))
        if st.button("Stop", key="stop adapting"):
            job.process.terminate()
            _forget(review)
            st.rerun()
        return
    if code == 0 and (job.output / ABOUT).is_file():
        st.session_state[WANTED] = str(job.output)
        _forget(review)
        st.rerun()
    st.error(plain(f"The model could not be adapted: {job.last_line()}"))
    if st.button("Close", key="close adapting"):
        _forget(review)
        st.rerun()
