"""The page. Streamlit runs this file from top to bottom after each interaction of the user (see `commands.page`)."""

import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

from malaria_cells.app.page import adapting, panels, view
from malaria_cells.app.page.markdown import plain
from malaria_cells.app.page.uploads import MAX_IMAGES, MAX_MEGABYTES, SAMPLE, UploadedImage, counted_cells, read_upload, sample_smear
from malaria_cells.base.errors import InputError
from malaria_cells.base.file_names import distinct, printable
from malaria_cells.data.detections import Detections
from malaria_cells.inference.counting import Count, count_detected
from malaria_cells.inference.detector import Detector
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.results.verdicts import Verdicts


@st.cache_resource(show_spinner="Loading the model ...")
def _load(folder: str, changed: float) -> Detector:
    """The detector of a model folder. `changed` is the modification time of its description, so a rewritten model is loaded again."""
    del changed
    detector, description = load_detector(Path(folder), "auto")
    if not description.has_background:
        raise InputError(f"{folder}: this model classifies whole images and detects no cells; choose another model folder")
    return detector


def main(models: list[str], review: Path, home: Path = Path("models")) -> None:
    """Draw the page.

    Args:
        models: model folders to choose from; the first is selected at start.
        review: folder for corrections.
        home: folder for adapted models.
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
    detections = {p.name: chosen.decide(*p.predictions) for p in images}
    counts = {name: count_detected(of_image, detector.labels) for name, of_image in detections.items()}
    image = _choice(images)
    _figures(chosen, counts, image, Verdicts.of(chosen, detections, {p.name: p.familiarity for p in images}))
    cells = counted_cells(detections[image.name])
    if not len(cells):
        st.warning("No cell is detected in this image at these thresholds. Lower them, or check that the image shows a smear.")
        st.image(image.pixels, width="stretch", caption=plain(image.name))
    else:
        visible = cells[np.isin(cells.class_id, [detector.labels.names.index(n) for n in classes])]
        left, right = st.columns([3, 2], gap="medium")
        with left:
            clicked = _image(image, visible, detector)
            panels.sheet(image, cells, detector)
        with right:
            panels.mix(chosen, counts[image.name])
            panels.one_cell(image, cells, clicked, folder, detector, review)
    panels.downloads(chosen, images, image, folder)
    adapting.panel(review, folder, home)


def _inputs(models: list[str]) -> tuple[str, list[tuple[str, bytes]]]:
    left, right = st.columns([2, 1], gap="medium")
    adapted: list[str] = st.session_state.setdefault("adapted models", [])
    if (selected := st.session_state.pop(adapting.SELECTED, None)) is not None:
        adapted.append(selected)
        st.session_state["model"] = selected
        st.toast(f"The adapted model is selected: {plain(selected)}")
    with right:
        offered = list(dict.fromkeys((*models, *adapted)))
        folder = (
            st.selectbox("Model folder", offered, accept_new_options=True, help="Choose one, or type a path.", key="model") or models[0]
        )
    with left:
        files = st.file_uploader(
            f"Images (up to {MAX_MEGABYTES} MB each)", accept_multiple_files=True, key="files", max_upload_size=MAX_MEGABYTES
        )
        if st.toggle("Use a sample", key="sample", help="A rendered smear to try the page with."):
            return folder, [(SAMPLE, sample_smear())]
    if len(files) > MAX_IMAGES:
        st.error(f"{len(files)} images; the page takes up to {MAX_IMAGES} at a time and leaves out the others. run.py takes any number.")
    return folder, _with_unique_names([(f.name, f.getvalue()) for f in files[:MAX_IMAGES]])


def _with_unique_names(uploads: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The uploads with valid, distinct file names. Images of the same name, from different folders, get a number."""
    names = [printable(re.split(r"[/\\]", name)[-1]) for name, _ in uploads]
    unique = distinct(names, numbered="{stem} ({number}){suffix}")
    return [(name, content) for name, (_, content) in zip(unique, uploads, strict=True)]


def _images(detector: Detector, folder: str, uploads: list[tuple[str, bytes]]) -> list[UploadedImage]:
    """The readable images. Each file is predicted once by each model; predictions of removed files are discarded."""
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
    # Two files with the same content are two images, as in run.py.
    return [replace(known[key], name=name) for key, (name, _) in zip(keys, uploads, strict=True) if key in known]


def _settings(detector: Detector) -> tuple[float, float, list[str]]:
    names, labels, settings = list(detector.labels.names), detector.labels, detector.settings
    first, second, third = st.columns(3, gap="medium")
    infected = settings.infected_threshold
    with first:
        if labels.is_infected.any():
            infected = st.slider("Minimum score of infected cells", 0.01, 0.99, float(settings.infected_threshold), 0.01, key="infected")
    with second:
        cell = st.slider("Minimum probability of a cell", 0.01, 0.99, float(settings.cell_threshold), 0.01, key="cell")
    healthy = [n for n, is_healthy in zip(names, labels.is_healthy_red_cell, strict=True) if is_healthy]
    not_healthy = [n for n in names if n not in healthy]
    with third:
        visible = st.pills("Show", not_healthy, selection_mode="multi", default=not_healthy, format_func=plain, key="classes", wrap=True)
        visible = list(visible or [])
        if healthy and st.toggle("Healthy red cells", value=True, key="healthy"):
            visible += healthy
    return infected, cell, visible


def _choice(images: list[UploadedImage]) -> UploadedImage:
    if len(images) == 1:
        return images[0]
    name = st.selectbox("Image", [p.name for p in images], key="image")
    return next(p for p in images if p.name == name)


def _figures(detector: Detector, counts: dict[str, Count], image: UploadedImage, verdicts: Verdicts) -> None:
    count = counts[image.name]
    panels.familiarity(image.familiarity)
    columns = st.columns(4)
    columns[0].metric("Cells", f"{int(count.by_label.sum()):,}")
    if detector.labels.is_infected.any():
        columns[1].metric("Red cells", f"{count.red_cells:,}")
        columns[2].metric("Infected", f"{count.infected:,}")
        is_given = image.name in verdicts.included
        columns[3].metric("Parasitemia", count.parasitemia_text() if is_given else "not given")
        columns[3].caption(count.interval_in_words(detector.errors_for(image.familiarity)) if is_given else "unlike anything learned")
    if len(counts) > 1:
        which = f"All {len(counts)}" if len(verdicts.included) == len(counts) else f"{len(verdicts.included)} of {len(counts)}"
        st.markdown(f"{which} images: {plain(verdicts.together.in_words(detector.labels, verdicts.errors))}")
        if verdicts.sentence:
            st.caption(plain(verdicts.sentence))


def _image(image: UploadedImage, cells: Detections, detector: Detector) -> int | None:
    """Draw the image and return the index of the clicked cell, or None."""
    figure = view.image_figure(image.pixels, cells, detector.labels)
    height, width = image.pixels.shape[:2]
    # The figure's height is that for a laptop. On a phone the image is smaller, and the empty space below it is cut off.
    st.html(f"<style>@media (max-width: 640px) {{ .st-key-smear {{ max-height: {95 * height / width:.0f}vw; overflow: hidden }} }}</style>")
    with st.container(key="smear"):
        event = st.plotly_chart(
            figure,
            key=f"image {image.name}",
            on_select="rerun",
            selection_mode="points",
            config={"scrollZoom": True, "displaylogo": False},
        )
    st.caption("Turn the wheel or pinch to zoom, drag to move, double-click to reset; click a cell to see its details.")
    points = event.selection.points if event else []
    return int(np.ravel(points[0]["customdata"])[0]) if points else None


if __name__ == "__main__":
    main(sys.argv[3:], Path(sys.argv[1]), Path(sys.argv[2]))
