"""What the documents tell people to type is typed."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from malaria_cells.app.cli import _parser, main
from malaria_cells.data.annotations.readers import table
from malaria_cells.data.sample import write_sample
from malaria_cells.tuning.space import load_space


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.slow
def test_every_command_of_the_retraining_page_works(repository, tmp_path, monkeypatch, capsys):
    page = (repository / "docs" / "retrain.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / "source", training=16, test=1, seed=11, size_wh=(480, 360))
    assert main(["convert", "source/training.json", "my_smears", "--to", "coco"]) == 0
    write_sample(tmp_path / "new", training=2, test=1, seed=12, size_wh=(640, 480))
    shutil.copytree(tmp_path / "new" / "images", tmp_path / "new_images")
    (settings,) = blocks(page, "yaml")
    # The page's own numbers take minutes, and the shipped model's networks are larger. With half as many steps it is chance whether a cell
    # is counted, which the review needs.
    short = {"epochs": 1, "steps_per_epoch": 20, "proposer_epochs": 1, "proposer_steps": 60, "start_from": None}
    (tmp_path / "my_smears.yaml").write_text(yaml.safe_dump(yaml.safe_load(settings) | short))
    commands = [shlex.split(line) for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]
    assert len(commands) == 10
    for program, *arguments in commands:
        if program == "python":  # a script, which hands its arguments on
            assert (repository / arguments[0]).is_file()
            arguments[0] = Path(arguments[0]).stem
        else:
            assert program == "malaria-cells"
        if arguments[0] == "crossvalidate":  # five trainings: as many as three slides allow, and few steps
            arguments[arguments.index("--folds") + 1] = "3"
            arguments += ["--set", "proposals=watershed", "--set", "steps_per_epoch=4"]
        if "corrections=results/new/review" in arguments:  # nothing is asked of what comes of it
            arguments += ["--set", "proposals=watershed", "--set", "steps_per_epoch=4"]
        assert main(arguments) == 0, f"{shlex.join(arguments)}\n{''.join(capsys.readouterr())}"
    for name in (
        "explore/patches.png",
        "explore/augmentation_stain.png",
        "all/metrics.json",
        "test/annotated",
        "folds/crossvalidation.json",
        "use/counts.csv",
        "as_yolo/data.yaml",
        "new/review/sheet.png",
    ):
        assert (tmp_path / "results" / name).exists(), name
    assert len((tmp_path / "results" / "test" / "counts.csv").read_text().splitlines()) == 4 + 2


def test_the_table_of_forms_is_that_of_the_readers(repository):
    page = (repository / "docs" / "formats.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- formats: malaria-cells formats -->\n(.*?)<!-- end of formats -->", page, flags=re.DOTALL)
    assert block == table(), "put what `malaria-cells formats` prints between the two marks"


@pytest.mark.slow
def test_every_command_of_the_export_page_works(repository, untrained_model, tmp_path, monkeypatch):
    """With a small model in the shipped one's place, whose example needs the package."""
    page = (repository / "docs" / "export.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    for folder in ("pretrained/thin_smear", "models/mine"):
        shutil.copytree(untrained_model, folder)
    shutil.copy(repository / "docs" / "images" / "smear.jpg", "SMEAR.jpg")
    shutil.copy("SMEAR.jpg", "IMAGES.jpg")
    commands = [shlex.split(line, comments=True) for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]
    assert len(commands) == 5
    for program, *arguments in commands:
        if arguments[-2:-1] == [">"]:
            done = subprocess.run([sys.executable, *arguments[:-2]], capture_output=True, text=True, check=True)
            Path(arguments[-1]).write_text(done.stdout)
        elif program == "python":
            assert main([Path(arguments[0]).stem, *(a.replace("IMAGES", "IMAGES.jpg") for a in arguments[1:])]) == 0
        else:
            assert (program, main(arguments)) == ("malaria-cells", 0)
    by_example, by_run = (len(Path(name).read_text().splitlines()) for name in ("cells.csv", "results/detections.csv"))
    assert by_example == by_run > 20


def test_commands_and_spaces_of_the_tuning_page_are_read(repository, tmp_path):
    """The trainings are those of tests/test_tune.py; here every option and key is one that there is."""
    text = (repository / "docs" / "tune.md").read_text(encoding="utf-8")
    (space,) = blocks(text, "yaml")
    (tmp_path / "space.yaml").write_text(space)
    (tmp_path / "my_smears.yaml").write_text("train_images: my_smears")
    assert len(load_space(tmp_path / "space.yaml", tmp_path / "my_smears.yaml", [])) == 4
    lines = [shlex.split(line) for block in blocks(text, "sh") for line in block.splitlines()]
    assert [line[0] for line in lines] == ["malaria-cells"] * 3
    assert [_parser().parse_args(line[1:]).config.name for line in lines] == ["my_smears.yaml", "best.yaml", "my_smears.yaml"]


def test_links_of_the_documents_lead_somewhere(repository):
    for path in [repository / "README.md", repository / "CONTRIBUTING.md", *(repository / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_files_that_the_readme_names_are_there(repository):
    named = set(re.findall(r"`((?:configs|docs|pretrained)/[\w./-]+)`", (repository / "README.md").read_text(encoding="utf-8")))
    assert all((repository / Path(name)).exists() for name in named)
