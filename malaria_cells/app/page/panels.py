"""Parts of the page below the image: infected cells, stages, one cell and its correction, downloads."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st

from malaria_cells.app.page import downloads as files
from malaria_cells.app.page import view
from malaria_cells.app.page.markdown import plain
from malaria_cells.app.page.review_file import NO_CELL, save_correction
from malaria_cells.app.page.uploads import UploadedImage
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import fitted
from malaria_cells.base.text import number_of
from malaria_cells.data.detections import Detections
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Stain
from malaria_cells.inference.counting import Count
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.explain import Explainer
from malaria_cells.inference.familiarity import FAMILIAR, UNLIKE, Familiarity
from malaria_cells.inference.model_description import ABOUT
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.inference.two_stage_detector import TwoStageDetector

MAX_CELLS = 60  # cells in the sheet
NOT_A_CELL = "not a cell"


def changed(folder: str) -> float:
    """The modification time of a model folder's description; 0 if there is none."""
    path = Path(folder) / ABOUT
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_resource(show_spinner=False)
def _explainer(folder: str, written: float) -> Explainer:
    del written
    return Explainer.load(Path(folder))


def familiarity(verdict: Familiarity | None) -> None:
    """Show a message if an image is not like the training images."""
    if verdict is None or verdict.is_as_learned:
        return
    if verdict.level == FAMILIAR:
        st.info(plain(f"{verdict.reason[0].upper()}{verdict.reason[1:]}"))
        return
    show = st.error if verdict.level == UNLIKE else st.warning
    show(plain(f"{verdict.level[0].upper()}{verdict.level[1:]}: {verdict.reason}"))


def sheet(image: UploadedImage, cells: Detections, detector: Detector) -> None:
    """Draw the infected cells, or all but healthy red cells if no label is infected, with number, label and score."""
    labels = detector.labels
    is_drawn = labels.is_infected if labels.is_infected.any() else ~labels.is_healthy_red_cell
    drawn = cells[is_drawn[cells.class_id]]
    noun = "infected cell" if labels.is_infected.any() else "cell"
    st.subheader(f"{number_of(len(drawn), noun)}")
    if not len(drawn):
        return
    drawn = drawn[:MAX_CELLS]
    rows = zip(drawn.index, drawn.class_id, drawn.confidence, strict=True)
    captions = [f"{i}: {plain(labels.names[c])} {s:.2f}" for i, c, s in rows]
    st.image(list(view.cell_images(image.pixels, drawn.xyxy)), caption=captions, width=110)


def mix(detector: Detector, count: Count) -> None:
    """Draw the number of cells of each class."""
    st.subheader("Stages" if detector.labels.is_infected.any() else "Classes")
    st.plotly_chart(view.stage_mix(count.by_label, detector.labels), key="mix", config={"displayModeBar": False})
    st.table({"class": list(map(plain, detector.labels.names)), "cells": count.by_label.tolist()})


def one_cell(image: UploadedImage, cells: Detections, clicked: int | None, folder: str, detector: Detector, review: Path) -> None:
    """Draw one cell, its Grad-CAM map and probabilities, and the form to correct it. At first this is the clicked cell, if any."""
    st.subheader("One cell")
    labels = detector.labels
    rows = np.lexsort((-cells.confidence, ~labels.is_infected[cells.class_id])).tolist()
    row_of = {int(cells.index[row]): row for row in rows}
    names = {i: f"{i}: {labels.names[cells.class_id[row]]} {cells.confidence[row]:.2f}" for i, row in row_of.items()}
    first = list(row_of).index(clicked) if clicked in row_of else 0
    index = row_of[st.selectbox("Cell", list(row_of), index=first, format_func=names.__getitem__)]
    box = cells.xyxy[index]
    label = labels.names[cells.class_id[index]]
    left, right = st.columns(2)
    if isinstance(detector, TwoStageDetector):
        patch = crop_boxes(image.pixels, box[None], detector.classifier.context, (300, 300))
        left.image(patch[0], caption=f"{plain(label)}, score {cells.confidence[index]:.2f}", width="stretch")
        try:
            overlay = _explainer(folder, changed(folder)).overlays(patch, label, [Stain.of(image.pixels)])[0]
            right.image(overlay, caption=f"evidence for {plain(label)} (Grad-CAM)", width="stretch")
        except InputError as error:
            right.caption(plain(str(error)))
    else:
        left.image(view.cell_images(image.pixels, box[None])[0], caption=f"{plain(label)}, score {cells.confidence[index]:.2f}")
    probabilities = cells.probabilities[index]
    st.table({"class": [*map(plain, labels.names), NOT_A_CELL], "probability": [f"{p:.3f}" for p in probabilities]})
    _correction(image, cells, index, detector, review)


def _correction(image: UploadedImage, cells: Detections, index: int, detector: Detector, review: Path) -> None:
    names = [*detector.labels.names, NOT_A_CELL]
    corrected: dict[tuple[str, str], str] = st.session_state.setdefault("corrected", {})
    digest = hashlib.blake2b(image.content, digest_size=8).hexdigest()
    cell = (digest, np.array2string(cells.xyxy[index], precision=1))
    current = corrected.get(cell, names[cells.class_id[index]])
    chosen = st.selectbox("Correct label", names, index=names.index(current), key=f"label {cell}")
    if st.button("Save the correction", key="correct"):
        corrected[cell] = chosen
        ids = np.array(cells.class_id)
        for i, box in enumerate(cells.xyxy):
            name = corrected.get((digest, np.array2string(box, precision=1)))
            if name is not None:
                ids[i] = NO_CELL if name == NOT_A_CELL else names.index(name)
        try:
            n = save_correction(review, image, cells.xyxy, ids, detector.labels)
        except InputError as error:
            del corrected[cell]
            st.error(plain(f"Not saved: {error}"))
            return
        st.success(f"Saved with all cells of the image: {plain(str(review))} holds {number_of(n, 'image')}.")
        st.code(f"python train.py --config=config.yaml --set corrections={review}", language=None)


def downloads(detector: Detector, images: list[UploadedImage], image: UploadedImage, folder: str) -> None:
    """Draw the download buttons for the files of `downloads.TYPES` and the current image."""
    st.subheader("Take home")
    names = {"detections.csv": "Cells, CSV", "counts.csv": "Counts, CSV", "detections.json": "Cells, COCO JSON", "report.html": "Report"}
    columns = st.columns(len(names) + 1)
    for column, (name, text) in zip(columns, names.items(), strict=False):
        make = _file_maker(name, detector, images, folder)
        column.download_button(text, make, file_name=name, mime=files.TYPES[name], key=name, on_click="ignore")
    png = fitted(f"{Path(image.name).stem}_annotated.png")
    columns[-1].download_button(
        "Image, PNG", lambda: files.annotated_png(detector, image), file_name=png, mime="image/png", key="png", on_click="ignore"
    )


def _file_maker(name: str, detector: Detector, images: list[UploadedImage], folder: str) -> Callable[[], bytes]:
    """A function that makes the file when its button is pressed."""
    return lambda: files.file_of(name, detector, images, folder, load_description(Path(folder))[0].terms)
