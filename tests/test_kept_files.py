"""Whatever folder a person names to write to: what is in it and is not ours is there afterwards."""

import shutil

import pytest

from malaria_cells.app.cli import main
from malaria_cells.data.sample import write_sample


@pytest.fixture
def scenes(sample, tmp_path):
    """A folder of a person's images, three of them."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for path in sorted((sample / "images").iterdir())[:3]:
        shutil.copy(path, folder)
    return folder


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refuses(capsys, *arguments):
    """Whether the command says that the input is wrong; returns what it says."""
    assert main([str(a) for a in arguments]) == 2
    return capsys.readouterr().err


def test_a_sample_replaces_a_sample_alone(sample, scenes, tmp_path, capsys):
    """BBBC041 has the same layout, and a sample may hold what a person put there."""
    bbbc041, added_to = tmp_path / "bbbc041", tmp_path / "added_to"
    shutil.copytree(sample, bbbc041)
    shutil.copy(next(scenes.iterdir()), bbbc041 / "images" / "8d02117d-6c71-4e47-b50a-6cc8d5eb1d55.jpg")
    write_sample(added_to, training=1, test=1, seed=1, size_wh=(160, 120))
    (added_to / "notes.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (bbbc041, added_to, scenes, file):
        before = contents(place)
        assert "holds other files than a rendered sample" in refuses(capsys, "sample", place)
        assert contents(place) == before
    write_sample(tmp_path / "sample", training=2, test=1, seed=1, size_wh=(160, 120))
    write_sample(tmp_path / "sample", training=1, test=1, seed=1, size_wh=(160, 120))
    assert len(list((tmp_path / "sample" / "images").iterdir())) == 2


def test_training_replaces_a_model_alone(repository, sample, scenes, capsys):
    before = contents(scenes)
    sets = [
        f"train_images={sample}",
        f"output_models={scenes.parent}",
        f"name={scenes.name}",
        f"patch_cache={scenes.parent / 'c'}",
    ]
    command = ["train", "--config", repository / "configs" / "from_scratch.yaml", *(part for s in sets for part in ("--set", s))]
    assert "scenes: already exists and holds no model.yaml" in refuses(capsys, *command)
    assert contents(scenes) == before
    assert [p.name for p in scenes.parent.iterdir()] == ["scenes"]


def test_export_replaces_an_export_alone(repository, scenes, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(repository / "pretrained" / "vivax", model)
    for place in (scenes, model):
        before = contents(place)
        said = refuses(capsys, "export", "--model", model, "--format", "onnx", "--output", place)
        assert f"{place}: already exists and holds no example.py" in said
        assert contents(place) == before


def test_a_run_replaces_what_a_run_wrote_alone(repository, scenes, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(repository / "pretrained" / "vivax", model)
    own = tmp_path / "own"
    shutil.copytree(scenes, own / "annotated")
    earlier = tmp_path / "earlier"
    shutil.copytree(scenes, earlier / "annotated")
    (earlier / "detections.csv").write_text("")
    for images, output, message in (
        (scenes, model, "is a model folder"),
        (scenes, own, "holds a folder `annotated` that no finished run wrote"),
        (earlier / "annotated", earlier, "is an input and would be overwritten"),
    ):
        before = contents(tmp_path)
        assert message in refuses(capsys, "run", "--model", model, "--image", images, "--output", output)
        assert contents(tmp_path) == before
