"""The benchmark's own arithmetic, table and files; nothing heavy is run."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import contender, detection, groups, memory, scoring, table, training
from benchmarks.bench.__main__ import main, parsed
from benchmarks.bench.contender import Contender, ContenderError
from benchmarks.bench.growth import tiled
from benchmarks.bench.page import PAGE, as_sections, write_page
from benchmarks.bench.rows import AT_LEAST, AT_MOST, Row, Target, alone, alternated, compared
from benchmarks.bench.settings import Settings, repeated
from malaria_cells.data.images import list_images

UPPER, LOWER = Target(AT_MOST, 0.5), Target(AT_LEAST, 5.0)


@pytest.fixture
def settings(tmp_path):
    return Settings(quick=True, cores=(0,), all_cores=(0,), cache=tmp_path, model=tmp_path)


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    """The second round was twice as slow for both, as if something else had run: no ratio of it is far off."""
    row = compared("a", "ms", [10, 20, 12], [20, 40, 30], "peer", UPPER)
    assert (row.value, row.peer, row.ratio) == (12, 30, 0.5)
    assert row.spread == (0.4, 0.5)
    assert row.met is True
    assert replace(row, target=Target(AT_MOST, 0.49)).met is False


def test_a_lower_target_is_about_times_as_fast():
    row = compared("a", "s", [1.0, 1.0], [4.0, 8.0], "peer", LOWER)
    assert (row.ratio, row.spread, row.met) == (6.0, (4.0, 8.0), True)
    assert compared("a", "s", [1.0], [4.0], "peer", LOWER).met is False
    assert compared("a", "s", [1.0], [4.0], "peer", None).ratio == 4.0


def test_rows_without_a_figure_or_a_target_meet_nothing():
    assert Row("a", target=UPPER, not_measured="no machine").met is None
    assert compared("a", "s", [1.0], [4.0], "peer", None).met is None
    by_value = alone("a", "s", [0.2, 0.4, 0.6], Target(AT_MOST, 0.5, of_value=True))
    assert (by_value.value, by_value.spread, by_value.met) == (0.4, (0.2, 0.6), True)


def test_contenders_take_turns_forwards_and_backwards():
    order = []
    contenders = {name: lambda name=name: order.append(name) or float(len(order)) for name in "abc"}
    assert alternated(contenders, 3) == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
    assert "".join(order) == "abccbaabc"


ROWS = [
    compared("detect", "ms", [40.0, 44.0], [50.0, 50.0], "Nano", Target(AT_MOST, 1.0), limit_name="matrix product", limit_share=0.253),
    alone("--help", "s", [0.61], Target(AT_MOST, 0.5, of_value=True), note="cold"),
    Row("16 cores", "ms", target=LOWER, not_measured="this machine has 2 cores"),
]


def test_the_table_of_the_terminal():
    lines = table.as_text(ROWS).splitlines()
    assert lines[0].split() == ["ours", "peer", "ratio", "target", "met", "of", "the", "limit"]
    assert [" ".join(line.split()) for line in lines[1:4]] == [
        "detect 42.0 ms 50.0 ms, Nano 0.840 (0.800 to 0.880) <= 1.00 yes 25 % of matrix product",
        "--help 0.610 s <= 0.500 s NO",
        "16 cores not measured >= 5.00",
    ]
    assert lines[5:] == ["--help: cold", "16 cores: not measured: this machine has 2 cores"]


def test_numbers_have_three_digits():
    assert [table.number(v) for v in (0, 0.0314159, 3.14159, 31.4159, 31415.9, 3.1e-6)] == [
        "0.000",
        "0.031",
        "3.14",
        "31.4",
        "31,416",
        "3.1e-06",
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_survive_json(row):
    content = json.loads(json.dumps(row.to_json()))
    assert content["met"] == row.met
    assert Row.from_json(content) == row


def about(rows, **more):
    machine = {"cpu": "A", "cores": 16, "cores_in_use": 2}
    return {"date": "2026-11-28T04:00:00+00:00", "machine": machine, "versions": {"numpy": "2.1"}, "commit": "abc", "quick": False} | {
        "rows": [row.to_json() for row in rows],
        **more,
    }


def test_a_partial_measurement_leaves_the_other_groups(tmp_path):
    path = tmp_path / "deep" / "results.json"
    table.write(path, {"start": about(ROWS), "memory": about([])})
    table.write(path, {"memory": about(ROWS[:1])})
    found = table.read(path)
    assert [len(found[name]["rows"]) for name in ("start", "memory")] == [3, 1]
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    assert table.read(tmp_path / "none.json") == {}


def test_the_page_holds_the_results_and_what_stood_around_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.START}\nformer figures\n{table.END}\nafter\n")
    write_page(page, {"start": about(ROWS)})
    once = page.read_text()
    assert once.startswith(f"before\n{table.START}")
    assert once.endswith(f"{table.END}\nafter\n")
    assert "former" not in once
    assert "2026-11-28, 2 cores of 16, A; commit abc; numpy 2.1." in once
    assert r"| detect | 42.0 ms | 50.0 ms, Nano | 0.840 (0.800 to 0.880) | \<= 1.00 | yes | 25 % of matrix product |" in once
    assert once.count(table.NOT_YET) == len(groups.TITLES) - 1
    write_page(page, {"start": about(ROWS)})
    assert page.read_text() == once
    with pytest.raises(ValueError, match="between which the results stand"):
        table.with_results("no comments", "x")


def test_small_numbers_are_no_result_on_the_page():
    assert "no result" in as_sections({"start": about(ROWS, quick=True)})
    assert "no result" not in as_sections({"start": about(ROWS)})


def test_the_shipped_page_has_a_place_for_results():
    table.with_results(PAGE.read_text(encoding="utf-8"), "x")


def test_a_group_that_fails_keeps_its_rows_and_says_why(settings, monkeypatch):
    def failing(_):
        yield ROWS[0]
        raise RuntimeError("no such thing\nand more")

    monkeypatch.setattr(memory, "memory", failing)
    first, second = groups.measured("memory", settings)
    assert first == ROWS[0]
    assert second.not_measured == "RuntimeError: no such thing"


def test_quick_figures_do_not_replace_results(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.bench.__main__.CACHE", tmp_path)
    monkeypatch.setattr("benchmarks.bench.__main__.in_a_process", lambda name, settings: [ROWS[0]])
    monkeypatch.setattr("benchmarks.bench.__main__.limited_to", lambda n: ((0, 1), (0, 1, 2)))
    assert main(["--quick", "--only", "start", "scoring"]) == 0
    written = json.loads((tmp_path / "quick.json").read_text())["groups"]
    assert list(written) == ["start", "scoring"]
    assert written["start"]["machine"]["cores_in_use"] == 2
    assert written["start"]["machine"]["cores"] == 3
    assert written["start"]["quick"] is True
    assert written["start"]["rows"][0]["ratio"] == ROWS[0].ratio


def test_growth_is_asked_for():
    assert "growth" not in parsed([]).only
    assert parsed(["--only", "growth"]).only == ["growth"]
    with pytest.raises(SystemExit):
        parsed(["--only", "speed"])


WORKER = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
print("a warning " * 20000, file=sys.stderr)
for line in sys.stdin:
    items = json.loads(line)["items"]
    if items == ["bad"]:
        sys.exit("memory is full")
    answer = {"error": "no such file"} if items == ["none"] else {"seconds": 0.5, "cpu": 1.0, "result": len(items), "peak_mib": 7}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    monkeypatch.setattr(contender, "WORKER", path)
    with Contender("ours", package=tmp_path) as started:
        yield started


def test_a_contender_answers_for_each_item(worker):
    turn = worker.turn(["a", "b"])
    assert (turn.ms, turn.cpu_ms, turn.result, turn.peak_mib) == (250, 500, 2, 7)


@pytest.mark.parametrize(("items", "message"), [(["none"], "no such file"), (["bad"], "the process ended: memory is full")])
def test_a_contender_that_fails_says_why(worker, items, message):
    with pytest.raises(ContenderError, match=message):
        worker.turn(items)
    worker.close()
    assert worker.process.poll() is not None


def test_the_faster_way_of_a_peer_counts_and_a_missing_one_says_why():
    figures = {"ours": [50.0], "Nano, in turn": [60.0], "Nano, at once": [40.0]}
    field = detection.Field({}, {"Old": "no such commit"}, figures)
    limit = detection.Limit(operations=1e9, rate=1e11)
    row = detection._row("ours", "Nano", field, Target(AT_MOST, 1.0), limit, "")
    assert (row.peer_name, row.ratio, row.met) == ("Nano, at once", 1.25, False)
    assert row.limit_share == pytest.approx(0.2)  # 1 GFLOP in 50 ms are 20 GFLOP/s, of 100
    assert detection._row("ours", "Old", field, UPPER, limit, "").not_measured == "no such commit"


def test_training_time_is_read_where_it_is_recorded(settings):
    assert [row.not_measured != "" for row in training.training(settings)] == [True, True]
    recorded = {"training_time": {"seconds": 1800, "cores_busy": 0.85}}
    (settings.model / "metrics.json").write_text(json.dumps(recorded))
    minutes, busy = training.training(settings)
    assert (minutes.value, minutes.met) == (30, True)
    assert (busy.value, busy.met) == (85, False)


def test_boxes_are_as_many_as_said():
    images, detected = scoring.random_boxes(20, 900)
    assert sum(len(p.boxes_xyxy) for p in images) == 900
    assert 850 < sum(map(len, detected)) < 1000


def test_both_score_the_same_boxes_alike():
    figures = {}
    images, detected = scoring.random_boxes(20, 900)
    assert min(scoring._ours(images, detected, figures), scoring._pycocotools(images, detected, figures)) > 0
    assert figures["ours"] == pytest.approx(figures["peer"], abs=scoring.TOLERANCE)


def test_images_are_tiled_without_seams():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)
    large = tiled(image, (8, 5))
    assert large.shape == (5, 8, 3)
    assert large[0, :, 0].tolist() == [0, 1, 2, 2, 1, 0, 0, 1]
    assert large[:, 0, 0].tolist() == [0, 3, 3, 0, 0]


def test_links_stand_for_many_photographs(tmp_path):
    sources = [tmp_path / f"{name}.JPG" for name in "ab"]
    for source in sources:
        source.write_bytes(source.name.encode())
    made = sorted(memory.linked(sources, tmp_path / "many", 5).iterdir())
    assert [p.name for p in made] == [f"0000{i}.jpg" for i in range(5)]
    assert [p.read_bytes() for p in made] == [b"a.JPG", b"b.JPG", b"a.JPG", b"b.JPG", b"a.JPG"]
    assert list_images(tmp_path / "many")[1] == [p.name for p in made]  # links to an image that is listed already would be left out
    assert repeated([Path("a"), Path("b")], 3) == [Path("a"), Path("b"), Path("a")]


def test_a_failing_run_is_an_error_with_its_last_line(tmp_path, monkeypatch):
    (tmp_path / "run.py").write_text("import sys; print('first', file=sys.stderr); sys.exit('no images')")
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="no images"):
        memory.run(tmp_path, "onnx", tmp_path, tmp_path / "out")


def test_the_peak_is_that_of_the_run(tmp_path, repository):
    """In a process of its own, as the benchmark measures: a process that is started is as large as what starts it, for a moment."""
    (tmp_path / "run.py").write_text("kept = bytearray(200 * 2**20)")
    program = """
import sys
from pathlib import Path
from benchmarks.bench import memory
memory.ROOT = folder = Path(sys.argv[1])
print(memory.run(folder, "onnx", folder, folder / "out").peak_mib)
"""
    said = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True, cwd=repository)
    assert 200 < float(said.stdout) < 400


def test_the_worker_imports_nothing_of_the_benchmark():
    """It runs inside older versions, in which there is no such package."""
    text = contender.WORKER.read_text(encoding="utf-8")
    assert "import benchmarks" not in text
    assert "from benchmarks" not in text
