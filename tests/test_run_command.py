"""``run.py`` as a person uses it: the files it writes are a contract."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from malaria_cells.app.cli import main
from malaria_cells.data import coco_rows
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.patches import resize
from malaria_cells.data.single_cells import as_in_image
from malaria_cells.data.stain import normalized
from malaria_cells.inference.model_folder import load_detector
from tests.conftest import write_bbbc041, write_image


def run(*arguments):
    return main(["run", *map(str, arguments)])


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(untrained_model, sample, tmp_path_factory):
    """A scored detection of the sample's test images."""
    output = tmp_path_factory.mktemp("run") / "results"
    code = run("--model", untrained_model, "--image", sample / "images", "--annotations", sample / "test.json", "--output", output)
    assert code == 0
    return output


def test_files_are_those_of_the_contract(finished, sample):
    names = {p.name for p in finished.iterdir()}
    assert names == {"detections.csv", "counts.csv", "detections.json", "metrics.json", "per_class.csv", "report.html", "annotated"}
    images = {p.name for p in (sample / "images").iterdir()}
    assert {p.name for p in (finished / "annotated").iterdir()} == {f"{n}.png" for n in images}
    with Image.open(next((finished / "annotated").iterdir())) as image:
        assert (image.format, image.size) == ("PNG", (640, 480))


def test_detections_table(finished, six_classes):
    text = (finished / "detections.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "image,label,score,x_min,y_min,x_max,y_max"
    found = rows(finished / "detections.csv")
    assert len(found) > 100
    assert [(r["image"], -float(r["score"])) for r in found] == sorted((r["image"], -float(r["score"])) for r in found)
    for r in found:
        assert r["label"] in six_classes.names
        assert len(r["score"].split(".")[1]) == 4
        left, top, right, bottom = (float(r[k]) for k in ("x_min", "y_min", "x_max", "y_max"))
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480
        assert all(len(r[k].split(".")[1]) == 1 for k in ("x_min", "y_min", "x_max", "y_max"))


def test_counts_table(finished, untrained_model, six_classes):
    columns = (finished / "counts.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    fractions = ["parasitemia", "parasitemia_low", "parasitemia_high"]
    assert columns == ["image", *six_classes.names, "infected", "red_cells", *fractions, "familiarity", "familiarity_reason"]
    *images, total = rows(finished / "counts.csv")
    assert total["image"] == "TOTAL"
    for column in [*six_classes.names, "infected", "red_cells"]:
        assert int(total[column]) == sum(int(r[column]) for r in images)
    found = rows(finished / "detections.csv")
    as_coco = json.loads((finished / "detections.json").read_text())
    names = {image["id"]: image["file_name"] for image in as_coco["images"]}
    counted = [names[a["image_id"]] for a in as_coco["annotations"] if a["counted_as"] is not None]
    assert len(counted) < len(found)  # a box in a box is a suspicion, listed and not counted
    threshold = yaml.safe_load((untrained_model / "model.yaml").read_text())["settings"]["infected_threshold"]
    for r in images:
        own = [d for d in found if d["image"] == r["image"]]
        infected = [d for d in own if d["label"] in six_classes.infected and float(d["score"]) >= threshold]
        assert int(r["infected"]) == len(infected)
        assert sum(int(r[n]) for n in six_classes.names) == counted.count(r["image"])
        if int(r["red_cells"]):
            assert float(r["parasitemia_low"]) <= float(r["parasitemia"]) <= float(r["parasitemia_high"]) <= 1


def test_coco_file_is_loaded_by_pycocotools(finished, six_classes, capsys):
    loaded = COCO(str(finished / "detections.json"))
    capsys.readouterr()
    assert [c["name"] for c in loaded.loadCats(loaded.getCatIds())] == list(six_classes.names)
    assert sum("further_label_of" not in a for a in loaded.anns.values()) == len(rows(finished / "detections.csv"))
    assert all("score" in a for a in loaded.anns.values())
    with_size = loaded.loadImgs(loaded.getImgIds())[0]
    assert (with_size["width"], with_size["height"]) == (640, 480)


def test_pycocotools_gets_the_same_map_from_the_files(finished, sample, six_classes, capsys):
    annotated = load_annotations(sample / "test.json", six_classes)
    truth, found = COCO(), json.loads((finished / "detections.json").read_text())
    truth.dataset = coco_rows.truth(list(annotated.images), six_classes)
    truth.createIndex()
    ids = {image["file_name"].split("/")[-1]: image["id"] for image in truth.dataset["images"]}
    names = {image["id"]: image["file_name"].split("/")[-1] for image in found["images"]}
    results = [a | {"image_id": ids[names[a["image_id"]]]} for a in found["annotations"] if names[a["image_id"]] in ids]
    assert any("further_label_of" in a for a in results)
    keys = ("image_id", "category_id", "bbox", "score")
    evaluation = COCOeval(truth, truth.loadRes([{k: a[k] for k in keys} for a in results]), "bbox")
    evaluation.params.maxDets = [1, 10, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    capsys.readouterr()
    precision = evaluation.eval["precision"][..., 0, -1]
    by_class = [precision[0, :, c].mean() for c in range(len(six_classes)) if annotated.class_counts[c]]
    assert json.loads((finished / "metrics.json").read_text())["mAP50"] == pytest.approx(np.mean(by_class))


def test_metrics_keys(finished, six_classes):
    metrics = json.loads((finished / "metrics.json").read_text())
    top = {"images", "seconds_per_image", "mAP", "mAP50", "mAP75", "per_class", "cell", "infected", "micro_f1", "parasitemia"}
    assert set(metrics) == top | {"interval_coverage"}
    assert metrics["images"] == 4  # of twelve; the others are not annotated in test.json
    assert metrics["seconds_per_image"] > 0
    assert list(metrics["per_class"]) == list(six_classes.names)
    assert all(set(v) == {"AP", "AP50", "n"} for v in metrics["per_class"].values())
    assert set(metrics["cell"]) == {"AP50", "recall50", "precision", "recall", "f1"}
    assert set(metrics["infected"]) == {"precision", "recall", "f1", "AP50", "false_alarms_per_1000_red_cells"}
    assert set(metrics["parasitemia"]) == {"mean_absolute_error", "bias"}


def test_same_request_same_bytes(finished, untrained_model, sample, tmp_path):
    run("--model", untrained_model, "--image", sample / "images", "--output", tmp_path / "again")
    for name in ("detections.csv", "counts.csv", "detections.json"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
    assert not (tmp_path / "again" / "metrics.json").exists()


def test_one_image_glob_and_folders_with_equal_names(untrained_model, sample, tmp_path, capsys):
    image = sorted((sample / "images").iterdir())[0]
    for folder in ("a", "b/c"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(image, tmp_path / "in" / folder / "x.jpg")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run("--model", untrained_model, "--image", image, "--output", tmp_path / "one") == 0
    assert {r["image"] for r in rows(tmp_path / "one" / "detections.csv")} == {image.name}
    assert run("--model", untrained_model, "--image", tmp_path / "in", "--output", tmp_path / "all") == 0
    assert {r["image"] for r in rows(tmp_path / "all" / "detections.csv")} == {"a/x.jpg", "b/c/x.jpg"}
    assert (tmp_path / "all" / "annotated" / "b" / "c" / "x.jpg.png").is_file()
    assert run("--model", untrained_model, "--image", tmp_path / "in" / "*" / "*.jpg", "--output", tmp_path / "glob") == 0
    assert {r["image"] for r in rows(tmp_path / "glob" / "detections.csv")} == {"a/x.jpg"}


def test_an_image_without_any_cell(untrained_model, tmp_path):
    write_image(tmp_path / "blank.png", (300, 200))
    assert run("--model", untrained_model, "--image", tmp_path / "blank.png", "--output", tmp_path / "out") == 0
    assert rows(tmp_path / "out" / "detections.csv") == []
    counted = rows(tmp_path / "out" / "counts.csv")
    assert [r["parasitemia"] for r in counted] == ["", ""]
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["annotations"] == []


def test_images_annotated_as_without_cells_are_scored(untrained_model, tmp_path, capsys):
    """Negative controls: there is nothing to find, and no figure is made up for it."""
    truth = write_bbbc041(tmp_path / "set", {"blank.png": []})
    request = ["--model", untrained_model, "--image", tmp_path / "set" / "blank.png", "--annotations", truth, "--compare"]
    assert run(*request, "--output", tmp_path / "out") == 0
    assert "mAP50 none  mAP none  cell AP50 none  cell recall none at any score, none as counted" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mAP50"] is None
    assert "No cell is annotated." in (tmp_path / "out" / "report.html").read_text()


def test_options_change_what_is_found(untrained_model, sample, tmp_path):
    image = sorted((sample / "images").iterdir())[0]

    def found(*options):
        assert run("--model", untrained_model, "--image", image, "--output", tmp_path / "out", *options) == 0
        return rows(tmp_path / "out" / "detections.csv")

    plain = found()
    by_class = found("--nms", "class")
    assert len(by_class) >= len(plain)
    strict = found("--nms", "class", "--score-threshold", "0.3")
    assert strict == [r for r in by_class if float(r["score"]) >= 0.3]
    assert len(found("--nms", "class", "--nms-iou", "0.95")) > len(by_class) > len(found("--nms", "class", "--nms-iou", "0.02"))
    assert found("--tta", "4") != plain
    assert len(found("--proposals", "sliding")) > 0


def test_classify_with_a_model_folder_and_with_a_bare_network(untrained_model, tmp_path, six_classes, capsys, caplog):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{i}.png")
    assert run("--model", untrained_model, "--image", tmp_path / "in", "--mode", "classify", "--output", tmp_path / "folder") == 0
    table = rows(tmp_path / "folder" / "predictions.csv")
    names = [*six_classes.names, "background"]
    assert list(table[0]) == ["image", "label", "score", *(f"p_{n}" for n in names)]
    for r in table:
        p = np.array([float(r[f"p_{n}"]) for n in names])
        assert p.sum() == pytest.approx(1, abs=1e-3)
        assert (r["label"], float(r["score"])) == (names[p.argmax()], p.max())
    bare = tmp_path / "alone.keras"
    shutil.copy(untrained_model / "classifier.keras", bare)
    assert run("--model", bare, "--image", tmp_path / "in", "--output", tmp_path / "bare") == 0  # auto: a bare network classifies
    assert list(rows(tmp_path / "bare" / "predictions.csv")[0])[3:] == [f"p_class {i}" for i in range(7)]
    assert run("--model", bare, "--image", tmp_path / "in", "--labels", "a,b,c,d,e,f,g", "--output", tmp_path / "named") == 0
    assert list(rows(tmp_path / "named" / "predictions.csv")[0])[3:] == [f"p_{c}" for c in "abcdefg"]
    assert run("--model", bare, "--image", tmp_path / "in", "--labels", "a,b", "--output", tmp_path / "wrong") == 2
    assert "found 2 names" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
    assert run("--model", bare, "--image", tmp_path / "in", "--mode", "detect", "--output", tmp_path / "boxes") == 0
    assert "alone.keras has no background class" in caplog.text


def test_classify_shows_images_as_the_training_did(untrained_model, tmp_path):
    """In the common stain, and cells that were cut out and laid on black as an image would show them."""
    model = shutil.copytree(untrained_model, tmp_path / "model")
    content = yaml.safe_load((model / "model.yaml").read_text()) | {"stain": "density"}
    (model / "model.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "in").mkdir()
    rows_, columns = np.ogrid[:60, :60]
    cell = np.where(((rows_ - 30) ** 2 + (columns - 30) ** 2 < 29**2)[..., None], (200, 120, 160), 0).astype(np.uint8)
    Image.fromarray(cell).save(tmp_path / "in" / "cell.png")
    assert run("--model", model, "--image", tmp_path / "in", "--mode", "classify", "--output", tmp_path / "out") == 0
    (row,) = rows(tmp_path / "out" / "predictions.csv")
    detector, _ = load_detector(model)
    shown = resize(normalized(as_in_image(cell, 1.25), "density"), (32, 32))
    expected = detector.classifier(shown[None])[0]
    assert [float(v) for k, v in row.items() if k.startswith("p_")] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "nowhere"}, "nowhere: no such model; train.py writes models"),
        ({"--image": "nowhere.jpg"}, "nowhere.jpg: no such image or directory"),
        ({"--annotations": "nowhere.json"}, "nowhere.json: no such annotation file"),
        ({"--split": "nowhere.json"}, "--split nowhere.json: expected"),
    ],
)
def test_a_wrong_request_writes_nothing(untrained_model, sample, tmp_path, capsys, change, message):
    request = {"--model": untrained_model, "--image": sample / "images", "--output": tmp_path / "out"} | change
    assert run(*(part for pair in request.items() for part in pair)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_wrong_request_leaves_earlier_results_whole(finished, untrained_model, sample, tmp_path):
    output = shutil.copytree(finished, tmp_path / "results")
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    unknown = write_bbbc041(tmp_path / "other", {"images/a.png": [("Ringg", 5, 5, 30, 30)]})
    assert run("--model", untrained_model, "--image", tmp_path / "other", "--annotations", unknown, "--output", output) == 2
    assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before


def test_only_one_part_of_a_split(untrained_model, sample, tmp_path):
    names = sorted(p.name for p in (sample / "images").iterdir())
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": names[2:], "test": names[:2]}))
    assert run("--model", untrained_model, "--image", sample, "--split", split, "--output", tmp_path / "out") == 0
    assert {r["image"] for r in rows(tmp_path / "out" / "detections.csv")} == {f"images/{n}" for n in names[:2]}


def test_progress_in_a_pipe_is_plain_lines(untrained_model, sample, tmp_path, capsys):
    run("--model", untrained_model, "--image", sample / "images", "--output", tmp_path / "out")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("detecting")]
    assert lines
    assert "\r" not in "".join(lines)
    assert "12/12 images" in lines[-1]
    assert "images/s" in lines[-1]


@pytest.mark.slow
def test_interrupted_runs_keep_what_was_finished(repository, untrained_model, sample, tmp_path):
    (tmp_path / "in").mkdir()
    source = sorted((sample / "images").iterdir())[0]
    for i in range(400):
        shutil.copyfile(source, tmp_path / "in" / f"{i:03}.jpg")  # links to one image would count once
    command = [sys.executable, str(repository / "run.py"), "--model", str(untrained_model)]
    process = subprocess.Popen(
        [*command, "--image", str(tmp_path / "in"), "--output", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where the tests are a shell's background job, interrupts are ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out" / "annotated").glob("*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted: the tables hold the images that were finished" in output
    counted = rows(tmp_path / "out" / "counts.csv")
    assert 5 <= len(counted) - 1 < 400
    assert len(list((tmp_path / "out" / "annotated").glob("*.png"))) == len(counted) - 1
