"""A large image worked on region by region has the cells of the whole image, and is drawn, resumed and reported as any other."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile

from malaria_cells.app.cli import main
from malaria_cells.data.images import as_large, read_image
from malaria_cells.data.sample import Slide, render_smear
from malaria_cells.inference import regions, suppression
from malaria_cells.inference.familiarity import measure, measure_fields
from malaria_cells.inference.familiarity.signals import SIGNALS
from malaria_cells.inference.model_folder import load_detector, shipped
from malaria_cells.inference.regions import RegionWise
from malaria_cells.inference.suppression import suppress
from malaria_cells.proposals import ScoredBoxes

CELL = 80.0  # pixels; the whole image then has an even number of pixels at the working scale, which is half of it


@pytest.fixture(scope="module")
def detector():
    return load_detector(shipped(), "onnx")[0]


@pytest.fixture(scope="module")
def field():
    """A rendered smear and its mirror images: more cells than one region holds."""
    rng = np.random.default_rng(3)
    smear = render_smear(Slide.draw(rng), rng, (800, 640)).image
    pair = np.concatenate([smear, smear[:, ::-1]], axis=1)
    return np.ascontiguousarray(np.concatenate([pair, pair[::-1]], axis=0))


@pytest.fixture(autouse=True)
def small_regions(monkeypatch):
    """Cores of 640 pixels, so that this image has six."""
    monkeypatch.setattr(regions, "MAX_STEPS", 4)


def matched(found, whole):
    """For each box of the whole image, the difference of the nearest box in pixels, and its index."""
    distances = np.abs(found[None] - whole[:, None]).max(axis=2)
    return distances.min(axis=1), distances.argmin(axis=1)


def test_cells_of_regions_are_those_of_the_whole_image(detector, field):
    """Within what the network's convolutions differ between inputs of other sizes, since regions begin at multiples of its strides."""
    sized = detector.with_cell_size(CELL)
    whole, found = sized.detect(field), sized.detect(as_large(field))
    assert len(whole) > 100
    assert len(found) == len(whole)
    difference, index = matched(found.xyxy, whole.xyxy)
    assert difference.max() < 0.01
    assert sorted(index) == list(range(len(whole)))
    assert np.abs(found.confidence[index] - whole.confidence).max() < 1e-3
    assert (found.counted_as[index] == whole.counted_as).all()
    verdicts = [sized.familiarity(image, cells) for image, cells in ((field, whole), (as_large(field), found))]
    assert verdicts[0].level == verdicts[1].level
    assert verdicts[0].distance == pytest.approx(verdicts[1].distance, abs=0.01)


def test_evidence_of_cells_compared_with_each_other_is_that_of_the_whole_image(detector, field):
    """The median red cell is that of all regions together."""
    sized = detector.with_cell_size(CELL)
    (boxes, evidence), (found_boxes, found) = (sized.evidence(image) for image in (field, as_large(field)))
    difference, index = matched(found_boxes, boxes)
    assert difference.max() < 0.01
    assert np.abs(found[index] - evidence).max() < 0.01


def test_the_cell_size_is_estimated_on_the_middle_of_the_image(detector, field, monkeypatch):
    monkeypatch.setattr(regions, "CENTRE", 1000)
    large = as_large(cv2.resize(field, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
    part = regions.centre(large)
    assert part.shape[:2] == (1000, 1000)
    size = detector.proposer.sized_by(detector.prepared(part)).cell_size
    by_whole = detector.detect(large.read(0, 0, large.shape[1], large.shape[0]))
    assert size == pytest.approx(np.median((by_whole.xyxy[:, 2:] - by_whole.xyxy[:, :2]).max(axis=1)), rel=0.25)


def test_signals_of_an_image_as_large_as_a_field_are_those_of_the_whole(detector):
    image = np.random.default_rng(0).integers(0, 256, (1500, 1600, 3), dtype=np.uint8)
    boxes = np.array([[i * 90, 100, i * 90 + 80, 185] for i in range(12)], np.float32)
    cells = detector.decide(boxes, np.tile(np.array([[0.9] + [0.1 / 7] * 7], np.float32), (12, 1)))
    assert np.array_equal(measure(image, cells, detector.labels, CELL), measure_fields(as_large(image), cells, detector.labels, CELL))


def test_a_large_image_of_usual_fields_is_as_familiar_as_a_field(detector, field):
    """Measured on the whole, reduced to one field's size, it would be out of focus and of another stain."""
    sized = detector.with_cell_size(CELL)
    cells = sized.detect(field)
    signals = measure(field, cells, detector.labels, CELL)
    height, width = field.shape[:2]
    corners = np.array([(x, y, x, y) for y in range(0, 4 * height, height) for x in range(0, 4 * width, width)], dtype=np.float32)
    many = cells[np.tile(np.arange(len(cells)), len(corners))]
    many = replace(many, xyxy=many.xyxy + np.repeat(corners, len(cells), axis=0))
    large = np.tile(field, (4, 4, 1))
    found = measure_fields(as_large(large), many, detector.labels, CELL)
    widths = np.array([signal.min_width for signal in SIGNALS])
    assert (np.abs(found - signals) < widths).all()
    assert (np.abs(measure(large, many, detector.labels, CELL) - signals) > widths).any()


def test_an_array_is_judged_as_its_file_would_be(detector, field, monkeypatch):
    """Whether the detection has judged it already or not."""
    monkeypatch.setattr("malaria_cells.inference.detector.LARGE_PIXELS", 1_000_000)
    unjudged = replace(detector.with_cell_size(CELL).detect(field), judged=None)
    large = np.tile(field, (2, 2, 1))
    assert detector.familiarity(large, unjudged) == detector.familiarity(as_large(large), unjudged)
    assert detector.familiarity(large, unjudged) != detector.known.judge(
        measure(large, unjudged, detector.labels, detector.measured_cell_size)
    )


def test_signals_of_a_large_image_without_a_cell_are_those_of_its_middle(detector):
    image = np.random.default_rng(0).integers(0, 256, (1700, 3600, 3), dtype=np.uint8)
    cells = detector.decide(np.zeros((0, 4), np.float32), np.zeros((0, 8), np.float32))
    signals = measure(image[50:1650, 1000:2600], cells, detector.labels, CELL)
    assert np.array_equal(measure_fields(as_large(image), cells, detector.labels, CELL), signals)


@pytest.mark.parametrize("size_wh", [(1000, 700), (641, 1921), (640, 640), (3000, 200)])
@pytest.mark.parametrize("cell_size", [20.0, 33.4, 80.0])
def test_cores_fill_the_image_and_each_cell_is_found_once(size_wh, cell_size):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    column, row = np.arange(size_wh[0]), np.arange(size_wh[1])[:, None]
    image[..., 0], image[..., 1], image[..., 2] = column % 256, row % 256, 16 * (row // 256) + column // 256  # each pixel is another one
    divided = RegionWise(as_large(image), "none", cell_size, 1.25)
    assert abs(divided.cell_size - cell_size) <= 0.125
    xs, ys = (np.arange(5, n - 5, 37) + 0.25 for n in size_wh)
    centres = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([centres - 4, centres + 4], axis=1).astype(np.float32)

    def find(pixels):
        """The boxes in a region, whose first pixel tells where it is."""
        x, y, beyond = pixels[0, 0].astype(int).tolist()
        moved = boxes - np.array([x + beyond % 16 * 256, y + beyond // 16 * 256] * 2, np.float32)
        inside = (moved[:, :2] >= 0).all(axis=1) & (moved[:, 2:] <= pixels.shape[1::-1]).all(axis=1)
        return ScoredBoxes(moved[inside], np.ones(inside.sum(), np.float32))

    found = divided.candidates(find)
    assert np.array_equal(found.boxes_xyxy[np.lexsort(found.boxes_xyxy.T)], boxes[np.lexsort(boxes.T)])
    values = divided.of_boxes(boxes, lambda pixels, here, _: pixels[here[:, 1].astype(int), here[:, 0].astype(int)])
    assert np.array_equal(values, image[boxes[:, 1].astype(int), boxes[:, 0].astype(int)])


@pytest.mark.parametrize("groups", [None, 3])
def test_suppression_among_neighbours_is_that_of_all_pairs(groups, monkeypatch):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 900, (1500, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 90, (1500, 2))], axis=1).astype(np.float32)
    scores = rng.integers(0, 50, 1500).astype(np.float32) / 50  # with ties
    of_group = None if groups is None else rng.integers(0, groups, 1500)
    by_all = suppress(boxes, scores, 0.4, of_group)
    monkeypatch.setattr(suppression, "MAX_GREEDY", 100)
    assert suppress(boxes, scores, 0.4, of_group).tolist() == by_all.tolist()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_draws_a_large_image_in_tiles_reports_and_resumes_it(tmp_path, field, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "slide.tif", field, tile=(256, 256), photometric="rgb", compression="zlib")
    run = ["run", "--image", str(tmp_path / "in"), "--engine", "onnx", "--cell-size", str(CELL), "--output"]
    assert main([*run, str(tmp_path / "whole")]) == 0
    monkeypatch.setattr("malaria_cells.data.images.opening.LARGE_PIXELS", 100_000)
    assert main([*run, str(tmp_path / "out")]) == 0
    assert rows(tmp_path / "out" / "counts.csv") == rows(tmp_path / "whole" / "counts.csv")
    annotated = tmp_path / "out" / "annotated"
    assert sorted(p.name for p in annotated.iterdir()) == ["slide.tif.png", "slide.tif.tif"]
    assert read_image(annotated / "slide.tif.png").shape[1] == 1600
    drawn = read_image(annotated / "slide.tif.tif")
    assert drawn.shape == field.shape
    assert np.median(np.abs(drawn.astype(int) - field)) <= 3  # the colours of JPEG
    boxes = [
        (int(float(r["x_min"])), int(float(r["y_min"])), r["label"])
        for r in rows(tmp_path / "out" / "detections.csv")
        if float(r["score"]) > 0.9
    ]
    changed = [np.abs(drawn[y + 2 : y + 40, x].astype(int) - field[y + 2 : y + 40, x]).sum() for x, y, _ in boxes if x > 0]
    assert np.median(changed) > 10 * np.median(np.abs(drawn.astype(int) - field).sum(axis=2))
    with tifffile.TiffFile(annotated / "slide.tif.tif") as tiff:
        assert [page.shape[:2] for page in tiff.pages] == [(1280, 1600), (640, 800)]
        assert tiff.pages[1].subfiletype == 1
    assert "doubtful" in (tmp_path / "out" / "report.html").read_text()


def test_files_of_large_images_are_cleared_with_the_run_that_they_are_of(tmp_path):
    from malaria_cells.results.output_folder import ANNOTATED, clear

    folder = tmp_path / ANNOTATED
    folder.mkdir()
    for name in ("a.png", "a.tif", "b.png", "b.tif", "mine.tif"):
        (folder / name).touch()
    clear(tmp_path, [folder / "a.png"])
    assert sorted(p.name for p in folder.iterdir()) == [".unfinished_malaria_cells_run", "a.png", "a.tif", "mine.tif"]


MEASURED = r"""
import re, sys
from pathlib import Path
import numpy as np
from malaria_cells.data.detections import Detections
from malaria_cells.data.images import open_image
from malaria_cells.data.labels import LabelSet
from malaria_cells.results.large_overlay import overview, write_drawn
image, labels = open_image(sys.argv[1]), LabelSet(("ring", "red blood cell"))
image.overview, image.read(100, 100, 3000, 3000)
corner = np.random.default_rng(0).uniform(0, 11_900, (5000, 2))
cells = Detections.from_boxes(np.concatenate([corner, corner + 80], axis=1).astype(np.float32), np.arange(5000) % 2)
write_drawn(Path(sys.argv[2]), image, cells, labels)
overview(image, cells, labels)
print(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # ru_maxrss would count the process that started this one
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the largest memory of a process there")
@pytest.mark.parametrize(("name", "limit"), [("a.tif", 450e6), ("a.jpg", 850e6)])
def test_reading_and_drawing_a_large_image_take_less_memory_than_its_pixels(tmp_path, field, name, limit):
    """A picture of 144 million pixels, 432 MB; the libraries alone take about 200.

    Pixels of a JPEG that are mapped into memory count until they are let go, which a machine under load does late, though it may have them
    back at any time.
    """
    row = np.tile(field, (1, 8, 1))[:, :12_000]
    if name == "a.jpg":
        (tmp_path / name).write_bytes(imagecodecs.jpeg8_encode(np.tile(row, (10, 1, 1))[:12_000], level=80))
    else:
        strip = np.tile(row, (2, 1, 1))
        shape = {"shape": (12_000, 12_000, 3), "dtype": np.uint8, "tile": (496, 496)}
        tiles = (strip[y % 1280 :][:496, x : x + 496] for y in range(0, 12_000, 496) for x in range(0, 12_000, 496))
        padded = (np.pad(t, ((0, 0), (0, 496 - t.shape[1]), (0, 0))) for t in tiles)
        tifffile.imwrite(tmp_path / name, padded, **shape, compression="jpeg", photometric="rgb")
    command = [sys.executable, "-c", MEASURED, tmp_path / name, tmp_path / "drawn.tif"]
    n_bytes = 1024 * int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert n_bytes < limit
