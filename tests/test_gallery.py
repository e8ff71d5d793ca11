"""Sheets and animations of cells; and that the heat laid on them is where the evidence is."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.data.images import read_image
from tests.conftest import write_bbbc041

IMAGE = "docs/images/smear.jpg"


def test_a_gallery_of_a_data_set(sample, tmp_path, capsys):
    output = tmp_path / "gallery"
    assert main(["gallery", str(sample), "--output", str(output), "--count", "12"]) == 0
    written = {p.name for p in output.iterdir()}
    assert {"red_blood_cell.png", "red_blood_cell.gif", "ring.png", "ring.gif"} <= written
    assert not any("explained" in name for name in written)
    with Image.open(output / "red_blood_cell.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"], gif.info["loop"]) == (12, (300, 300), 2000, 0)
    with Image.open(output / "red_blood_cell.png") as sheet:
        assert sheet.width > sheet.height > 100
    assert "red blood cell: 12 of " in capsys.readouterr().out


def test_cells_come_from_all_over_the_data_set(tmp_path):
    """Five of ten cells, one an image whose grey value is its number: from the first to the last image."""
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.results.cell_gallery import cut_cells

    for i in range(10):
        path = write_bbbc041(tmp_path, {f"{i}.png": [("cell", 20, 20, 50, 50)]}, name=f"{i}.json")
        Image.new("RGB", (100, 80), (10 * i, 0, 0)).save(tmp_path / f"{i}.png")
    entries = [json.loads((tmp_path / f"{i}.json").read_text())[0] for i in range(10)]
    path.write_text(json.dumps(entries))
    (cells,) = cut_cells(load_annotations(path, None), 5, 1.25, side=32)
    assert (cells.name, cells.total, cells.patches.shape) == ("cell", 10, (5, 32, 32, 3))
    assert cells.patches[:, 16, 16, 0].tolist() == [0, 20, 40, 70, 90]


@pytest.mark.slow
def test_a_gallery_of_detections_explained(repository, tmp_path, capsys):
    output = tmp_path / "results"
    assert main(["run", "--image", str(repository / IMAGE), "--output", str(output)]) == 0
    assert main(["gallery", str(output), "--output", str(tmp_path / "g"), "--count", "7", "--explain"]) == 0
    plain, explained = (read_image(tmp_path / "g" / f"red_blood_cell{suffix}.png") for suffix in ("", "_explained"))
    assert explained.shape[0] > 1.5 * plain.shape[0]
    (counts,) = [line for line in (output / "counts.csv").read_text().splitlines() if line.startswith("TOTAL")]
    assert f"red blood cell: 7 of {counts.split(',')[1]} cells" in capsys.readouterr().out
    content = json.loads((output / "detections.json").read_text())
    content["info"]["folder"] = str(tmp_path / "gone")
    (output / "detections.json").write_text(json.dumps(content))
    assert main(["gallery", str(output), "--output", str(tmp_path / "h")]) == 2
    assert "the image does not exist any more" in capsys.readouterr().err
    del content["annotations"][0]["counted_as"]
    (output / "detections.json").write_text(json.dumps(content))
    assert main(["gallery", str(output), "--output", str(tmp_path / "h")]) == 2
    assert "run the detection again" in capsys.readouterr().err


def test_nothing_to_show(tmp_path, capsys):
    path = write_bbbc041(tmp_path, {"a.png": []})
    assert main(["gallery", str(path), "--output", str(tmp_path / "g")]) == 2
    assert not (tmp_path / "g").exists()


def test_heat_has_the_form_of_the_patch_and_two_classes_differ():
    from malaria_cells.inference.explain import GradCam
    from malaria_cells.models import build_classifier

    patches = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), dtype=np.uint8)
    cam = GradCam(build_classifier("compact", (64, 48), 2, 0.0))
    one, other = cam(patches, np.array([1, 1, 1])), cam(patches, np.array([0, 0, 0]))
    for heat in (one, other):
        assert heat.shape == (3, 64, 48)
        assert (heat.min() >= 0, heat.max() <= 1) == (True, True)
    assert np.abs(one - other).max() > 0.1


def test_a_nested_backbone_can_be_asked():
    from malaria_cells.inference.explain import GradCam
    from malaria_cells.models import build_classifier

    heat = GradCam(build_classifier("efficientnetb0", (64, 64), 4, 0.0))(np.zeros((1, 64, 64, 3), dtype=np.uint8), np.array([2]))
    assert heat.shape == (1, 64, 64)


def test_a_model_without_convolutions_cannot():
    import keras

    from malaria_cells.inference.explain import GradCam

    with pytest.raises(InputError, match="needs convolutions and a dense last layer"):
        GradCam(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]))


def test_an_overlay_leaves_cold_places_alone():
    from malaria_cells.inference.explain import overlay

    patch = np.full((40, 40, 3), 120, dtype=np.uint8)
    heat = np.zeros((8, 8), dtype=np.float32)
    heat[2, 5] = 1
    drawn = overlay(patch, heat)
    changed = np.abs(drawn.astype(int) - 120).max(axis=2)
    assert changed[30:, :15].max() == 0
    y, x = np.unravel_index(changed.argmax(), changed.shape)
    assert (abs(y - 12) <= 3, abs(x - 27) <= 3) == (True, True)


def occlusion(network, patches, class_id, side, steps=14):
    """By place, how much a square of the patch's usual colour lowers the logarithm of a class's probability."""
    height = patches.shape[1]
    places = np.linspace(0, height - side, steps).round().astype(int)
    before = np.log(np.asarray(network(patches))[:, class_id] + 1e-9)
    fall = np.zeros((len(patches), steps, steps))
    for i, top in enumerate(places):
        for j, left in enumerate(places):
            hidden = patches.copy()
            hidden[:, top : top + side, left : left + side] = np.median(patches, axis=(1, 2))[:, None, None]
            fall[:, i, j] = before - np.log(np.asarray(network(hidden))[:, class_id] + 1e-9)
    return fall, places + side / 2


@pytest.mark.slow
def test_heat_is_where_hiding_the_cell_hurts(repository, iml):
    """Rings of real images: the hottest place is nearly always where a grey square takes the ring away."""
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.data.patches import resize
    from malaria_cells.inference.explain import Explainer
    from malaria_cells.inference.model_folder import load_detector
    from malaria_cells.results.cell_gallery import cut_cells

    folder = repository / "pretrained" / "vivax"
    explainer = Explainer.load(folder)
    network = load_detector(folder)[0].classifier.cascade.network
    cells = {c.name: c for c in cut_cells(load_annotations(iml / "annotations.json", None, root=iml), 40, explainer.context)}
    patches = np.stack([resize(p, explainer.image_size_hw) for p in cells["ring"].patches])
    ring = explainer.labels.names.index("ring")
    side = patches.shape[1] * 3 // 16
    fall, centres = occlusion(network, patches, ring, side)
    heat = explainer.cam(patches, np.full(len(patches), ring))
    near = 0
    for h, f in zip(heat, fall, strict=True):
        y, x = np.unravel_index(h.argmax(), h.shape)
        i, j = np.unravel_index(f.argmax(), f.shape)
        near += np.hypot(y - centres[i], x - centres[j]) < side
    assert near >= 0.75 * len(patches)  # by chance a tenth


def test_explaining_by_the_api(repository, untrained_model, tmp_path):
    from malaria_cells import CellDetector, read_image

    detector = CellDetector.load(untrained_model)
    image = read_image(repository / IMAGE)
    assert detector.explain(image, np.array([300, 200, 380, 280]), "ring").shape == (300, 300, 3)
    with pytest.raises(InputError, match="'rings' is not one of"):
        detector.explain(image, np.array([300, 200, 380, 280]), "rings")
    exported = shutil.copytree(untrained_model, tmp_path / "m")
    (exported / "classifier.keras").rename(exported / "elsewhere.keras")
    with pytest.raises(InputError, match="name the folder it was exported from"):
        CellDetector(detector._detector, exported).explain(image, np.array([300, 200, 380, 280]), "ring")
