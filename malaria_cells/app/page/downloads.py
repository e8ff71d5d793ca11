"""The files that the page offers for download. They are those of ``run.py``, written by the same code."""

import contextlib
import io
import tempfile
from pathlib import Path

from malaria_cells.app.page.uploads import UploadedImage
from malaria_cells.inference.detector import Detector
from malaria_cells.results.document import NAME
from malaria_cells.results.output_folder import drawn_names
from malaria_cells.results.run_outputs import DetectionOutput
from malaria_cells.results.run_report import write_run_report
from malaria_cells.results.run_results import RunResults

TYPES = {
    "detections.csv": "text/csv",
    "counts.csv": "text/csv",
    "detections.json": "application/json",
    NAME: "text/html",
}


def file_of(name: str, detector: Detector, images: list[UploadedImage], model: str, terms: str | None = None) -> bytes:
    """The content of a file for download.

    Args:
        name: file name, a key of `TYPES`.
        detector: detector with the thresholds that are set on the page.
        images: images of the page.
        model: model folder, for the report.
        terms: terms of use of the model's weights, for the report.
    """
    finished = RunResults()
    for p in images:
        finished.results[p.name] = detector.decide(*p.predictions)
        finished.familiarity[p.name] = p.familiarity
        finished.sizes_wh[p.name] = (p.pixels.shape[1], p.pixels.shape[0])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source, results = Path(folder) / "images", Path(folder) / "results"
        output = DetectionOutput.start(results, detector, source, finished.results)
        output.tables(finished, None)
        if name == NAME:
            source.mkdir()
            for p in images:  # the report reads some of the images
                (source / p.name).write_bytes(p.content)
                output.image(p.name, p.pixels, finished.results[p.name])
            facts = [("Images", f"{len(images)} on the page"), ("Model", model)]
            facts += [("Terms of the model", terms)] if terms is not None else []
            write_run_report(output, finished, None, None, facts, f"malaria-cells page --model {model}")
        return (results / name).read_bytes()


def annotated_png(detector: Detector, image: UploadedImage) -> bytes:
    """The image with boxes, as the content of a PNG file."""
    with tempfile.TemporaryDirectory() as folder:
        output = DetectionOutput(Path(folder), detector, Path(folder), drawn_names([image.name]))
        output.image(image.name, image.pixels, detector.decide(*image.predictions))
        return output.drawn(image.name).read_bytes()
