import json

import numpy as np
import pytest
from PIL import Image

from malaria_cells.data import boxes
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.sample import write_sample
from malaria_cells.data.sample.cells import draw_cell
from malaria_cells.data.sample.smear import LABELS, RADIUS, Slide, render_smear


def test_layout_is_bbbc041s(sample, six_classes, bbbc041_file):
    ours = json.loads((sample / "training.json").read_text())[0]
    genuine = json.loads(bbbc041_file.read_text())[0]

    def format_name(value):
        if isinstance(value, dict):
            return {key: format_name(v) for key, v in value.items()}
        return format_name(value[0]) if isinstance(value, list) and value else type(value).__name__

    assert format_name(ours) == format_name(genuine)


def test_reads_back_without_oddities(sample, six_classes):
    for name, n in (("training.json", 8), ("test.json", 4)):
        found = load_annotations(sample / name, six_classes)
        assert len(found) == n
        assert not found.issues
    assert len(list((sample / "images").iterdir())) == 12


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_sample(tmp_path / name, training=1, test=1, seed=seed, size_wh=(320, 240))
    files = [{p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in "abc"]
    assert files[0] == files[1] != files[2]


def test_fields_are_as_in_life():
    counts, infected, total = [], 0, 0
    for seed in range(12):
        slide = Slide.draw(np.random.default_rng(seed))
        smear = render_smear(slide, np.random.default_rng([seed, 1]))
        counts.append(len(smear.labels))
        assert smear.image.shape == (768, 1024, 3)
        corner, end = smear.boxes_xyxy[:, :2], smear.boxes_xyxy[:, 2:]
        assert (corner >= 0).all()
        assert (end <= [1024, 768]).all()
        assert (end > corner).all()
        infected += sum(n not in {"red blood cell", "leukocyte"} for n in smear.labels)
        total += len(smear.labels)
    assert min(counts) >= 25
    assert max(counts) <= 121
    assert 0.01 < infected / total < 0.12


def test_cells_overlap_but_do_not_hide_each_other():
    smear = render_smear(Slide.draw(np.random.default_rng(3)), np.random.default_rng(4))
    overlap = boxes.iou_matrix(smear.boxes_xyxy, smear.boxes_xyxy)
    np.fill_diagonal(overlap, 0)
    assert overlap.max() < 0.75
    assert (overlap > 0.02).any()


@pytest.mark.parametrize("label", LABELS)
def test_boxes_are_tight_around_a_cell_drawn_alone(label):
    cell = draw_cell(label, RADIUS, (0, 0), np.array([0.3, 0.8, 0.4], dtype=np.float32), np.random.default_rng(0))
    stained = cell.density.max(axis=2) > 0.1
    inside = cell.body > 0.5
    assert (stained & ~inside).sum() < 0.15 * inside.sum()
    assert (stained & inside).sum() > 0.6 * inside.sum()


def test_parasites_are_darker_than_their_cells():
    stain = np.array([0.3, 0.8, 0.4], dtype=np.float32)
    darkest = {
        label: np.percentile(draw_cell(label, RADIUS, (0, 0), stain, np.random.default_rng(1)).density[..., 0], 99.5) for label in LABELS
    }
    assert all(darkest[label] > 1.3 * darkest["red blood cell"] for label in LABELS if label != "red blood cell")


def test_images_are_rgb_jpegs(sample):
    with Image.open(next((sample / "images").iterdir())) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (640, 480))
