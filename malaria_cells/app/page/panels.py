"""Parts of the page below the image: the cells, the mix of stages, one cell and its correction, what to take home."""

import hashlib
from pathlib import Path

import numpy as np
import streamlit as st
import supervision as sv

from malaria_cells.app.page import downloads as files
from malaria_cells.app.page import view
from malaria_cells.app.page.markdown import plain
from malaria_cells.app.page.review_file import NO_CELL, save_correction
from malaria_cells.app.page.uploads import UploadedImage
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import fitted
from malaria_cells.base.text import number_of
from malaria_cells.data.patches import crop_boxes
from malaria_cells.data.stain import Stain
from malaria_cells.inference.counting import Count
from malaria_cells.inference.detector import Detector, TwoStageDetector
from malaria_cells.inference.explain import Explainer
from malaria_cells.inference.familiarity import FAMILIAR, UNLIKE, Familiarity
from malaria_cells.inference.model_description import ABOUT, load_description

MOST_SHOWN = 60  # cells in the sheet
NOT_A_CELL = "not a cell"


def changed(folder: str) -> float:
    """When a model folder's description was last written; 0 if there is none."""
    path = Path(folder) / ABOUT
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_resource(show_spinner=False)
def _explainer(folder: str, written: float) -> Explainer:
    del written
    return Explainer.load(Path(folder))


def familiarity(verdict: Familiarity | None) -> None:
    """A sentence on an image that is not like those of the training."""
    if verdict is None or verdict.is_as_learned:
        return
    if verdict.level == FAMILIAR:
        st.info(plain(f"{verdict.reason[0].upper()}{verdict.reason[1:]}"))
        return
    say = st.error if verdict.level == UNLIKE else st.warning
    say(plain(f"{verdict.level[0].upper()}{verdict.level[1:]}: {verdict.reason}"))


def sheet(image: UploadedImage, cells: sv.Detections, detector: Detector) -> None:
    """All infected cells, or all but healthy red ones where nothing can be infected; of each its number, label and score."""
    labels = detector.labels
    wanted = labels.is_infected if labels.is_infected.any() else ~labels.is_healthy_red_cell
    own = cells[wanted[cells.class_id]]
    noun = "infected cell" if labels.is_infected.any() else "cell"
    st.subheader(f"{number_of(len(own), noun)}")
    if not len(own):
        return
    own = own[:MOST_SHOWN]
    captions = [f"{i}: {plain(labels.names[c])} {s:.2f}" for i, c, s in zip(own.data["index"], own.class_id, own.confidence, strict=True)]
    st.image(list(view.cell_images(image.pixels, own.xyxy)), caption=captions, width=110)


def mix(detector: Detector, own: Count) -> None:
    """How many cells of each class."""
    st.subheader("Stages" if detector.labels.is_infected.any() else "Classes")
    st.plotly_chart(view.stage_mix(own.by_label, detector.labels), key="mix", config={"displayModeBar": False})
    st.table({"class": list(map(plain, detector.labels.names)), "cells": own.by_label.tolist()})


def one_cell(image: UploadedImage, cells: sv.Detections, picked: int | None, folder: str, detector: Detector, review: Path) -> None:
    """One cell, the one that was clicked at first: what it looks like, what speaks for its label, its probabilities, its correction."""
    st.subheader("One cell")
    labels = detector.labels
    rows = np.lexsort((-np.asarray(cells.confidence), ~labels.is_infected[cells.class_id])).tolist()
    row_of = {int(cells.data["index"][row]): row for row in rows}
    names = {i: f"{i}: {labels.names[cells.class_id[row]]} {cells.confidence[row]:.2f}" for i, row in row_of.items()}
    first = list(row_of).index(picked) if picked in row_of else 0
    index = row_of[st.selectbox("Cell", list(row_of), index=first, format_func=names.__getitem__)]
    box = cells.xyxy[index]
    label = labels.names[cells.class_id[index]]
    left, right = st.columns(2)
    if isinstance(detector, TwoStageDetector):
        patch = crop_boxes(image.pixels, box[None], detector.classifier.context, (300, 300))
        left.image(patch[0], caption=f"{plain(label)}, score {cells.confidence[index]:.2f}", width="stretch")
        try:
            speaks = _explainer(folder, changed(folder)).overlays(patch, label, [Stain.of(image.pixels)])[0]
            right.image(speaks, caption=f"what speaks for {plain(label)}", width="stretch")
        except InputError as error:
            right.caption(plain(str(error)))
    else:
        left.image(view.cell_images(image.pixels, box[None])[0], caption=f"{plain(label)}, score {cells.confidence[index]:.2f}")
    probabilities = cells.data["probabilities"][index]
    st.table({"class": [*map(plain, labels.names), NOT_A_CELL], "probability": [f"{p:.3f}" for p in probabilities]})
    _correction(image, cells, index, detector, review)


def _correction(image: UploadedImage, cells: sv.Detections, index: int, detector: Detector, review: Path) -> None:
    names = [*detector.labels.names, NOT_A_CELL]
    corrected: dict[tuple[str, str], str] = st.session_state.setdefault("corrected", {})
    digest = hashlib.blake2b(image.content, digest_size=8).hexdigest()
    place = (digest, np.array2string(cells.xyxy[index], precision=1))
    now = corrected.get(place, names[cells.class_id[index]])
    wanted = st.selectbox("It really is", names, index=names.index(now), key=f"label {place}")
    if st.button("Save the correction", key="correct"):
        corrected[place] = wanted
        ids = np.array(cells.class_id)
        for i, box in enumerate(cells.xyxy):
            name = corrected.get((digest, np.array2string(box, precision=1)))
            if name is not None:
                ids[i] = NO_CELL if name == NOT_A_CELL else names.index(name)
        try:
            n = save_correction(review, image, cells.xyxy, ids, detector.labels)
        except InputError as error:
            del corrected[place]
            st.error(plain(f"Not saved: {error}"))
            return
        st.success(f"Saved with the image's other cells: {plain(str(review))} holds {number_of(n, 'image')}.")
        st.code(f"python train.py --config=config.yaml --set corrections={review}", language=None)


def downloads(detector: Detector, images: list[UploadedImage], shown: UploadedImage, folder: str) -> None:
    """Buttons for the files of `downloads.TYPES` and the image that is shown."""
    st.subheader("Take home")
    names = {"detections.csv": "Cells, CSV", "counts.csv": "Counts, CSV", "detections.json": "Cells, COCO JSON", "report.html": "Report"}
    columns = st.columns(len(names) + 1)
    for column, (name, text) in zip(columns, names.items(), strict=False):
        make = _making(name, detector, images, folder)
        column.download_button(text, make, file_name=name, mime=files.TYPES[name], key=name, on_click="ignore")
    png = fitted(f"{Path(shown.name).stem}_annotated.png")
    columns[-1].download_button(
        "Image, PNG", lambda: files.annotated_png(detector, shown), file_name=png, mime="image/png", key="png", on_click="ignore"
    )


def _making(name: str, detector: Detector, images: list[UploadedImage], folder: str):  # type: ignore[no-untyped-def]
    """What makes a file once its button is pressed."""
    return lambda: files.file_of(name, detector, images, folder, load_description(Path(folder))[0].terms)
