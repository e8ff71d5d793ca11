"""Parts, rows and places of a run on a cluster, without a cluster."""

import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'malaria-cells[ray]'")
pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'malaria-cells[ray]'")

from malaria_cells.app.cli import main  # noqa: E402
from malaria_cells.app.commands.run_model import load  # noqa: E402
from malaria_cells.app.commands.run_request import RunRequest  # noqa: E402
from malaria_cells.base.errors import InputError  # noqa: E402
from malaria_cells.cluster import images, worker  # noqa: E402
from malaria_cells.cluster.images import Images, UnreachableError, find_images  # noqa: E402
from malaria_cells.cluster.output import ClusterOutput, RunPlan, from_bytes, write_part  # noqa: E402
from malaria_cells.cluster.places import Place  # noqa: E402
from malaria_cells.cluster.rows import ImageResult, PartRows, cell_table, count_schema, count_table, read_results  # noqa: E402
from malaria_cells.cluster.tries import MAX_TRIES, Tries  # noqa: E402
from malaria_cells.cluster.worker import Job, PartDetector, packed  # noqa: E402
from malaria_cells.data.detections import Detections  # noqa: E402
from malaria_cells.data.labels import LabelSet  # noqa: E402
from malaria_cells.inference.familiarity import Familiarity  # noqa: E402
from tests.tiny_exports import save_export  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_export(folder, 6)
    return folder


def open_model(folder):
    return load(RunRequest("", folder, folder, engine="onnx"), folder).detector


class ToldOf:
    """Takes what a worker tells in the process that keeps the record."""

    def __init__(self, process=1):
        self.tries, self.process = Tries(), process

    def begin(self, key):
        return self.tries.begin(key, self.process)

    def end(self, key):
        self.tries.end(key)


def part_detector(model, root, output="", told=None):
    return PartDetector(Job(str(root), model.name, packed(model), open_model, False, str(output)), told or ToldOf())


def detections(n, labels, seed, n_classes):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 500, (n, 2))
    return Detections(
        xyxy=np.concatenate([corner, corner + rng.uniform(1, 90, (n, 2))], axis=1).astype(np.float32),
        confidence=rng.choice([0.25, 0.5, rng.random()], n).astype(np.float32),  # some are equal
        class_id=rng.integers(0, len(labels), n),
        counted_as=rng.integers(-1, len(labels), n),
        objectness=rng.random(n).astype(np.float32),
        probabilities=rng.random((n, n_classes)).astype(np.float32),
        label_scores=rng.random((n, len(labels) if n_classes > len(labels) else 0)).astype(np.float32),
        index=np.arange(n),
        names=labels.names,
    )


@pytest.mark.parametrize("has_background", [True, False])
def test_rows_hold_every_number(model, has_background):
    detector = open_model(model)
    labels = detector.labels
    verdicts = [None, Familiarity("unusual", 1.5, "darker", "lab", False), Familiarity("familiar", 0.1)]
    results = [
        ImageResult(key, detections(n, labels, n, len(labels) + has_background), verdict, (640, 480), 0.5)
        for key, n, verdict in zip(("b/2.png", "a/1.png", "TOTAL"), (7, 0, 40), verdicts, strict=True)
    ]
    part = PartRows(results)
    back = {r.key: r for r in read_results(cell_table(part, labels), count_table(part, detector, False), labels)}
    assert list(back) == ["TOTAL", "a/1.png", "b/2.png"]
    for result in results:
        found = back[result.key]
        assert (found.familiarity, found.size_wh, found.seconds) == (result.familiarity, result.size_wh, result.seconds)
        for name in ("xyxy", "confidence", "class_id", "counted_as", "objectness", "index"):
            got, expected = getattr(found.detections, name), getattr(result.detections, name)
            assert got.dtype == expected.dtype, name
            np.testing.assert_array_equal(got, expected, err_msg=name)
        if len(result.detections):
            np.testing.assert_array_equal(found.detections.probabilities, result.detections.probabilities)
            np.testing.assert_array_equal(found.detections.label_scores, result.detections.label_scores)
    cells = cell_table(part, labels).to_pylist()
    assert [(r["image"], -r["score"]) for r in cells] == sorted((r["image"], -r["score"]) for r in cells)
    assert {r["slide"] for r in cells} == {"", "b"}


def test_a_label_with_the_name_of_a_column_is_refused():
    with pytest.raises(InputError, match="'width' is a label or a plugin's column, and another column"):
        count_schema(LabelSet(("ring", "width")))


def test_images_that_fail_are_rows(model, sample, tmp_path):
    for path in sorted((sample / "images").iterdir())[:2]:
        shutil.copy(path, tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no image")
    keys = sorted(p.name for p in tmp_path.iterdir())
    part = part_detector(model, tmp_path).rows([*keys, "gone.png"])
    assert [r.key for r in part.results] == [key for key in keys if key != "broken.png"]
    assert set(part.failed) == {"broken.png", "gone.png"}
    assert part.failed["gone.png"] == f"{tmp_path}/gone.png: no such image"
    assert all(len(r.detections) and r.seconds > 0 for r in part.results)


def test_an_image_at_which_processes_die_is_given_up(model, sample):
    keys = sorted(p.name for p in (sample / "images").iterdir())[:2]
    told = ToldOf()
    for process in range(MAX_TRIES):
        assert told.tries.begin(keys[0], process)  # each of these processes died before it could say that it ended
    assert set(told.tries.at_work().values()) == {keys[0]}
    part = part_detector(model, sample / "images", told=told).rows(keys)
    assert [r.key for r in part.results] == keys[1:]
    assert "3 processes ended while they were at this image" in part.failed[keys[0]]


def test_a_store_that_is_away_ends_the_run_and_not_the_images(model, sample, monkeypatch):
    monkeypatch.setattr(worker, "SECONDS_BETWEEN", 0.0)
    read, keys, asked = images.read, sorted(p.name for p in (sample / "images").iterdir())[:3], []

    def away(root, key):
        asked.append(key)
        raise UnreachableError(f"{key}: cannot be fetched (no route)")

    detector = part_detector(model, sample / "images")
    monkeypatch.setattr(images, "read", away)
    with pytest.raises(UnreachableError, match="no route"):
        detector.rows(keys)
    assert len(asked) == worker.FETCHES * len(keys)
    monkeypatch.setattr(images, "read", lambda root, key: away(root, key) if key == keys[1] else read(root, key))
    part = detector.rows(keys)
    assert part.failed == {keys[1]: f"{keys[1]}: cannot be fetched (no route)"}
    asked.clear()
    monkeypatch.setattr(images, "read", lambda root, key: away(root, key) if len(asked) < 2 else read(root, key))
    assert len(detector.rows(keys).results) == 3


def plan(n=5, **changes):
    values = {"root": "/images", "part_images": 2, "model": "m", "fingerprint": "f", "engine": "onnx", "options": {}, "command": "c"}
    return RunPlan(n_images=n, **values | changes)


KEYS = ("a", "b", "c", "d", "e")


def table(*keys):
    from malaria_cells.cluster.output import to_bytes

    return to_bytes(pa.table({"image": pa.array(keys, pa.string()), "reason": pa.array(["why"] * len(keys), pa.string())}))


@pytest.mark.parametrize("where", ["path", "memory"])
def test_parts_are_written_once_and_joined(tmp_path, where):
    place = Place(str(tmp_path / "out") if where == "path" else f"memory://bucket/{tmp_path.name}/out")
    output = ClusterOutput.begin(place, plan(), Images("/images", KEYS))
    assert output.unfinished_parts() == [0, 1, 2]
    write_part(place, 1, table("c"), table("d"), table("c"))
    place.write("cells/part-000000.parquet", table("a"))  # what a process wrote that was killed then
    place.write("_parts/failed-part-000000.parquet", table("a"))
    again = ClusterOutput.begin(place, plan(command="other words"), Images("/images", KEYS))
    assert again.unfinished_parts() == [0, 2]
    assert again.keys_of(2) == ("e",)
    write_part(place, 0, table("a", "b"), table(), table("a", "b"))
    write_part(place, 2, table("e"), table(), table("e"))
    again.complete()
    assert place.names() == ["cells", "counts.parquet", "failed.parquet", "images.parquet", "run.json"]
    assert from_bytes(place.read("counts.parquet")).column("image").to_pylist() == ["a", "b", "c", "e"]
    assert again.failed() == {"d": "why"}
    finished = ClusterOutput.begin(place, plan(), Images("/images", KEYS))
    assert (finished.is_complete, finished.unfinished_parts()) == (True, [])
    finished.complete()  # nothing is left to do


def test_rows_that_are_missing_or_double_are_noticed(tmp_path):
    place = Place(str(tmp_path / "out"))
    output = ClusterOutput.begin(place, plan(2), Images("/images", ("a", "b")))
    write_part(place, 0, table("a"), table("a"), table("a", "b"))
    with pytest.raises(InputError, match="3 rows for 2 images, first: a; its files were changed"):
        output.complete()
    assert not output.is_complete


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({"fingerprint": "g"}, KEYS, "holds another run .model: 'f' there, 'g' now."),
        ({"options": {"tta": 4}}, KEYS, "options: {} there, {'tta': 4} now"),
        ({"part_images": 3}, KEYS, "--part-images: 2 there, 3 now"),
        ({}, ("a", "b", "c", "d", "f"), "a run over other images of /images; first difference: e"),
    ],
)
def test_a_run_goes_on_only_as_it_was(tmp_path, changes, keys, message):
    place = Place(str(tmp_path / "out"))
    ClusterOutput.begin(place, plan(), Images("/images", KEYS))
    with pytest.raises(InputError, match=message):
        ClusterOutput.begin(place, plan(**changes), Images("/images", keys))


def test_other_files_in_the_output_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run on a cluster; choose another --output"):
        ClusterOutput.begin(Place(str(tmp_path)), plan(), Images("/images", KEYS))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match=r"holds no run on a cluster, run.json or images.parquet is missing"):
        ClusterOutput.open(Place(str(tmp_path)))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run.json or images.parquet is damaged"):
        ClusterOutput.open(Place(str(tmp_path)))


def test_images_of_folders_lists_and_stores(tmp_path, monkeypatch):
    import fsspec

    for name in ("slide 1/a.png", "slide 2/b.png", ".hidden/c.png", "notes.txt.bak"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="PNG")
        with fsspec.open(f"memory://bucket/{tmp_path.name}/{name}", "wb") as file:
            file.write((tmp_path / name).read_bytes())
    store = f"memory://bucket/{tmp_path.name}"
    monkeypatch.chdir(tmp_path)
    both = ("slide 1/a.png", "slide 2/b.png")
    assert find_images(".") == find_images(f"file://{tmp_path}") == Images(str(tmp_path), both)
    assert find_images(store).keys == find_images(store + "/").keys == both
    assert find_images(f"{store}/slide 2/*.png").keys == ("b.png",)
    assert find_images(f"{store}/slide 1/a.png").keys == ("a.png",)
    assert find_images(f"{store}/*/*.png").keys == both
    (tmp_path / "list.txt").write_text(f"# two\n{store}/slide 2/b.png\n\nslide 1/a.png\n")
    listed = find_images("list.txt")
    assert listed == Images(str(tmp_path), (f"{store}/slide 2/b.png", "slide 1/a.png"))
    for place in (find_images(store), listed):
        assert [images.read(place.root, key).shape for key in place.keys] == [(8, 8, 3)] * 2
    with pytest.raises(InputError, match=r"^memory://bucket/.*/gone.png: no such image$"):
        images.read(store, "gone.png")
    (tmp_path / "list.txt").write_text("a.png\na.png\n")
    for where, message in (
        ("list.txt", "names 'a.png' twice"),
        (f"{store}/nothing", "found no image"),
        ("nonsense://bucket", "cannot be opened"),
    ):
        with pytest.raises(InputError, match=message):
            find_images(where)


def test_a_message_of_a_stores_image_names_its_address(tmp_path):
    import fsspec

    with fsspec.open(f"memory://bucket/{tmp_path.name}/broken.png", "wb") as file:
        file.write(b"nothing")
    with pytest.raises(InputError, match=rf"^memory://bucket/{tmp_path.name}/broken.png: ") as caught:
        images.read(f"memory://bucket/{tmp_path.name}", "broken.png")
    assert os.sep + "tmp" not in str(caught.value)


def test_requests_that_cannot_be_carried_out(model, sample, tmp_path, capsys, monkeypatch):
    def refusal(*arguments):
        assert main(["run", "--model", str(model), *map(str, arguments)]) == 2
        return capsys.readouterr().err

    folder, output = sample / "images", tmp_path / "out"
    assert "--image s3://bucket: is an address, expected a path; add --cluster local" in refusal("--image", "s3://bucket")
    assert "--output s3://bucket: is an address" in refusal("--image", folder, "--output", "s3://bucket")
    for option in ("--part-images", "--workers"):
        assert f"{option}: applies to a run with --cluster; leave it out" in refusal("--image", folder, "--output", output, option, "5")
    cluster = ("--cluster", "local", "--image", folder, "--output", output)
    assert "--compare: applies to a run without --cluster" in refusal(*cluster, "--compare")
    assert "--mode classify: --cluster detects cells only" in refusal(*cluster, "--mode", "classify")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    assert "pip install 'malaria-cells[ray]'" in refusal(*cluster)
    assert not output.exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["report", str(tmp_path)]) == 2
    assert "report: needs pyarrow" in capsys.readouterr().err
