"""Learned proposals: looks agree, crops hold what they must, and the network learns."""

import contextlib
import io
import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from malaria_cells.app.cli import main
from malaria_cells.base.errors import InputError
from malaria_cells.data import boxes
from malaria_cells.data.boxes import WORKING_CELL_SIZE
from malaria_cells.data.images import read_image
from malaria_cells.proposals import Proposer
from malaria_cells.proposals.learned.prediction import PADDING, STRIDE, seen_mirrored
from malaria_cells.proposals.learned.targets import CENTRE, CHANNELS, NEARNESS
from malaria_cells.proposals.learned.training import RARE_FRACTION, Draws
from malaria_cells.proposals.learned.training_images import (
    CROP,
    CUT_OFF,
    DRAWN_CELL_WEIGHT,
    UNMARKED_WEIGHT,
    crop,
    prepared,
    working_images,
)

GRID = CROP // STRIDE


@given(x=st.integers(0, 47), y=st.integers(0, 31), views=st.sampled_from([1, 2, 4]))
def test_mirrored_looks_agree_on_what_is_there(x, y, views):
    def sees_the_dot(pixels):
        assert pixels.flags.c_contiguous
        _, rows, columns, _ = np.nonzero(pixels)
        centre = np.array([columns[0] + 0.5, rows[0] + 0.5]) / STRIDE
        grid = np.zeros((1, 8, 12, 5), dtype=np.float32)
        column, row = np.floor(centre).astype(int)
        grid[0, row, column] = 1, *(centre % 1), 0.2, -0.3
        return grid

    pixels = np.zeros((1, 32, 48, 3), dtype=np.uint8)
    pixels[0, y, x] = 255
    once, averaged = sees_the_dot(pixels)[0], seen_mirrored(sees_the_dot, views)(pixels)[0]
    there = once[..., 0] > 0
    assert averaged[..., 0] == pytest.approx(once[..., 0])
    assert averaged[there] == pytest.approx(once[there], abs=1e-6)


@pytest.fixture(scope="module")
def annotated(sample, six_classes):
    from malaria_cells.data.annotations import load_annotations

    return load_annotations(sample / "training.json", six_classes)


@pytest.mark.parametrize("policy", ["colours", "laboratories"])
def test_crops_hold_the_rare_cell(annotated, policy):
    image = prepared(annotated.images[0], 72.0, 1.0, "none")
    assert 0.2 <= image.weight.min() < image.weight.max() == 1
    for seed in range(10):
        pixels, target = crop(image, np.random.default_rng(seed), policy, around=0)
        assert pixels.shape == (CROP, CROP, 3)
        assert target.shape == (GRID, GRID, CHANNELS)
        centres = target[..., CENTRE].sum()
        assert centres >= 1
        assert target[..., NEARNESS].sum() == pytest.approx(centres - 1 + DRAWN_CELL_WEIGHT, rel=1e-4)
        again = crop(image, np.random.default_rng(seed), policy, around=0)
        assert np.array_equal(pixels, again[0])


def test_what_the_edge_cuts_off_is_not_excused(annotated):
    """Stain that no box holds counts less, but not at the edge where annotators leave cells out on purpose."""
    bare = replace(annotated.images[0], **{k: getattr(annotated.images[0], k)[:0] for k in ("boxes_xyxy", "class_ids", "ignore")})
    image = prepared(bare, 72.0, 1.0, "none")
    rim = int(PADDING + CUT_OFF * WORKING_CELL_SIZE) // STRIDE - 1
    inner = image.weight[rim:-rim, rim:-rim]
    assert inner.min() == pytest.approx(UNMARKED_WEIGHT)
    assert image.weight[:rim].min() == image.weight[:, :rim].min() == 1
    assert (image.pixels[:PADDING] == 0).all()
    assert (image.pixels[:, :PADDING] == 0).all()
    alike = prepared(bare, 72.0, UNMARKED_WEIGHT, "none").weight  # where cells at the edge are annotated as all others
    assert alike[:rim].min() == pytest.approx(UNMARKED_WEIGHT)


def test_stain_in_no_box_is_no_lesson_where_classes_are_unannotated(annotated):
    bare = replace(annotated.images[0], **{k: getattr(annotated.images[0], k)[:0] for k in ("boxes_xyxy", "class_ids", "ignore")})
    weight = prepared(replace(bare, unannotated=(1,)), 72.0, 1.0, "none").weight
    assert weight.min() == 0
    assert weight.max() == 1


def in_sets(annotated, *names):
    """The same images, dealt to data sets in turn."""
    dealt = [replace(p, data_set=names[i % len(names)]) for i, p in enumerate(annotated.images)]
    return replace(annotated, images=tuple(dealt))


def test_every_class_of_a_set_is_drawn_and_sets_by_the_root_of_their_cells(annotated):
    together = in_sets(annotated, "a", "a", "b")
    draws = Draws.of(together)
    assert [len(classes) for classes in draws.by_class] == [(s.class_counts > 0).sum() for s in together.by_data_set().values()]
    cells = np.sqrt([s.class_counts.sum() for s in together.by_data_set().values()])
    assert draws.fractions == pytest.approx(cells / cells.sum())
    drawn = [draws.draw(np.random.default_rng(i)) for i in range(600)]
    assert np.mean([around is not None for _, around in drawn]) == pytest.approx(RARE_FRACTION, abs=0.06)
    from_a = np.mean([together.images[i].data_set == "a" for i, _ in drawn])
    assert from_a == pytest.approx(draws.fractions[0], abs=0.06)


def test_images_are_drawn_by_their_weight(annotated):
    first, *rest = annotated.images
    draws = Draws.of(replace(annotated, images=(replace(first, weight=5.0), *rest)))
    plain = [i for i, around in (draws.draw(np.random.default_rng(k)) for k in range(800)) if around is None]
    assert np.mean(np.array(plain) == 0) == pytest.approx(5 / (5 + len(rest)), abs=0.06)


def test_each_set_is_shown_in_its_own_size(annotated, tmp_path):
    p = annotated.images[0]
    enlarged = np.array(Image.fromarray(read_image(p.path)).resize([2 * n for n in p.size_wh], Image.Resampling.BILINEAR))
    Image.fromarray(enlarged).save(tmp_path / "large.png")
    large = replace(p, path=tmp_path / "large.png", data_set="b", size_wh=(2 * p.size_wh[0], 2 * p.size_wh[1]), boxes_xyxy=2 * p.boxes_xyxy)
    first, second = working_images(replace(annotated, images=(replace(p, data_set="a"), large)), "none")
    assert first.pixels.shape == second.pixels.shape
    assert first.boxes_xyxy == pytest.approx(second.boxes_xyxy, abs=0.5)


@pytest.fixture(scope="module")
def trained(repository, sample, tmp_path_factory):
    """A model folder, trained by the command, and what that said."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")  # as a classifier's training before in the same process may leave it
    parent = tmp_path_factory.mktemp("learned")
    settings = {"train_images": sample, "output_models": parent, "patch_cache": parent / "cache", "name": "m", "proposals": "learned"}
    settings |= {"epochs": 2, "steps_per_epoch": 20, "proposer_epochs": 2, "proposer_steps": 40}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(["train", f"--config={repository / 'configs/from_scratch.yaml'}", *sets]) == 0
    return parent / "m", said.getvalue()


@pytest.mark.slow
def test_it_learns_where_cells_are(trained, annotated, sample, six_classes):
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.inference.assembly import proposal_inference_function
    from malaria_cells.models.stored.keras_files import load_network

    folder, said = trained
    assert "training the proposer" in said
    network = load_network(folder / "proposer.keras")
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert network.count_params() < 250_000
    proposer = Proposer("learned", annotated.median_cell_size, network=proposal_inference_function(network))
    found = total = 0
    for image in load_annotations(sample / "test.json", six_classes).images:
        best = boxes.iou_matrix(image.cells_xyxy, proposer(read_image(image.path))).max(axis=1, initial=0)
        found, total = found + int((best >= 0.5).sum()), total + len(best)
    assert found / total > 0.7


@pytest.mark.slow
def test_a_model_folder_with_a_proposer(trained, sample, tmp_path):
    from malaria_cells.inference.model_folder import load_detector

    folder = shutil.copytree(trained[0], tmp_path / "m")
    assert load_detector(folder)[0].proposer.method == "learned"
    request = ["run", "--model", str(folder), "--image", str(sample / "images" / "slide5*.jpg"), "--annotations", str(sample / "test.json")]
    assert main([*request, "--output", str(tmp_path / "out")]) == 0
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert scored["cell"]["recall50"] > 0.6
    # A learned proposer can be exchanged for a classical one.
    assert main([*request, "--output", str(tmp_path / "out"), "--proposals", "watershed"]) == 0
    (folder / "proposer.keras").unlink()
    with pytest.raises(InputError, match=r"proposer\.keras: no such file"):
        load_detector(folder)


def test_a_model_without_a_proposer_says_so(untrained_model, sample, tmp_path, capsys):
    folder = shutil.copytree(untrained_model, tmp_path / "m")
    image = str(sorted((sample / "images").iterdir())[0])
    assert main(["run", "--model", str(folder), "--image", image, "--output", str(tmp_path / "out"), "--proposals", "learned"]) == 2
    assert "this model holds no learned proposer; train one with `proposals: learned`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
