"""A slice of `make torture`, and what it says of a reader that breaks its promise."""

import random
import sys
from pathlib import Path

import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations import load_annotations
from malaria_cells.data.annotations.readers import READERS
from tests.torture import child, kills, mutants
from tests.torture.annotations import WHOLE
from tests.torture.kinds import kinds
from tests.torture.mutate import mutated

QUICK = [kind for kind in kinds() if not kind.startswith("model: ") or kind in {"model: model.yaml", "model: onnx"}]


def test_every_registered_format_is_tortured():
    assert set(WHOLE) == set(READERS)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are POSIX's")
def test_mutants_are_read_or_refused_soon_and_in_little_memory(tmp_path):
    """The first forty of each kind; `make torture` reads ten thousand."""
    reports = mutants.run(QUICK, 0, 40, tmp_path)
    assert {kind: report.faults for kind, report in reports.items() if report.faults} == {}
    for kind, report in reports.items():
        assert sum(report.counts.values()) == 40
        assert min(report.counts["read"], report.counts["refused"]) > 1, kind


@pytest.mark.parametrize("name", WHOLE)
def test_whole_data_sets_are_read(name, tmp_path):
    """Otherwise a mutant is refused for what the whole has."""
    for i, write in enumerate(WHOLE[name]):
        (tmp_path / str(i)).mkdir()
        write(tmp_path / str(i))
        assert len(load_annotations(tmp_path / str(i), None, annotation_format=name)) > 0


def test_a_mutant_is_the_same_on_every_machine():
    content = b'{"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}'
    assert [mutated(content, ".json", random.Random(f"coco {i}")) for i in range(3)] == [
        mutated(content, ".json", random.Random(f"coco {i}")) for i in range(3)
    ]


@pytest.mark.parametrize(
    ("do", "outcome", "detail"),
    [
        (lambda: None, "read", ""),
        (lambda: (_ for _ in ()).throw(InputError("{folder}/a: wrong")), "refused", ""),
        (lambda: (_ for _ in ()).throw(InputError("wrong")), "fault", "names no file"),
        (lambda: (_ for _ in ()).throw(KeyError("a")), "fault", "KeyError"),
        (lambda: (_ for _ in ()).throw(SystemExit(3)), "fault", "SystemExit"),
        (lambda: (_ for _ in ()).throw(RecursionError), "fault", "RecursionError"),
    ],
)
def test_what_counts_as_a_fault(do, outcome, detail, tmp_path):
    class Kind:
        def try_one(self, folder, rng):
            try:
                do()
            except InputError as error:
                raise InputError(str(error).format(folder=folder)) from None

    found = child.outcome(Kind(), tmp_path, random.Random(0))
    assert found["outcome"] == outcome
    assert detail in found.get("detail", "")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are POSIX's")
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("sum(iter(int, 1))", "more than 1 seconds of processor time"),
        ("import os; os.kill(os.getpid(), 11)", "the process ended with -11"),
        ("a = b'x' * 1_500_000_000", "MB of memory"),
    ],
)
def test_what_hangs_crashes_or_grows_is_a_fault_and_the_next_mutant_is_read(code, why, tmp_path, monkeypatch):
    """Through the whole machinery, with a reader in place of ours."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'tests.torture.child' in sys.orig_argv:\n"
        "    from tests.torture import child, kinds\n"
        "    child.SECONDS = 1\n"
        "    def try_one(folder, rng, n=[0]):\n"
        "        n[0] += 1\n"
        f"        if n[0] == 5: {code}\n"
        "    kinds.kinds = lambda: {'x': kinds.Kind(lambda folder: None, try_one)}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    monkeypatch.setattr(mutants, "SECONDS", 1)
    report = mutants.run(["x"], 0, 3, tmp_path)["x"]
    assert report.counts["fault"] == 1
    assert sum(report.counts.values()) == 3
    assert why in report.faults[0][1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("work", ["patches", "download", "convert", "review"])
def test_killed_work_leaves_nothing_half_and_goes_on(work):
    """Twice each; `make torture` kills twenty times, and trainings too, which `test_kills.py` kills at each file operation."""
    assert kills.run(work, 2)[1] == []
