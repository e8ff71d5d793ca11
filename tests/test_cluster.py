"""Detection on a Ray cluster of this machine: as a local run, row for row, whatever is killed meanwhile."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from malaria_cells.app.cli import main
from tests.tiny_exports import save_export

WHY = "is not installed: pip install 'malaria-cells[ray]'"
ray = pytest.importorskip("ray", reason=f"ray {WHY}")
pq = pytest.importorskip("pyarrow.parquet", reason=f"pyarrow {WHY}")

from malaria_cells.cluster.pipeline import TRIES  # noqa: E402

pytestmark = pytest.mark.slow
BUCKET = "smears"
STORE = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_export(folder, 6)
    return folder


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """24 small smears on three slides, and one broken file."""
    from malaria_cells.data.sample import write_sample

    folder = tmp_path_factory.mktemp("smears")
    write_sample(folder / "sample", training=5, test=1, seed=3, size_wh=(320, 240))
    rendered = sorted((folder / "sample" / "images").iterdir())
    for i in range(24):
        target = folder / "images" / f"slide {i // 8}" / f"field_{i:02d}{rendered[0].suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(rendered[i % len(rendered)], target)
    (folder / "images" / "slide 1" / "field_99.png").write_bytes(b"\x89PNG no image")
    return folder / "images"


@pytest.fixture(scope="module")
def at_home(model, smears, tmp_path_factory):
    """The same images without a cluster."""
    output = tmp_path_factory.mktemp("local") / "results"
    assert main(["run", "--model", str(model), "--image", str(smears), "--output", str(output)]) == 3
    return output


def run(model, images, output, *further):
    return main(["run", "--model", str(model), "--image", str(images), "--output", str(output), "--cluster", "local", *further])


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def as_written(row, names, shape):
    """Values of a row of Parquet as the table of a local run has them."""
    return {name: "" if row[name] is None else format(row[name], shape.get(name, "")) for name in names}


def check_equal(output, at_home, address=None):
    """Whether the rows of Parquet are those of a local run, in the same order, each of them once."""
    from malaria_cells.cluster.output import CELLS, COUNTS, FAILURES, from_bytes
    from malaria_cells.cluster.places import Place

    place = Place(str(output))
    detections, counts, failed = (rows(at_home / f"{name}.csv") for name in ("detections", "counts", "failed"))
    cells = [row for name in place.names(CELLS) for row in from_bytes(place.read(f"{CELLS}/{name}")).to_pylist()]
    shape = {"score": ".4f", "x_min": ".1f", "y_min": ".1f", "x_max": ".1f", "y_max": ".1f"}
    assert len(detections) > 1000
    assert [as_written(row, detections[0], shape) for row in cells] == detections
    fractions = dict.fromkeys(("parasitemia", "parasitemia_low", "parasitemia_high"), ".6f")
    images = from_bytes(place.read(COUNTS)).to_pylist()
    assert [as_written(row, counts[0], fractions) for row in images] == counts[:-1]  # the last one is the total
    assert [as_written(row, ("image", "reason"), {}) for row in from_bytes(place.read(FAILURES)).to_pylist()] == [
        row if address is None else row | {"reason": row["reason"].replace(*address)} for row in failed
    ]
    assert {row["slide"] for row in cells} == {"slide 0", "slide 1", "slide 2"}


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_object_store_gives_the_rows_and_the_report_of_a_local_run(ray_here, model, smears, at_home, tmp_path, capsys):
    import fsspec

    files = fsspec.filesystem("s3")
    files.mkdir(BUCKET)
    files.put(str(smears), f"{BUCKET}/archive", recursive=True)
    output = f"{STORE}/out/run 1"
    assert run(model, f"{STORE}/archive", output, "--part-images", "7") == 3
    said = capsys.readouterr()
    assert "24 images done: cells s3://smears/out/run 1/cells" in said.out
    assert "1 image failed" in said.out
    assert "detecting: 25/25 images" in said.err
    check_equal(output, at_home, (f"{smears}", f"{STORE}/archive"))
    before = files.modified(f"{BUCKET}/out/run 1/counts.parquet")
    assert run(model, f"{STORE}/archive", output, "--part-images", "7") == 3  # nothing is left to do
    assert files.modified(f"{BUCKET}/out/run 1/counts.parquet") == before
    results = tmp_path / "results"
    assert main(["report", output, "--output", str(results)]) == 3
    of_store, of_home = contents(results), contents(at_home)
    assert set(of_store) == set(of_home)
    for name in set(of_home) - {"report.html", "failed.csv", "detections.json"}:  # these name the images' folder
        assert of_store[name] == of_home[name], name
    assert of_store["report.html"].count(b"<h2") == of_home["report.html"].count(b"<h2")
    assert b"sheet of the most doubtful cells" in of_store["report.html"]


def kill_one_at_work(killed, tries=600):
    """Kill the process of a worker while it is at an image."""
    for _ in range(tries):
        try:
            at_work = ray.get(ray.get_actor(TRIES).at_work.remote())
        except ValueError:  # the run has not begun
            at_work = {}
        if at_work:
            process, key = next(iter(at_work.items()))
            os.kill(process, signal.SIGKILL)
            killed.append((process, key))
            return
        time.sleep(0.05)


def check_reports(output, at_home, folder):
    """Whether the report of all images is that of a local run, and that of some has only these."""
    assert main(["report", str(output), "--output", str(folder / "some"), "--select", "slide 2/*"]) == 0
    assert {row["image"].split("/")[0] for row in rows(folder / "some" / "detections.csv")} == {"slide 2"}
    assert len(rows(folder / "some" / "counts.csv")) == 8 + 1
    assert main(["report", str(output), "--output", str(folder / "all")]) == 3
    of_cluster, of_home = contents(folder / "all"), contents(at_home)
    assert set(of_cluster) == set(of_home)
    assert {name for name in of_home if of_cluster[name] != of_home[name]} == {"report.html"}  # its facts name the command


def test_a_killed_driver_goes_on_where_it_was_and_a_killed_worker_costs_a_retry(
    ray_here, repository, model, smears, at_home, tmp_path, capsys
):
    output = tmp_path / "out"
    arguments = ["--model", model, "--image", smears, "--output", output, "--cluster", "local", "--part-images", "1"]
    driver = subprocess.Popen(
        [sys.executable, "run.py", *map(str, arguments)], cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (written := sorted(output.glob("_parts/counts-*"))):
            assert driver.poll() is None
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    time.sleep(2)  # its workers notice, and end
    written = {p.name.removeprefix("counts-") for p in output.glob("_parts/counts-*")}
    assert 0 < len(written) < 25
    before = {name: (output / "cells" / name).stat().st_mtime_ns for name in written}
    capsys.readouterr()
    assert main(["report", str(output)]) == 2
    assert f"{25 - len(written)} images are not done yet; go on with: python run.py --cluster local" in capsys.readouterr().err
    killed = []
    killer = threading.Thread(target=kill_one_at_work, args=(killed,))
    killer.start()
    assert run(model, smears, output, "--part-images", "1", "--workers", "2") == 3
    killer.join()
    assert len(killed) == 1
    assert not Path(f"/proc/{killed[0][0]}").exists()
    assert f"{len(written)} of 25 images are written" in capsys.readouterr().err
    assert {name: (output / "cells" / name).stat().st_mtime_ns for name in written} == before
    check_equal(output, at_home)
    check_reports(output, at_home, tmp_path)
    assert main(["report", str(output), "--model", str(model.parent)]) == 2
    assert "is not the model of the run" in capsys.readouterr().err


def test_a_store_that_does_not_answer_ends_the_run_with_one_line(ray_here, model, tmp_path, capsys):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install aiohttp")
    (tmp_path / "list.txt").write_text("http://127.0.0.1:9/smear.png\n")  # nothing listens there
    assert run(model, tmp_path / "list.txt", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "error: http://127.0.0.1:9/smear.png: cannot be fetched (" in said
    assert f"what was finished is in {tmp_path / 'out'}: the same command goes on from there" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("cells/*"))
