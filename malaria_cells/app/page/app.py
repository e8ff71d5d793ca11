"""The page: run by Streamlit, from top to bottom, whenever a person touches something (see `commands.page`)."""

import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st
import supervision as sv

from malaria_cells.app.page import adapting, panels, view
from malaria_cells.app.page.markdown import plain
from malaria_cells.app.page.uploads import MOST_MEGABYTES, SAMPLE, UploadedImage, counted_cells, read_upload, sample_smear
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import distinct, printable
from malaria_cells.inference.counting import Count, count_detected
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.results.verdicts import Verdicts


@st.cache_resource(show_spinner="Loading the model ...")
def _load(folder: str, changed: float) -> Detector:
    """The detector of a model folder; `changed` is when its description was last written."""
    del changed
    detector, description = load_detector(Path(folder))
    if not description.has_background:
        raise InputError(f"{folder} classifies whole images and detects no cells; name another model folder")
    return detector


def main(models: list[str], review: Path, home: Path = Path("models")) -> None:
    """Draw the page.

    Args:
        models: folders to choose from, the first being chosen at first.
        review: folder that corrections go to.
        home: folder that adapted models are written to.
    """
    st.set_page_config(page_title="malaria_cells", page_icon=":microscope:", layout="wide")
    st.title("Cells of a blood smear")
    st.caption("Images stay on this machine. A research tool, not a medical device.")
    folder, uploads = _inputs(models)
    try:
        detector = _load(folder, panels.changed(folder))
    except InputError as error:
        st.error(plain(str(error)))
        return
    images = _images(detector, folder, uploads)
    if not images:
        st.info("Drop one or more images above, or try the sample.")
        return
    infected, cell, classes = _settings(detector)
    chosen = detector.with_settings(infected_threshold=infected, cell_threshold=cell)
    found = {p.name: chosen.decide(*p.predictions) for p in images}
    counts = {name: count_detected(detections, detector.labels) for name, detections in found.items()}
    shown = _choice(images)
    _figures(chosen, counts, shown, Verdicts.of(chosen, found, {p.name: p.familiarity for p in images}))
    cells = counted_cells(found[shown.name])
    if not len(cells):
        st.warning("No cell is found in this image at these thresholds. Lower them, or look whether it is a smear at all.")
        st.image(shown.pixels, width="stretch", caption=plain(shown.name))
    else:
        visible = cells[np.isin(cells.class_id, [detector.labels.names.index(n) for n in classes])]
        left, right = st.columns([3, 2], gap="medium")
        with left:
            picked = _image(shown, visible, detector)
            panels.sheet(shown, cells, detector)
        with right:
            panels.mix(chosen, counts[shown.name])
            panels.one_cell(shown, cells, picked, folder, detector, review)
    panels.downloads(chosen, images, shown, folder)
    adapting.panel(review, folder, home)


def _inputs(models: list[str]) -> tuple[str, list[tuple[str, bytes]]]:
    left, right = st.columns([2, 1], gap="medium")
    made: list[str] = st.session_state.setdefault("adapted models", [])
    if (wanted := st.session_state.pop(adapting.WANTED, None)) is not None:
        made.append(wanted)
        st.session_state["model"] = wanted
        st.toast(f"The adapted model is chosen: {plain(wanted)}")
    with right:
        offered = list(dict.fromkeys((*models, *made)))
        folder = (
            st.selectbox("Model folder", offered, accept_new_options=True, help="Choose one, or type a path.", key="model") or models[0]
        )
    with left:
        files = st.file_uploader(
            f"Images (up to {MOST_MEGABYTES} MB each)", accept_multiple_files=True, key="files", max_upload_size=MOST_MEGABYTES
        )
        if st.toggle("Use a sample", key="sample", help="A rendered smear, to see what the page does."):
            return folder, [(SAMPLE, sample_smear())]
    return folder, _with_own_names([(f.name, f.getvalue()) for f in files])


def _with_own_names(uploads: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The images, each with a name that can be a file's: two of one name, from two folders, are told apart by a number."""
    names = [printable(re.split(r"[/\\]", name)[-1]) for name, _ in uploads]
    own = distinct(names, numbered="{stem} ({number}){suffix}")
    return [(name, content) for name, (_, content) in zip(own, uploads, strict=True)]


def _images(detector: Detector, folder: str, uploads: list[tuple[str, bytes]]) -> list[UploadedImage]:
    """The readable images, each content looked at once by each model; what is not dropped any more is forgotten."""
    known: dict[str, UploadedImage] = st.session_state.setdefault("known", {})
    start = f"{folder}|{panels.changed(folder)}|".encode()
    keys = [hashlib.blake2b(start + content).hexdigest() for _, content in uploads]
    for key in set(known) - set(keys):
        del known[key]
    new = {key: upload for key, upload in zip(keys, uploads, strict=True) if key not in known}
    bar = st.progress(0.0, "Detecting cells ...") if new else None
    for i, (key, (name, content)) in enumerate(new.items()):
        try:
            pixels = read_upload(name, content)
            predictions = detector.predict(pixels)
            known[key] = UploadedImage(name, content, pixels, predictions, detector.familiarity(pixels, detector.decide(*predictions)))
        except InputError as error:
            st.error(plain(str(error)))
        if bar:
            bar.progress((i + 1) / len(new), f"Detecting cells: {i + 1} of {len(new)}")
    if bar:
        bar.empty()
    # Two files of one content are two images here, as they are to run.py.
    return [replace(known[key], name=name) for key, (name, _) in zip(keys, uploads, strict=True) if key in known]


def _settings(detector: Detector) -> tuple[float, float, list[str]]:
    names, labels, settings = list(detector.labels.names), detector.labels, detector.settings
    first, second, third = st.columns(3, gap="medium")
    infected = settings.infected_threshold
    with first:
        if labels.is_infected.any():
            infected = st.slider("Infected from score", 0.01, 0.99, float(settings.infected_threshold), 0.01, key="infected")
    with second:
        cell = st.slider("A cell at all from probability", 0.01, 0.99, float(settings.cell_threshold), 0.01, key="cell")
    healthy = [n for n, quiet in zip(names, labels.is_healthy_red_cell, strict=True) if quiet]
    others = [n for n in names if n not in healthy]
    with third:
        shown = st.pills("Show", others, selection_mode="multi", default=others, format_func=plain, key="classes", wrap=True) or []
        if healthy and st.toggle("Healthy red cells", value=True, key="healthy"):
            shown = [*shown, *healthy]
    return infected, cell, list(shown)


def _choice(images: list[UploadedImage]) -> UploadedImage:
    if len(images) == 1:
        return images[0]
    name = st.selectbox("Image", [p.name for p in images], key="image")
    return next(p for p in images if p.name == name)


def _figures(detector: Detector, counts: dict[str, Count], shown: UploadedImage, verdicts: Verdicts) -> None:
    own = counts[shown.name]
    panels.familiarity(shown.familiarity)
    columns = st.columns(4)
    columns[0].metric("Cells", f"{int(own.by_label.sum()):,}")
    if detector.labels.is_infected.any():
        columns[1].metric("Red cells", f"{own.red_cells:,}")
        columns[2].metric("Infected", f"{own.infected:,}")
        is_given = shown.name in verdicts.given
        columns[3].metric("Parasitemia", own.parasitemia_text() if is_given else "not given")
        columns[3].caption(own.interval_in_words(detector.errors_for(shown.familiarity)) if is_given else "unlike anything learned")
    if len(counts) > 1:
        which = f"All {len(counts)}" if len(verdicts.given) == len(counts) else f"{len(verdicts.given)} of {len(counts)}"
        st.markdown(f"{which} images: {plain(verdicts.together.in_words(detector.labels, verdicts.errors))}")
        if verdicts.sentence:
            st.caption(plain(verdicts.sentence))


def _image(image: UploadedImage, cells: sv.Detections, detector: Detector) -> int | None:
    """Draw the image; the index of the cell that was clicked, or None."""
    figure = view.image_figure(image.pixels, cells, detector.labels)
    height, width = image.pixels.shape[:2]
    # The figure has the height that it needs on a laptop; on a phone it is narrower, and the rest below it is cut off.
    st.html(f"<style>@media (max-width: 640px) {{ .st-key-smear {{ max-height: {95 * height / width:.0f}vw; overflow: hidden }} }}</style>")
    with st.container(key="smear"):
        event = st.plotly_chart(
            figure,
            key=f"image {image.name}",
            on_select="rerun",
            selection_mode="points",
            config={"scrollZoom": True, "displaylogo": False},
        )
    st.caption("Turn the wheel or pinch to zoom, drag to move, double-click for the whole; click a cell to look into it.")
    points = event.selection.points if event else []
    return int(np.ravel(points[0]["customdata"])[0]) if points else None


if __name__ == "__main__":
    main(sys.argv[3:], Path(sys.argv[1]), Path(sys.argv[2]))
